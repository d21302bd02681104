"""Snakemake as a test starts it: in the checkout, one at a time."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def command(*arguments: str) -> list[str]:
    """The command line of this Python's Snakemake on two cores."""
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def environment() -> dict[str, str]:
    """This process's environment with this Python first on PATH, which is where rules look for `python`."""
    beside = Path(sys.executable).parent
    return os.environ | {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def alone() -> Iterator[None]:
    """While this holds, no other test of this checkout is inside it.

    Snakemake's runs in one folder share one folder of lock files, and each reads it while another may be removing it.
    """
    (ROOT / ".snakemake").mkdir(exist_ok=True)
    with (ROOT / ".snakemake/tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of Snakemake, to its end, with what it printed."""
    with alone():
        return subprocess.run(
            command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )


def is_nothing_to_do(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether Snakemake found all that it was asked for; a dry run says so on the other stream."""
    return done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def jobs_by_rule(printed: str) -> dict[str, int]:
    """The table of jobs that Snakemake prints."""
    lines = printed.split("Job stats:")[1].split("\n\n")[0].splitlines()
    words = [line.split() for line in lines]
    return {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit()}
