"""The DAG on a real SLURM: the tables of a local run, whatever happens to its jobs. `make test-slurm`; needs root."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import pytest

from formats.images import read_meta
from tests.dag import ROOT, checkout, command, environment, link_checkout
from tests.scale import PAPER
from tests.slurm.cluster import Cluster, ask, jobs, why_not

CONFIG = ["--configfile", "tests/config/small.yaml", "tests/slurm/config.yaml"]
TABLES = ("table1", "table2", "distances", "adherence", "significance")
# The profile's own polling suits jobs of hours.
SLURM = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"]
SLURM += ["--seconds-between-status-checks", "1", "--latency-wait", "10"]
GENERIC = ["--profile", "profiles/cluster-generic", "--seconds-between-status-checks", "1", "--latency-wait", "10"]
IMAGES = 16  # a shard

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    cluster = Cluster()
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Iterator[Callable[[], dict[str, bytes]]]:
    """The same configuration without a cluster, on its way to its tables while the cluster's queue leaves cores idle."""
    run, folder = f"test-slurm-local-{os.getpid()}", tmp_path_factory.mktemp("local")
    # A folder of its own, since Snakemake's runs in one folder share its lock files.
    link_checkout(folder)
    wanted = [f"results/{run}/tables/{name}.csv" for name in TABLES]
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            command(*wanted, *CONFIG, "--config", f"run={run}"), cwd=folder, env=environment(), stdout=log, stderr=log
        )

    def ended() -> dict[str, bytes]:
        assert process.wait() == 0, (folder / "snakemake.log").read_text()[-3000:]
        return tables(ROOT / "results" / run)

    try:
        yield ended
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(ROOT / "results" / run, ignore_errors=True)


@pytest.fixture(scope="module")
def local(begun) -> dict[str, bytes]:
    """The tables of the same configuration without a cluster."""
    return begun()


