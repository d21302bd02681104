r"""The row `real`: the photos of a shard of layouts on the canvas, in the same zip as every row's images.

    python -m evaluation.datasets.real --dataset coco --root ROOT --split test --layouts layouts/test/0000.jsonl --size 64 \
        --out 0000.zip
"""

from pathlib import Path

from evaluation.datasets import find_dataset, photos_of
from evaluation.datasets.canvas import FRAMES, canvas
from evaluation.datasets.photos import EXIF, Photos
from evaluation.datasets.readers import open_folder
from formats.cli import options, run
from formats.files import InputError
from formats.images import png_name, write_images
from formats.layouts import read_layouts
from formats.records import commit


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--dataset", default="coco", help="whose photos these are, as evaluation.datasets takes it")
    parser.add_argument("--root", type=Path, help="the data set's folder")
    parser.add_argument(
        "--photos", type=Path, help="instead of a data set: a folder of photos, by the layouts' `photo`"
    )
    parser.add_argument("--split", default="test", help="of which the layouts are")
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True, help="side of the canvas in pixels")
    parser.add_argument("--resize", choices=FRAMES, default="center_crop")
    parser.add_argument("--exif", choices=EXIF, default="apply", help="turn photos upright, or take them as stored")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if bool(arguments.root) == bool(arguments.photos):
        raise InputError("give either --root, the folder of a data set, or --photos, a folder of photos")
    photos = _photos(arguments.dataset, arguments.root, arguments.photos, arguments.split, arguments.exif)
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


def _photos(dataset: str, root: Path | None, folder: Path | None, split: str, exif: str) -> Photos:
    if folder is not None:
        return open_folder(folder, exif)
    module = find_dataset(dataset)
    if split not in photos_of(module):
        raise InputError(f"data set {dataset!r}: no photos of the split {split!r}")
    found: Photos = module.open_photos(root, split, exif)
    return found


if __name__ == "__main__":
    run(main)
