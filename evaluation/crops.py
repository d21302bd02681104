"""Export the region crops of one shard of one method as images, for looking at or for other tools.

    python -m evaluation.crops --images samples/hcma/test/0000.zip --regions regions/test/0000.parquet \
        --layouts layouts/test/0000.jsonl --out crops/hcma/test/0000.zip

A crop is named {id:012d}-{object:02d}-{phrase}.png.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.layouts import read_layouts
from evaluation.regions import crop, kept_boxes, read_regions
from formats.cli import run
from formats.images import read_images, write_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layouts = read_layouts(arguments.layouts)
    table = read_regions(arguments.regions, [row["id"] for row in layouts])
    write_images(arguments.out, _crops(arguments.images, layouts, table), {"crops": len(table)})


def _crops(images: Path, layouts: Sequence[dict[str, Any]], table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    boxes, objects = kept_boxes(layouts, table), {row["id"]: row["objects"] for row in layouts}
    for number, image in read_images(images, list(objects)):
        for place, box in boxes[number]:
            # A phrase comes from outside: only letters, digits and dashes reach a file name.
            phrase = re.sub(r"\W+", "-", objects[number][place]["phrase"]).strip("-")
            yield f"{number:012d}-{place:02d}-{phrase}.png", crop(image, box)


if __name__ == "__main__":
    run(main)
