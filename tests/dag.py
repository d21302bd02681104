"""Snakemake as a test starts it: in a folder of links to the checkout, a folder for each process that tests."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def link_checkout(folder: Path, *without: str) -> None:
    """Put into `folder` a link to everything in the checkout but what is named and Snakemake's own."""
    for entry in ROOT.iterdir():
        if entry.name not in (".snakemake", *without):
            (folder / entry.name).symlink_to(entry)


@cache
def checkout() -> Path:
    """Where this process runs Snakemake, with the checkout's code, weights and results: gone when it ends.

    Snakemake's runs in one folder share one folder of lock files, and each reads it while another may be removing it.
    """
    (ROOT / "results").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="hcma-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link_checkout(folder)
    return folder


def command(*arguments: str) -> list[str]:
    """The command line of this Python's Snakemake on two cores."""
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def environment() -> dict[str, str]:
    """This process's environment with this Python first on PATH, which is where rules look for `python`."""
    beside = Path(sys.executable).parent
    return os.environ | {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of Snakemake, to its end, with what it printed."""
    return subprocess.run(
        command(*arguments), cwd=checkout(), env=environment(), capture_output=True, text=True, check=False
    )


def is_nothing_to_do(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether Snakemake found all that it was asked for; a dry run says so on the other stream."""
    return done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def jobs_by_rule(printed: str) -> dict[str, int]:
    """The table of jobs that Snakemake prints."""
    lines = printed.split("Job stats:")[1].split("\n\n")[0].splitlines()
    words = [line.split() for line in lines]
    return {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit()}
