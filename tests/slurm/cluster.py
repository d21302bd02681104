"""A real SLURM on this machine, for tests: a controller and virtual nodes on loopback, each with a fake GPU. Needs root.

    python -m tests.slurm.cluster install      Debian's packages, if they are missing
    python -m tests.slurm.cluster up           start it and leave it running; `down` stops it

No authentication: whoever has an account here may run jobs as anybody. For machines made for tests only.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from formats.cli import is_one_word

BASE = Path("/tmp/hcma-slurm")
ETC = Path("/etc/slurm")  # where jobs look: the plugin's job step drops SLURM_CONF
PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
ACCOUNTING = {"slurmdbd": "slurmdbd slurm-wlm-mysql-plugin", "mariadbd": "mariadb-server"}
SOCKET = "/run/mysqld/mysqld.sock"  # compiled into slurmdbd's client library

CONTROLLER = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17801
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
# Memory limits without cgroups; a lost node is noticed within seconds; finished jobs stay known.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=10
KillWait=2
MinJobAge=3600
ReturnToService=2
PartitionName=main Nodes=ALL Default=YES State=UP
"""
WITHOUT_ACCOUNTS = "AccountingStorageType=accounting_storage/none\n"
WITH_ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=17803
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
"""
DATABASE = """\
AuthType=auth/none
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort=17803
SlurmUser=root
LogFile={base}/log/slurmdbd.log
PidFile={base}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=tests
StorageLoc=slurm_acct_db
"""


def why_not(accounting: bool = False) -> str | None:
    """Why this SLURM cannot be started here, in one line; None if it can."""
    if os.getuid() != 0:
        return "SLURM's daemons and /etc/slurm need root"
    config = ETC / "slurm.conf"
    if config.exists() and not _ours(config):
        return f"{config}: this machine belongs to a SLURM already"
    if _alive("slurmctld"):
        return "a SLURM of these tests is running already; `python -m tests.slurm.cluster down` ends it"
    if not is_one_word(sys.executable):
        return f"{sys.executable}: Snakemake does not quote this path for a cluster's jobs"
    wanted = PROGRAMS | (ACCOUNTING if accounting else {})
    if missing := [package for program, package in wanted.items() if not shutil.which(program)]:
        return (
            f"not installed: {' '.join(missing)}; `make test-slurm` installs SLURM where it can, --accounting the rest"
        )
    return None


def _ours(path: Path) -> bool:
    return path.is_symlink() and Path(os.readlink(path)).is_relative_to(BASE)


def install(accounting: bool = False) -> None:
    """Install Debian's packages that are missing, as root; what cannot be had, the tests name when they are skipped."""
    wanted = PROGRAMS | (ACCOUNTING if accounting else {})
    packages = [package for program, package in wanted.items() if not shutil.which(program)]
    if not packages or os.getuid() != 0 or not shutil.which("apt-get"):
        return
    print("apt-get install", *packages)
    options = ["-qq", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20"]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *" ".join(packages).split()]):
        subprocess.run(["apt-get", *options, *command], env=quiet, check=False, stdout=subprocess.DEVNULL)


class Cluster:
    """Controller and nodes below BASE; only processes that it started are ever ended."""

    def __init__(self, nodes: int = 2, accounting: bool = False) -> None:
        self.nodes, self.accounting = [f"n{i}" for i in range(nodes)], accounting

    def start(self) -> None:
        """Write the configuration, start the daemons, and wait until the nodes are idle."""
        shutil.rmtree(BASE, ignore_errors=True)
        for folder in ("etc", "state", "log", "spool", "pid"):
            (BASE / folder).mkdir(parents=True)
        self._write()
        ETC.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(BASE / "etc" / name)
        if self.accounting:
            self._start_accounts()
        _spawn("slurmctld", "slurmctld", "-D", "-c")
        for node in self.nodes:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node's daemon and wait until it is idle."""
        _spawn(f"slurmd-{node}", "slurmd", "-D", "-c", "-N", node)
        # Not sinfo, which may go on calling a node that came back "mix".
        _wait(lambda: "State=IDLE " in ask("scontrol", "show", "node", node), f"node {node} to be idle")

    def lose_node(self, node: str) -> None:
        """End what SLURM runs on a node as a power cut of its network would: the jobs' own processes live on."""
        jobs = ask("squeue", "-h", "-w", node, "-o", "%A").split()
        _kill(f"slurmd-{node}", signal.SIGKILL)
        for pid, command in _processes():
            if (match := re.match(r"slurmstepd: \[(\d+)\.", command)) and match[1] in jobs:
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Cancel the jobs, end the daemons and take the links out of /etc/slurm again."""
        if _ours(ETC / "slurm.conf"):
            ask("scancel", "--user=root")
        for node in self.nodes:
            _kill(f"slurmd-{node}", signal.SIGTERM)
        for daemon in ("slurmctld", "slurmdbd", "mariadbd"):
            _kill(daemon, signal.SIGTERM)
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            if _ours(ETC / name):
                (ETC / name).unlink()

    def _write(self) -> None:
        host = socket.gethostname().split(".")[0]
        text = CONTROLLER.format(host=host, base=BASE) + (WITH_ACCOUNTS if self.accounting else WITHOUT_ACCOUNTS)
        gpus = ""
        for number, node in enumerate(self.nodes):
            address = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={17810 + number}"
            text += f"NodeName={node} {address} CPUs=2 RealMemory=32000 Gres=gpu:1 State=UNKNOWN\n"
            # SLURM counts device files: a second /dev/null does for a GPU.
            gpu = BASE / f"spool/gpu-{node}"
            os.mknod(gpu, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            gpus += f"NodeName={node} Name=gpu File={gpu}\n"
        (BASE / "etc/slurm.conf").write_text(text)
        (BASE / "etc/gres.conf").write_text(gpus)

    def _start_accounts(self) -> None:
        data = BASE / "database"
        for folder in (data, Path(SOCKET).parent):
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, "mysql")
        made = [f"--datadir={data}", "--user=mysql"]
        ask("mariadb-install-db", *made, "--auth-root-authentication-method=socket", "--skip-test-db")
        _spawn("mariadbd", "mariadbd", *made, f"--socket={SOCKET}", "--skip-networking")
        _wait(lambda: "alive" in ask("mariadb-admin", f"--socket={SOCKET}", "ping"), "the database")
        for statement in (
            "create database slurm_acct_db",
            "create user slurm@localhost identified by 'tests'",
            "grant all on slurm_acct_db.* to slurm@localhost",
        ):
            ask("mariadb", f"--socket={SOCKET}", "-e", statement)
        config = BASE / "etc/slurmdbd.conf"
        config.write_text(DATABASE.format(host=socket.gethostname().split(".")[0], base=BASE))
        config.chmod(0o600)
        (ETC / config.name).unlink(missing_ok=True)
        (ETC / config.name).symlink_to(config)
        _spawn("slurmdbd", "slurmdbd", "-D")
        _wait(lambda: "Cluster" in ask("sacctmgr", "-P", "list", "cluster"), "the accounts")
        for entry in (["cluster", "tests"], ["account", "tests"], ["user", "root", "account=tests"]):
            ask("sacctmgr", "-i", "-Q", "add", *entry)


def jobs() -> list[dict[str, str]]:
    """Every job that the controller knows, finished ones too: its fields as scontrol names them, in order of their ids."""
    lines = ask("scontrol", "-o", "show", "jobs").splitlines()
    fields = [re.findall(r"(\S+?)=(.*?)(?= \S+?=|$)", line) for line in lines if line.startswith("JobId=")]
    found = [{name: value.strip() for name, value in job} for job in fields]
    return sorted(found, key=lambda job: int(job["JobId"]))


def ask(*command: str) -> str:
    """What a command prints; its errors are the caller's to notice."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _spawn(name: str, *command: str) -> None:
    log = (BASE / "log" / f"{name}.out").open("a")
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    (BASE / "pid" / name).write_text(f"{process.pid} {command[0]}")


def _kill(name: str, number: signal.Signals) -> None:
    """Signal a daemon that `_spawn` started, and wait for its end."""
    if pid := _alive(name):
        os.kill(pid, number)
        _wait(lambda: not _alive(name), f"the end of {name}")


def _alive(name: str) -> int | None:
    """Process id of a daemon that `_spawn` started; one that ended and that nobody waits for has no command line."""
    if not (file := BASE / "pid" / name).exists():
        return None
    pid, program = file.read_text().split()
    return next((found for found, command in _processes() if found == int(pid) and program in command), None)


def _processes() -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            found.append((int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        except (ValueError, OSError):
            continue
    return found


def _wait(happened: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{path}:\n{path.read_text()[-1000:]}" for path in (BASE / "log").iterdir())
            raise TimeoutError(f"waited {seconds:.0f} s for {what}\n{logs}")
        time.sleep(0.1)


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(prog="tests.slurm.cluster", description=__doc__)
    parser.add_argument("action", choices=["install", "up", "down"])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB, so that sacct answers")
    args = parser.parse_args()
    cluster = Cluster(args.nodes, args.accounting)
    if args.action == "install":
        install(args.accounting)
    elif args.action == "down":
        cluster.stop()
    elif reason := why_not(args.accounting):
        sys.exit(f"error: {reason}")
    else:
        cluster.start()
        print(ask("sinfo", "-N", "-l"))


if __name__ == "__main__":
    main()
