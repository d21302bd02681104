"""Is there room on the disk for what a run will write? Asked before anything expensive.

    python -m workflow.scripts.room --estimate '{...}' --run results/paper --out room.json

A plain estimate: of an image's pixels at three bytes, a photograph's PNG takes half, its features and its regions' an
eighth, its share of the report's pictures a twentieth; a photo to train on has latents and text features of a twelfth.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formats.cli import run
from formats.files import InputError, write_json

PNG, FEATURES, PICTURES, LATENTS = 1 / 2, 1 / 8, 1 / 20, 1 / 12
MARGIN = 100 << 20  # bytes left free on the disk


@dataclass(frozen=True)
class Need:
    """Bytes still to be written below a folder, which need not be there yet."""

    what: str
    folder: Path
    size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimate", type=json.loads, required=True, help="JSON: the section `estimate`")
    parser.add_argument("--run", type=Path, required=True, help="the run's results folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    need = need_of_run(arguments.estimate, arguments.run)
    if found := lacking([need]):
        raise InputError("; ".join(found))
    write_json(arguments.out, {"bytes_to_write": need.size})


def need_of_run(estimate: dict[str, Any], folder: Path) -> Need:
    """What the run will write, less what is there."""
    pixels = 3 * estimate["size"] ** 2
    sampled = sum(method["images"] for method in estimate["methods"].values())
    shares = (sampled + estimate["photos"]) * (PNG + FEATURES + PICTURES) + estimate["trained_on"] * LATENTS
    size = pixels * shares
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Need(str(folder), folder, max(int(size) - there, 0))


def lacking(needs: Sequence[Need]) -> list[str]:
    """One line for every disk whose free bytes are less than what is to be written on it."""
    disks: dict[int, list[Need]] = {}
    for need in needs:
        disks.setdefault(os.stat(_existing(need.folder)).st_dev, []).append(need)
    found = []
    for sharing in disks.values():
        free, size = shutil.disk_usage(_existing(sharing[0].folder)).free, sum(need.size for need in sharing)
        if free < size + MARGIN:
            parts = " and ".join(f"{need.size / 1e9:.2f} GB for {need.what}" for need in sharing)
            found.append(f"{_existing(sharing[0].folder)}: {free / 1e9:.2f} GB are free, needed are {parts}, estimated")
    return found


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


if __name__ == "__main__":
    run(main)
