"""What the evaluation's own files were made with: commit, versions, machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "pandas", "pycocotools", "scipy", "torch")


def commit() -> str | None:
    """The commit this code is at, marked -dirty when it was edited since; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def made() -> dict[str, Any]:
    """Commit, versions of Python and of the libraries that decide a number, and the machine's architecture."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    return {"commit": commit(), "versions": versions, "machine": platform.machine()}
