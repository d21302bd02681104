"""Split what uv resolved into requirements.lock and requirements-torch.lock: torch and what only its CUDA build needs apart.

    uv pip compile pyproject.toml --extra dev --universal --generate-hashes | python -m workflow.scripts.lock

Written by `make lock`. `make TORCH=cpu` installs the first, and torch from PyTorch's index of CPU builds instead of the second.
"""

import re
import sys
from pathlib import Path

PINNED = re.compile(r"^(?=\S)(?!#)", re.MULTILINE)
TORCH = re.compile(r"torch==|torchvision==|nvidia-|cuda-|triton")
NAMES = {False: "requirements.lock", True: "requirements-torch.lock"}
HEADER = (
    "# Pinned with the hashes of every file, for Python 3.11 to 3.13; written by `make lock` from pyproject.toml.\n"
)


def main() -> None:
    _, *entries = PINNED.split(sys.stdin.read())
    for apart, name in NAMES.items():
        chosen = [entry for entry in entries if bool(TORCH.match(entry)) is apart]
        Path(name).write_text(HEADER + "".join(chosen), encoding="utf-8")


if __name__ == "__main__":
    main()
