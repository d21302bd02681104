r"""Regions of one shard: where every box of every layout lies on the canvas in pixels, and which boxes are scored.

    python -m evaluation.regions --layouts layouts/test/0000.jsonl --size 64 --min-side 6 --max-per-image 8 \
        --out regions/test/0000.parquet

One table serves every row, so that rows stay paired: which boxes are scored is decided on the canvas, which is that of the
real images. `evaluation.crops` cuts them; `evaluation.detected_regions` moves the boxes for a row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.crops import COLUMNS, pixel_box
from evaluation.layouts import read_layout_rows
from evaluation.protocol import add_options, chosen
from formats.cli import integer_from, options, run
from formats.files import replacing
from formats.layouts import area


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--size", type=integer_from(1), required=True, help="side of the canvas in pixels")
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    protocol = chosen(arguments)
    table = regions(read_layout_rows(arguments.layouts), arguments.size, protocol.min_side, protocol.max_per_image)
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
    return sorted(range(len(objects)), key=lambda place: area(objects[place]["box"]), reverse=True)[:most]


if __name__ == "__main__":
    run(main)
