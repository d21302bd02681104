"""Is there room on the disk for what a run will write?

A plain estimate: of an image's pixels at three bytes, a photograph's PNG takes half, its features and its regions' an
eighth, its share of the report's pictures a twentieth; a photo to train on has latents and text features of a twelfth.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow.plan import Plan

PNG, FEATURES, PICTURES, LATENTS = 1 / 2, 1 / 8, 1 / 20, 1 / 12
MARGIN = 100 << 20  # bytes left free on the disk


@dataclass(frozen=True)
class Need:
    """Bytes still to be written below a folder, which need not be there yet."""

    what: str
    folder: Path
    size: int


def need_of_run(plan: Plan) -> Need:
    """What the run will write, less what is there."""
    folder = Path(plan.path.folder)
    pixels = 3 * plan.settings.data.size**2
    images = sum(sampled.images for sampled in plan.sampled) + sum(map(plan.count, plan.splits))
    images += len(plan.imported) * plan.count("test")
    encoded = plan.count("train") + plan.count("heldout")
    size = pixels * (images * (PNG + FEATURES + PICTURES) + encoded * LATENTS)
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
