r"""One shard's images as the report shows them: a strip a layout, one row's image beside the other.

    python -m evaluation.contact_sheets --layouts layouts/test/0000.jsonl --samples results/miniature/samples --shard 0000 \
        --methods real gligen_sd hcma --out report/strips/0000.json

writes report/strips/0000/{id:012d}.webp, and then the index, which stands for the whole folder. A browser that has opened
the report from disk may load an image, but may not read into a zip; so that layouts in any order cost what they show, each
has a file of its own.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.layouts import read_layout_rows
from formats.cli import integer_from, options, run
from formats.files import InputError, read_object, replacing, write_json
from formats.images import read_images

SIDE = 128
QUALITY = 90
# By this part of its side a picture's edge is repeated left and right, lest its neighbour shine through.
GUTTER = 8


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--layouts", type=Path, required=True, help="of the shard")
    parser.add_argument("--samples", type=Path, required=True, help="folder of {method}/test/{shard}.zip")
    parser.add_argument("--shard", required=True)
    parser.add_argument("--methods", nargs="+", required=True, help="left to right")
    parser.add_argument(
        "--side", type=integer_from(GUTTER), default=SIDE, help=f"larger images are reduced to it (pixels; {SIDE})"
    )
    parser.add_argument("--out", type=Path, required=True, help="the index")
    arguments = parser.parse_args()
    ids = [row["id"] for row in read_layout_rows(arguments.layouts)]
    paths = [arguments.samples / method / "test" / f"{arguments.shard}.zip" for method in arguments.methods]
    sizes = {}
    for number, pictures in zip(ids, zip(*(read_images(path, ids) for path in paths), strict=True), strict=True):
        sizes[f"{number:012d}"] = write_strip(
            arguments.out.with_suffix("") / f"{number:012d}.webp", (pixels for _, pixels in pictures), arguments.side
        )
    write_json(arguments.out, {"methods": arguments.methods, "side": arguments.side, "bytes": sizes})


def write_strip(path: Path, pictures: Iterable[np.ndarray], side: int) -> int:
    """Write uint8 pictures [H, W, 3] beside one another as WebP, each reduced to `side`; the file's size in bytes.

    Pictures that are smaller stay as they are, but for a side that GUTTER divides; all get the size of the first.
    """
    tiles = list(pictures)
    size = min(side, len(tiles[0])) // GUTTER * GUTTER
    strip = np.concatenate([_tile(pixels, size) for pixels in tiles], axis=1)
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "WEBP", quality=QUALITY)
    with replacing(path) as beside:
        return beside.write_bytes(file.getvalue())


def _tile(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[:2] != (size, size):
        pixels = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))
    return np.pad(pixels, ((0, 0), (size // GUTTER, size // GUTTER), (0, 0)), mode="edge")


@dataclass(frozen=True)
class Index:
    """The strips of one shard: bytes by name, in the order of the layouts; the files lie in a folder of the index's name."""

    path: Path
    sizes: dict[str, int]


def read_index(path: Path, methods: Sequence[str]) -> Index:
    """Raises InputError unless it is an index, and its strips show `methods` in this order."""
    found = read_object(path, "an index of strips", "methods", "bytes")
    if found["methods"] != list(methods):
        raise InputError(f"{path}: strips of {', '.join(found['methods'])}; expected {', '.join(methods)}")
    return Index(path, found["bytes"])


if __name__ == "__main__":
    run(main)
