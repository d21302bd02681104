"""What made a file: the code's commit, the libraries' versions, the machine."""

import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# The libraries that decide an image's bytes, and those that decide a measured number.
SAMPLING = ("diffusers", "torch", "transformers")
MEASURING = ("numpy", "pandas", "pycocotools", "scipy", "torch")


def commit() -> str | None:
    """The commit this code is at, marked -dirty when it was edited since; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of some installed libraries: the build, such as 2.14.1+cu130, of those that are imported."""
    return {"python": platform.python_version()} | {name: _version(name) for name in libraries}


def _version(library: str) -> str:
    # Only the module itself knows its build; the installed package has the release.
    try:
        return getattr(sys.modules.get(library), "__version__", None) or version(library)
    except PackageNotFoundError:
        return "not installed"


def made() -> dict[str, Any]:
    """The record of what is measured: commit, versions of what decides a number, and the machine's architecture."""
    return {"commit": commit(), "versions": versions(MEASURING), "machine": platform.machine()}


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.partition("\n")[0].strip() or None
