"""The row `real`: the photos of a shard of layouts on the canvas, in the same zip as every row's images.

    python -m evaluation.datasets.real --dataset coco --root ROOT --split test --layouts layouts/test/0000.jsonl --size 64 \
        --out 0000.zip
"""

from pathlib import Path

from evaluation.datasets import find_dataset
from evaluation.datasets.canvas import canvas
from evaluation.datasets.photos import EXIF
from formats.cli import options, run
from formats.files import InputError
from formats.images import png_name, write_images
from formats.layouts import read_layouts
from formats.records import commit


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--dataset", default="coco", help="whose photos these are, as evaluation.datasets takes it")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--split", default="test", help="of which the layouts are")
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True, help="side of the canvas in pixels")
    parser.add_argument("--resize", choices=["center_crop", "squash"], default="center_crop")
    parser.add_argument("--exif", choices=EXIF, default="apply", help="turn photos upright, or take them as stored")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = find_dataset(arguments.dataset)
    if arguments.split not in getattr(dataset, "PHOTOS", ()):
        raise InputError(f"data set {arguments.dataset!r}: no photos of the split {arguments.split!r}")
    photos = dataset.open_photos(arguments.root, arguments.split, arguments.exif)
    layouts = read_layouts(arguments.layouts)
    images = (
        (png_name(layout.id), canvas(photos.read(layout.image_id, layout.photo), arguments.size, arguments.resize))
        for layout in layouts
    )
    meta = {
        "spec": {"method": "real"},
        "photos": photos.name,
        "size": arguments.size,
        "resize": arguments.resize,
        "exif": arguments.exif,
        "images": len(layouts),
        "commit": commit(),
    }
    write_images(arguments.out, images, meta)


if __name__ == "__main__":
    run(main)
