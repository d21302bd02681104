"""Programs as they are started: in this process with their end caught, or in several processes that meet over gloo."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from formats import cli

ROOT = Path(__file__).parents[1]


def status(main: Callable[..., None], *arguments: Sequence[str]) -> int:
    """The status that a program ends with; `arguments` are its options, else those of sys.argv."""
    try:
        cli.run(lambda: main(*arguments))
    except SystemExit as end:
        return end.code
    return 0


def launch(program: list[str], processes: int) -> list[subprocess.Popen]:
    """Start `python -m program` once for each process, in the order of their ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    started = []
    for rank in map(str, range(processes)):
        who = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": str(processes)} | meeting if processes > 1 else {}
        place = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | who
        command = [sys.executable, "-m", *program]
        started.append(subprocess.Popen(command, cwd=ROOT, env=place, stderr=subprocess.PIPE, text=True))
    return started


def ended(running: list[subprocess.Popen]) -> list[str]:
    """Wait until all have ended well; returns what each said."""
    said = [process.communicate(timeout=300)[1] for process in running]
    assert not any(process.returncode for process in running), said
    return said
