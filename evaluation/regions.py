"""Regions of one shard: where every box of every layout lies on the canvas in pixels, and which boxes are scored.

    python -m evaluation.regions --layouts layouts/test/0000.jsonl --size 64 --min-side 6 --max-per-image 8 \
        --out regions/test/0000.parquet

One table serves every method, so that rows stay paired: which boxes are scored is decided on the canvas, which is that of the
real images. A crop is cut from an image by the box and that image's own width and height, in memory; `evaluation.crops` exports
them as images.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.layouts import read_layouts
from evaluation.protocol import add_options, chosen
from formats.cli import integer_from, run
from formats.files import InputError, replacing

COLUMNS = ["id", "image_id", "object", "phrase", "x0", "y0", "x1", "y1", "kept", "why"]
ROUNDING = 1e-3  # pixels; boxes are stored with six decimals, so an edge on a pixel may lie a little beside it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--size", type=integer_from(1), required=True, help="side of the canvas in pixels")
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    protocol = chosen(arguments)
    table = regions(read_layouts(arguments.layouts), arguments.size, protocol.min_side, protocol.max_per_image)
    with replacing(arguments.out) as beside:
        table.to_parquet(beside, index=False)


def regions(
    layouts: Sequence[dict[str, Any]],
    canvas: int | Mapping[int, tuple[int, int]],
    min_side: int,
    max_per_image: int | None = None,
) -> pd.DataFrame:
    """One row an object, in order: its pixel box on the canvas (xyxy, rounded outwards), and whether it is kept, or why not.

    canvas: the side of a square one, or width and height in pixels by layout id.
    """
    rows = []
    for layout in layouts:
        width, height = (canvas, canvas) if isinstance(canvas, int) else canvas[layout["id"]]
        largest = _largest(layout["objects"], max_per_image)
        for number, thing in enumerate(layout["objects"]):
            box = pixel_box(thing["box"], width, height)
            side = min(box[2] - box[0], box[3] - box[1])
            why = "" if side >= min_side else f"side {side} px, below {min_side}"
            if not why and number not in largest:
                why = f"not one of the {max_per_image} largest"
            rows.append([layout["id"], layout["image_id"], number, thing["phrase"], *box, not why, why])
    return pd.DataFrame(rows, columns=COLUMNS)


def _largest(objects: Sequence[dict[str, Any]], most: int | None) -> list[int]:
    """Places of the `most` largest boxes, by area; of equal ones the first."""

    def area(place: int) -> float:
        x0, y0, x1, y1 = objects[place]["box"]
        return (x1 - x0) * (y1 - y0)

    return sorted(range(len(objects)), key=area, reverse=True)[:most]


def pixel_box(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """A unit-square box as whole pixels of an image, rounded outwards; it holds at least one."""
    x0, x1 = _pixels(box[0], box[2], width)
    y0, y1 = _pixels(box[1], box[3], height)
    return x0, y0, x1, y1


def _pixels(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(math.floor(low * size + ROUNDING), size - 1)
    return first, max(math.ceil(high * size - ROUNDING), first + 1)


def read_regions(path: Path, ids: Sequence[int]) -> pd.DataFrame:
    """The kept rows of a shard's table; raises InputError when it is not a table of regions of these layouts."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable table of regions ({error}); delete it and run again") from None
    if not set(COLUMNS) <= set(table.columns) or not set(table["id"]) <= set(ids):
        raise InputError(f"{path}: not the regions of these layouts; delete it and run again")
    return table[table["kept"].astype(bool)].reset_index(drop=True)


def crop(image_HW3: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The pixels of an image that a unit-square box touches, at its own resolution: uint8 [h, w, 3], never empty."""
    height, width = image_HW3.shape[:2]
    x0, y0, x1, y1 = pixel_box(box, width, height)
    return image_HW3[y0:y1, x0:x1]


def kept_boxes(layouts: Sequence[dict[str, Any]], table: pd.DataFrame) -> dict[int, list[tuple[int, list[float]]]]:
    """layout id -> (object, its box in the unit square) of the rows of a table of regions, in its order."""
    objects = {layout["id"]: layout["objects"] for layout in layouts}
    boxes: dict[int, list[tuple[int, list[float]]]] = {number: [] for number in objects}
    for number, place in zip(table["id"].tolist(), table["object"].tolist(), strict=True):
        boxes[number].append((place, objects[number][place]["box"]))
    return boxes


if __name__ == "__main__":
    run(main)
