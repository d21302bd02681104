"""Export the region crops of one shard of one method as images, for looking at or for other tools.

    python -m evaluation.crops --images samples/hcma/test/0000.zip --regions regions/test/0000.parquet \
        --layouts layouts/test/0000.jsonl --out crops/hcma/test/0000.zip

A crop is named {id:012d}-{object:02d}-{phrase}.png.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.images import read_images, write_images
from evaluation.layouts import read_layouts
from evaluation.program import run
from evaluation.regions import crop, read_regions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    ids = [row["id"] for row in read_layouts(arguments.layouts)]
    table = read_regions(arguments.regions, ids)
    write_images(arguments.out, _crops(arguments.images, ids, table), {"crops": len(table)})


def _crops(images: Path, ids: list[int], table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    rows = dict(list(table.groupby("id")))
    for number, image in read_images(images, ids):
        for row in rows[number].itertuples() if number in rows else ():
            # A phrase comes from outside: only letters, digits and dashes reach a file name.
            phrase = re.sub(r"\W+", "-", str(row.phrase)).strip("-")
            yield f"{number:012d}-{row.object:02d}-{phrase}.png", crop(image, row)


if __name__ == "__main__":
    run(main)