class Run:
    """One run of the DAG on the cluster; `slow` makes one of its shards anew while something happens to it."""

    def __init__(self, folder: Path) -> None:
        self.name, self.folder = f"test-slurm-{os.getpid()}", folder
        self.results = ROOT / "results" / self.name
        self.trace = folder / "trace"
        self.env = environment() | {"SLOW_TRACE": str(self.trace)}

    def command(self, *arguments: str, configs: Sequence[str] = ()) -> list[str]:
        named = [*CONFIG, *configs, "--config", f"run={self.name}"]
        return [sys.executable, "-m", "snakemake", *arguments, *named]

    @contextmanager
    def slow(self, *arguments: str, configs: Sequence[str] = (), **env: object) -> Iterator[subprocess.Popen]:
        """Snakemake, on its way to make a shard of the slow row and what follows from it, at work at its second batch."""
        for path in ("tables", "metrics/slow", "scores/slow", "work/samples"):
            shutil.rmtree(self.results / path, ignore_errors=True)
        for path in ("summaries/slow/test.npz", "samples/slow/test/0000.zip"):
            (self.results / path).unlink(missing_ok=True)
        self.trace.unlink(missing_ok=True)
        log = (self.folder / "snakemake.log").open("w")
        process = subprocess.Popen(
            self.command(*arguments, configs=configs),
            cwd=checkout(),
            env=self.env | {name: str(value) for name, value in env.items()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait(lambda: process.poll() is not None or len(self.sampled()) > 4, "the second batch")
            assert process.poll() is None, (self.folder / "snakemake.log").read_text()[-3000:]
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self, process: subprocess.Popen) -> None:
        """Wait until Snakemake has ended well."""
        wait(lambda: process.poll() is not None, "the end of Snakemake", 600)
        assert process.returncode == 0, (self.folder / "snakemake.log").read_text()[-3000:]

    def sampled(self) -> list[tuple[int, int]]:
        """(process, layout) of every image that was begun, in order."""
        if not self.trace.exists():
            return []
        return [tuple(map(int, line.split())) for line in self.trace.read_text().splitlines()]  # type: ignore[misc]


def tables(results: Path) -> dict[str, bytes]:
    return {name: (results / f"tables/{name}.csv").read_bytes() for name in TABLES}


def wait(happened: Callable[[], object], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def slow_jobs(after: int) -> list[dict[str, str]]:
    """Jobs of the slow row's shard that came after another: the one profile says so in the comment, the other in the name."""
    asked = [job for job in jobs() if int(job["JobId"]) > after]
    return [job for job in asked if "sample_wildcards_slow" in job.get("Comment", "") or job["JobName"] == "sample"]


def last_job() -> int:
    return max((int(job["JobId"]) for job in jobs()), default=0)


@pytest.fixture(scope="module")
def finished(cluster, begun, tmp_path_factory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("slurm"))
    done = subprocess.run(
        run.command(*SLURM, "--set-resources", "sample:gpu=1"),
        cwd=checkout(),
        env=run.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield run
    shutil.rmtree(run.results)


def test_the_whole_dag_gives_the_tables_of_a_local_run(finished, local) -> None:
    assert tables(finished.results) == local


def test_jobs_say_method_and_shard_and_ask_for_what_their_rule_needs(finished) -> None:
    by_comment = {job["Comment"]: job for job in jobs() if job.get("Comment", "").startswith("rule_")}
    sample = by_comment["rule_sample_wildcards_hcma_test_0001"]
    assert sample["TresPerJob"] == "gres:gpu:1"
    assert (sample["MinMemoryNode"], sample["TimeLimit"], sample["Requeue"]) == ("2000M", "00:10:00", "0")
    measure = by_comment["rule_measure_wildcards_hcma_test"]
    assert "TresPerJob" not in measure
    assert not [comment for comment in by_comment if "tabulate" in comment or "write_section" in comment]
    assert (finished.results / "logs/sample/hcma-test-0001.log").exists()


def test_a_job_starts_in_less_than_a_fiftieth_of_what_a_shard_takes(finished) -> None:
    """Of the paper's quickest row on an H100. The models here are small: loading the real ones comes on top."""
    cells = json.loads((ROOT / "results/reference/h100/device.json").read_text())["cells"]
    rates = [
        cell.get("images_per_second", 0) for cell in cells if cell.get("row") and cell.get("precision") == "bfloat16"
    ]
    starts = []
    for job in jobs():
        if match := re.fullmatch(r"rule_sample_wildcards_(\w+)_test_(\d+)", job.get("Comment", "")):
            hours, minutes, seconds = map(int, job["RunTime"].split(":"))
            sampled = read_meta(finished.results / f"samples/{match[1]}/test/{match[2]}.zip")["seconds"]
            starts.append(3600 * hours + 60 * minutes + seconds - sampled)
    print(f"seconds of a job beside its sampling: {sorted(round(start) for start in starts)}")
    assert median(starts) < PAPER["data"]["shard_size"] / max(rates) / 50


def trained(run: str, launcher: str, *arguments: str) -> list[bytes]:
    """The bytes of a training by tests/slurm/nodes.yaml: its module and its curves."""
    resources = json.dumps({"train_launcher": launcher})
    wanted = [f"results/{run}/train/{name}" for name in ("alignment.safetensors", "curves.csv")]
    configs = ["--configfile", *CONFIG[1:], "tests/slurm/nodes.yaml"]
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "snakemake",
                *wanted,
                *arguments,
                *configs,
                "--config",
                f"run={run}",
                f"resources={resources}",
            ],
            cwd=checkout(),
            env=environment() | {"GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [(ROOT / path).read_bytes() for path in wanted]
    finally:
        shutil.rmtree(ROOT / "results" / run, ignore_errors=True)


def test_a_training_over_two_nodes_gives_the_bytes_of_one_process(cluster) -> None:
    # A part for each process: two numbers have the same sum in either order.
    before = last_job()
    asked = [f"train_alignment:{name}" for name in ("nodes=2", "tasks=2", "tasks_per_gpu=0", "mpi=srun")]
    each = "srun --nodes 2 --ntasks-per-node 1 profiles/slurm/every_node.sh 1"
    together = trained(f"test-nodes-{os.getpid()}", each, *SLURM, "--set-resources", *asked)
    (job,) = [job for job in jobs() if int(job["JobId"]) > before and "train_alignment" in job["Comment"]]
    assert (job["NumNodes"], job["TresPerJob"]) == ("2", "gres:gpu:2")
    assert together == trained(f"test-node-{os.getpid()}", "python", "--cores", "2")


def test_a_cancelled_shard_goes_on_from_its_last_batch(finished, local) -> None:
    before = last_job()
    with finished.slow(*SLURM, SLOW_SECONDS=1) as process:
        (running,) = slow_jobs(before)
        ask("scancel", running["JobId"])
        finished.end(process)
    assert [job["JobState"] for job in slow_jobs(before)] == ["CANCELLED", "COMPLETED"]
    assert IMAGES < len(finished.sampled()) <= IMAGES + 4
    assert tables(finished.results) == local


def test_a_job_over_its_time_limit_gets_more_time_and_goes_on(finished, local) -> None:
    before = last_job()
    short = finished.folder / "short.yaml"
    short.write_text("resources: {rules: {sample: {runtime: 1}}}")
    with finished.slow(*SLURM, configs=[str(short)], SLOW_SECONDS=5) as process:
        finished.end(process)
    found = slow_jobs(before)
    assert [job["JobState"] for job in found] == ["TIMEOUT", "COMPLETED"]
    assert [job["TimeLimit"] for job in found] == ["00:01:00", "00:02:00"]
    assert len(finished.sampled()) <= IMAGES + 4
    assert tables(finished.results) == local


def test_a_job_out_of_memory_gets_more(finished, local) -> None:
    before = last_job()
    with finished.slow(*SLURM, SLOW_SECONDS=1, SLOW_MB=500) as process:
        finished.end(process)
    found = slow_jobs(before)
    assert [job["JobState"] for job in found][-1] == "COMPLETED"
    assert [job["MinMemoryNode"] for job in found][:2] == ["2000M", "4000M"]
    assert tables(finished.results) == local


def test_a_lost_node_costs_a_batch_and_its_orphan_ends_by_itself(finished, local, cluster) -> None:
    before = last_job()
    # Eighty seconds a batch: on a busy machine it may take long until another job goes on with the shard.
    with finished.slow(*SLURM, SLOW_SECONDS=20, SLOW_FIRST=1) as process:
        (running,) = slow_jobs(before)
        node, orphan = running["NodeList"], finished.sampled()[0][0]
        step = os.getpgid(orphan)
        cluster.lose_node(node)
        try:
            finished.end(process)
        finally:
            cluster.start_node(node)
    wait(lambda: not running_program(orphan), "the orphan's end", 150)
    # The Snakemake around it, cut off from SLURM, would wait for ever.
    with suppress(ProcessLookupError):
        os.killpg(step, signal.SIGKILL)
    found = slow_jobs(before)
    assert [job["JobState"] for job in found] == ["NODE_FAIL", "COMPLETED"]
    begun = [pid for pid, _ in finished.sampled()]
    assert begun.count(orphan) < IMAGES
    assert tables(finished.results) == local


def running_program(pid: int) -> bool:
    try:
        return b"hcma.sampling.sample" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("profile", [SLURM, GENERIC], ids=["slurm", "cluster-generic"])
def test_after_snakemake_was_killed_a_second_start_ends_with_the_same_tables(finished, local, profile) -> None:
    before = last_job()
    with finished.slow(*profile, SLOW_SECONDS=1.5) as process:
        os.killpg(process.pid, signal.SIGKILL)
    again = subprocess.run(finished.command(*profile), cwd=checkout(), env=finished.env, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert slow_jobs(before)[-1]["JobState"] == "COMPLETED"
    assert tables(finished.results) == local
