"""Region crops of one shard: where every box of every layout lies on the canvas in pixels, and which boxes are scored.

    python -m evaluation.regions --layouts layouts/test/0000.jsonl --size 64 --min-side 6 --max-per-image 8 \
        --out regions/test/0000.parquet

One table serves every method: crops are cut in memory from it, and `evaluation.crops` exports them as images.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.files import InputError, replacing
from evaluation.layouts import read_layouts
from evaluation.program import run
from evaluation.protocol import add_options, chosen

COLUMNS = ["id", "image_id", "object", "phrase", "x0", "y0", "x1", "y1", "canvas", "kept", "why"]
ROUNDING = 1e-3  # pixels; boxes are stored with six decimals, so an edge on a pixel may lie a little beside it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True, help="side of the canvas in pixels")
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    protocol = chosen(arguments)
    table = regions(read_layouts(arguments.layouts), arguments.size, protocol.min_side, protocol.max_per_image)
    with replacing(arguments.out) as beside:
        table.to_parquet(beside, index=False)


def regions(
    layouts: Sequence[dict[str, Any]], size: int, min_side: int, max_per_image: int | None = None
) -> pd.DataFrame:
    """One row an object, in order: its pixel box on the canvas (xyxy, rounded outwards), and whether it is kept, or why not."""
    rows = []
    for layout in layouts:
        largest = _largest(layout["objects"], max_per_image)
        for number, thing in enumerate(layout["objects"]):
            box = pixel_box(thing["box"], size)
            side = min(box[2] - box[0], box[3] - box[1])
            why = "" if side >= min_side else f"side {side} px, below {min_side}"
            if not why and number not in largest:
                why = f"not one of the {max_per_image} largest"
            rows.append([layout["id"], layout["image_id"], number, thing["phrase"], *box, size, not why, why])
    return pd.DataFrame(rows, columns=COLUMNS)


def _largest(objects: Sequence[dict[str, Any]], most: int | None) -> list[int]:
    """Places of the `most` largest boxes, by area; of equal ones the first."""

    def area(place: int) -> float:
        x0, y0, x1, y1 = objects[place]["box"]
        return (x1 - x0) * (y1 - y0)

    return sorted(range(len(objects)), key=area, reverse=True)[:most]


def pixel_box(box: Sequence[float], size: int) -> tuple[int, int, int, int]:
    """A unit-square box as whole pixels of a `size` canvas, rounded outwards."""
    x0, y0 = (min(math.floor(edge * size + ROUNDING), size - 1) for edge in box[:2])
    x1, y1 = (math.ceil(edge * size - ROUNDING) for edge in box[2:])
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def read_regions(path: Path, ids: Sequence[int]) -> pd.DataFrame:
    """The kept rows of a shard's table; raises InputError when it is not a table of regions of these layouts."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable table of regions ({error}); delete it and run again") from None
    if list(table.columns) != COLUMNS or not set(table["id"]) <= set(ids):
        raise InputError(f"{path}: not the regions of these layouts; delete it and run again")
    return table[table["kept"].astype(bool)].reset_index(drop=True)


def crop(image_HW3: np.ndarray, row: Any) -> np.ndarray:
    """The pixels of a region: uint8 [h, w, 3].

    A square image of another side than the canvas, as a method with a model of another size makes them, is cut at its own
    pixels, those that the region touches.
    """
    x0, y0, x1, y1 = row.x0, row.y0, row.x1, row.y1
    if len(image_HW3) != row.canvas:
        x0, y0, x1, y1 = pixel_box([edge / row.canvas for edge in (x0, y0, x1, y1)], len(image_HW3))
    return image_HW3[y0:y1, x0:x1]


if __name__ == "__main__":
    run(main)
