"""What an output was made with: versions, commit, device."""

import platform
import subprocess
from pathlib import Path

import diffusers
import torch
import transformers


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide an image's bytes."""
    modules = (diffusers, torch, transformers)
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def commit() -> str | None:
    """The commit this code is at, marked -dirty when it was edited since; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def system(device: torch.device) -> dict[str, str | None]:
    """The operating system and, for a GPU of NVIDIA's, the driver and the CUDA and cuDNN that torch was built for."""
    found: dict[str, str | None] = {"os": platform.platform()}
    if device.type == "cuda":
        found |= {"driver": _driver(), "cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.partition("\n")[0].strip() or None


def device_name(device: torch.device) -> str:
    """The accelerator's own name, or "cpu" with the machine's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
