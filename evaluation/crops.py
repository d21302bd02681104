r"""Region crops: where a box cuts an image; as a program, the crops of one shard of one method as images, for other tools.

    python -m evaluation.crops --images samples/hcma/test/0000.zip --regions regions/test/0000.parquet \
        --layouts layouts/test/0000.jsonl --out crops/hcma/test/0000.zip

A crop is cut by the box and the image's own width and height. An exported one is named {id:012d}-{object:02d}-{phrase}.png.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.layouts import read_layout_rows
from formats.cli import options, run
from formats.files import InputError
from formats.images import read_images, write_images

# Of a table of regions, which evaluation.regions writes.
COLUMNS = ["id", "image_id", "object", "phrase", "x0", "y0", "x1", "y1", "kept", "why"]
ROUNDING = 1e-3  # pixels; boxes are stored with six decimals, so an edge on a pixel may lie a little beside it


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layouts = read_layout_rows(arguments.layouts)
    table = read_regions(arguments.regions, [row["id"] for row in layouts])
    write_images(arguments.out, _crops(arguments.images, layouts, table), {"crops": len(table)})


def crop(image_HW3: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The pixels of an image that a unit-square box touches, at its own resolution: uint8 [h, w, 3], never empty."""
    height, width = image_HW3.shape[:2]
    x0, y0, x1, y1 = pixel_box(box, width, height)
    return image_HW3[y0:y1, x0:x1]


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


def kept_boxes(layouts: Sequence[dict[str, Any]], table: pd.DataFrame) -> dict[int, list[tuple[int, list[float]]]]:
    """layout id -> (object, its box in the unit square) of the rows of a table of regions, in its order.

    The box is the layout's, or where the table has boxes (evaluation.detected_regions) its own.
    """
    objects = {layout["id"]: layout["objects"] for layout in layouts}
    boxes: dict[int, list[tuple[int, list[float]]]] = {number: [] for number in objects}
    places = list(zip(table["id"].tolist(), table["object"].tolist(), strict=True))
    own = map(list, table["box"]) if "box" in table else (objects[number][place]["box"] for number, place in places)
    for (number, place), box in zip(places, own, strict=True):
        boxes[number].append((place, box))
    return boxes


def _crops(images: Path, layouts: Sequence[dict[str, Any]], table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    boxes, objects = kept_boxes(layouts, table), {row["id"]: row["objects"] for row in layouts}
    for number, image in read_images(images, list(objects)):
        for place, box in boxes[number]:
            # A phrase comes from outside: only letters, digits and dashes reach a file name.
            phrase = re.sub(r"\W+", "-", objects[number][place]["phrase"]).strip("-")
            yield f"{number:012d}-{place:02d}-{phrase}.png", crop(image, box)


if __name__ == "__main__":
    run(main)
