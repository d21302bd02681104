"""The method `real`: the photos of a slice of layouts on the canvas, in the same zip as every method's images.

python -m evaluation.real --root ROOT --photos val2014 --layouts layouts/test/0000.jsonl --size 64 --out 0000.zip
"""

import argparse
from pathlib import Path

from evaluation.layouts import read_layouts
from evaluation.photos import EXIF, Photos, canvas
from formats.cli import run
from formats.images import png_name, write_images
from formats.records import commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder in COCO 2014's layout")
    parser.add_argument("--photos", choices=["train2014", "val2014"], required=True)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True, help="side of the canvas in pixels")
    parser.add_argument("--resize", choices=["center_crop", "squash"], default="center_crop")
    parser.add_argument("--exif", choices=EXIF, default="apply", help="turn photos upright, or take them as stored")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    photos = Photos(arguments.root, arguments.photos, arguments.exif)
    rows = read_layouts(arguments.layouts)
    images = (
        (
            png_name(row["id"]),
            canvas(photos.read(row["image_id"], row.get("photo")), arguments.size, arguments.resize),
        )
        for row in rows
    )
    meta = {
        "spec": {"method": "real"},
        "photos": arguments.photos,
        "size": arguments.size,
        "resize": arguments.resize,
        "exif": arguments.exif,
        "images": len(rows),
        "commit": commit(),
    }
    write_images(arguments.out, images, meta)


if __name__ == "__main__":
    run(main)
