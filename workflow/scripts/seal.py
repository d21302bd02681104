"""Seal a model folder: write its SHA256SUMS, by which every later use tells whether a file was changed.

    python -m workflow.scripts.seal /data/stable-diffusion-v1-4

Do it once, when you know where the files are from: it records what is there, whatever that is.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from evaluation.files import InputError, sha256, write_text
from evaluation.program import run

SUMS = "SHA256SUMS"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    seal(folder)
    print(f"{folder / SUMS}: written")


def seal(folder: Path) -> None:
    """Write SHA256SUMS of all files but hidden ones; raises InputError for a folder that is sealed or holds no model."""
    if (folder / SUMS).exists():
        raise InputError(f"{folder / SUMS}: is there already; remove it to seal the folder anew")
    if not any((folder / part / "config.json").is_file() for part in ("unet", "text_encoder")):
        raise InputError(f"{folder}: not a pipeline folder: it has no unet/config.json and no text_encoder/config.json")
    write_sums(folder, digests(folder))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model folder but hidden ones, by its path there; parts may be links to another folder's."""
    walked = (Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names)
    names = [path.relative_to(folder) for path in walked]
    shown = [name for name in names if name.name != SUMS and not any(part.startswith(".") for part in name.parts)]
    return {name.as_posix(): sha256(folder / name) for name in shown}


def write_sums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write SHA256SUMS as the program `sha256sum` would, whole or not at all."""
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))


if __name__ == "__main__":
    run(main)
