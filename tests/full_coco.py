"""Annotations in COCO 2014's layout and size, and a grey photo for each record: what preparation meets at full scale.

    python -m tests.full_coco --out /tmp/coco            # 82,783 + 40,504 images, 1.1 GB
    python -m tests.full_coco --out /tmp/coco --share 0.01

Images, boxes (896,782) and file sizes are COCO's; so are five captions an image, crowds, and images without a box.
"""

import argparse
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

WORDS = Path(__file__).parents[1] / "workflow/config/words/coco.yaml"
SPLITS = {"train2014": (82_783, 604_907), "val2014": (40_504, 291_875)}
BARE = 0.009  # share of images without a box
SIZES = (640, 480), (480, 640)
CORNERS, OUTLINES, CAPTIONS = 36, 997, 5
Rows = Iterable[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="of COCO's number of images")
    arguments = parser.parse_args()
    write(arguments.out, arguments.share)


def write(out: Path, share: float) -> None:
    """Write {train,val}2014.zip and annotations/{instances,captions}_{train,val}2014.json, the same each time."""
    names = list(yaml.safe_load(WORDS.read_text(encoding="utf-8")))
    (out / "annotations").mkdir(parents=True)
    ids = np.random.default_rng(0).permutation(600_000)
    for number, (split, (images, boxes)) in enumerate(SPLITS.items()):
        rng = np.random.default_rng(number + 1)
        own = ids[100_000 * number :][: int(images * share)].tolist()
        categories = [{"supercategory": "thing", "id": k, "name": name} for k, name in enumerate(names, 1)]
        parts = {"images": _images(split, own), "annotations": _boxes(rng, own, int(boxes * share), len(names))}
        _write(out / f"annotations/instances_{split}.json", parts | {"categories": categories})
        parts = {"images": _images(split, own), "annotations": _captions(rng, own, names)}
        _write(out / f"annotations/captions_{split}.json", parts)
        _write_photos(out / f"{split}.zip", split, own)


def _write_photos(path: Path, split: str, ids: list[int]) -> None:
    """A zip of whole JPEGs, stored as COCO's are, that are as wide and high as the records say."""
    grey = {}
    for size in SIZES:
        file = io.BytesIO()
        Image.new("L", size, 128).save(file, "JPEG", quality=10, optimize=True)
        grey[size] = file.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for number in ids:
            archive.writestr(f"{split}/{_name(split, number)}", grey[_size(number)])


def _name(split: str, number: int) -> str:
    return f"COCO_{split}_{number:012d}.jpg"


def _size(number: int) -> tuple[int, int]:
    return SIZES[0] if number % 3 else SIZES[1]


def _write(path: Path, parts: dict[str, Rows]) -> None:
    """One JSON object of lists, written a record at a time."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {}, "licenses": []')
        for name, rows in parts.items():
            file.write(f', "{name}": [')
            file.writelines(f"{', ' if k else ''}{json.dumps(row)}" for k, row in enumerate(rows))
            file.write("]")
        file.write("}")


def _images(split: str, ids: list[int]) -> Iterator[dict[str, Any]]:
    for number in ids:
        name, (width, height) = _name(split, number), _size(number)
        addresses = {"coco_url": f"http://images.invalid/{split}/{name}", "flickr_url": f"http://flickr.invalid/{name}"}
        row = {"license": 5, "file_name": name, "date_captured": "2013-11-16 17:30:30", "id": number}
        yield row | addresses | {"height": height, "width": width}


def _boxes(rng: np.random.Generator, ids: list[int], count: int, categories: int) -> Iterator[dict[str, Any]]:
    outlines = [row.round(2).tolist() for row in rng.uniform(10, 470, (OUTLINES, 2 * CORNERS))]
    owners = rng.choice(ids[: int(len(ids) * (1 - BARE))], count).tolist()
    sides = np.exp(rng.normal(4.2, 1.0, (count, 2))).clip(2, 470).round(2)
    corners = (rng.uniform(0, 1, (count, 2)) * (480 - sides)).round(2)
    labels = rng.integers(1, categories + 1, count).tolist()
    for k, (owner, label, (x, y), (w, h)) in enumerate(
        zip(owners, labels, corners.tolist(), sides.tolist(), strict=True)
    ):
        crowd = k % 90 == 0
        inside = {"counts": list(range(180)), "size": [480, 640]} if crowd else [outlines[k % OUTLINES]]
        row = {"segmentation": inside, "area": w * h / 2, "iscrowd": int(crowd), "image_id": owner}
        yield row | {"bbox": [x, y, w, h], "category_id": label, "id": k + 1}


def _captions(rng: np.random.Generator, ids: list[int], names: list[str]) -> Iterator[dict[str, Any]]:
    said = rng.integers(0, len(names), (len(ids), CAPTIONS, 2)).tolist()
    for number, (image_id, k) in enumerate(itertools.product(ids, range(CAPTIONS))):
        one, other = (names[n] for n in said[number // CAPTIONS][k])
        yield {
            "image_id": image_id,
            "id": number + 1,
            "caption": f"A photo of a {one} standing next to a {other} outside. ",
        }


if __name__ == "__main__":
    main()
