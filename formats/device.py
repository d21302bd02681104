"""One job a GPU: `cuda` is the first GPU of this machine that no other job holds, `cuda:1` is that one, held or not.

Snakemake counts GPUs but names none. A job holds its GPU by a lock that the system drops when the process ends, however
it ends; while all are held, a job waits.
"""

import fcntl
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from formats.files import InputError
from formats.records import driver

# Heavy imports stand inside the functions: a lock needs none.
if TYPE_CHECKING:
    import torch

HELD: dict[Path, IO[str]] = {}  # open files, whose locks last as long as this process


def take_device(name: str) -> "torch.device":
    """The torch device that `name` (cpu, cuda, cuda:N) means here; raises InputError if it cannot be used."""
    import torch

    try:
        if name == "cuda" and torch.cuda.is_available():
            number = take_first(_gpus(), _locks())
            torch.cuda.set_device(number)
            name = f"cuda:{number}"
        if name.startswith("cuda"):
            repeat_exactly()
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: cannot be used here ({str(error).splitlines()[0]})") from None


def repeat_exactly() -> None:
    """On a GPU: float32 is float32, not TF32, and sums have one order wherever torch has such an algorithm.

    Where it has none it warns, once, and goes on: an image may then differ in its last digits from run to run.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it; read when it starts
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow, and finds bugs alone


def device_name(device: "torch.device") -> str:
    """The accelerator's own name, or "cpu" with the machine's architecture."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"


def system(device: "torch.device") -> dict[str, str | None]:
    """The operating system and, for a GPU of NVIDIA's, the driver and the CUDA and cuDNN that torch was built for."""
    import torch

    found: dict[str, str | None] = {"os": platform.platform()}
    if device.type == "cuda":
        found |= {"driver": driver(), "cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def _gpus() -> list[str]:
    """Names of the visible GPUs that are the same in every process, whatever CUDA_VISIBLE_DEVICES says there."""
    import torch

    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


def _locks() -> Path:
    """The folder of this machine's and this user's locks."""
    return Path(tempfile.gettempdir()) / f"hcma-gpus-{os.getuid()}"


def take_first(gpus: Sequence[str], folder: Path, wait: float = 1.0) -> int:
    """Number of the first of `gpus` that no other process holds, from now on held by this one; waits while there is none."""
    folder.mkdir(mode=0o700, exist_ok=True)
    said = False
    while True:
        for number, gpu in enumerate(gpus):
            if _held(folder / f"{re.sub('[^A-Za-z0-9-]', '-', gpu)}.lock"):
                return number
        if not said:
            print(f"waiting: all GPUs are held by other jobs ({len(gpus)} visible, {folder})", file=sys.stderr)
            said = True
        time.sleep(wait)


def _held(path: Path) -> bool:
    if path in HELD:
        return True
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    HELD[path] = file
    return True
