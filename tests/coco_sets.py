"""Small data sets in COCO 2014's layout whose boxes can be seen: grey noise with a red rectangle that the `dog` box covers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from evaluation.datasets import coco
from evaluation.datasets import write as write_prepared

WORDS = Path(__file__).parents[1] / "workflow/config/words/coco.yaml"
IDS = {"train2014": range(1, 9), "val2014": range(101, 105)}
DATA = {
    "size": 32,
    "words": str(WORDS),
    "caption": "first",
    "resize": "center_crop",
    "boxes": {"min_area_frac": 0.01, "max": 30, "drop_crowd": True},
    "split": {"train_fraction": 0.8, "seed": 1},
    "train": {"count": 6},
    "heldout": {"count": 2},
    "test": {"count": 4, "seed": 1, "require_boxes": False},
}
WIDE, TALL = (48, 32), (32, 48)
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 58, "name": "hot dog"}, {"id": 1, "name": "person"}]


def prepare(root: Path, data: dict[str, Any], out: Path) -> None:
    """Write the layouts and the report of a set."""
    write_prepared(coco.prepare(root, data), out)


def picture(number: int, size: tuple[int, int] = WIDE) -> tuple[np.ndarray, list[float]]:
    """Pixels of photo `number`, and its red rectangle as x, y, width and height."""
    rng = np.random.default_rng(number)
    pixels = np.repeat(rng.integers(90, 166, (*size[::-1], 1), np.uint8), 3, 2)
    x, y = (14 + number % 5, 6) if size == WIDE else (5, 24)
    width, height = (16, 20) if size == WIDE else (14, 16)
    pixels[y : y + height, x : x + width] = 255, 0, 0
    return pixels, [float(edge) for edge in (x, y, width, height)]


def write_set(root: Path, size: tuple[int, int] = WIDE) -> Path:
    """Write photos and annotations, nothing about them spoilt."""
    (root / "annotations").mkdir(parents=True)
    for split, ids in IDS.items():
        (root / split).mkdir()
        images, boxes, said = [], [], []
        for number in ids:
            pixels, box = picture(number, size)
            name = f"COCO_{split}_{number:012d}.jpg"
            Image.fromarray(pixels).save(root / split / name, quality=95, subsampling=0)
            images.append({"id": number, "width": size[0], "height": size[1], "file_name": name})
            boxes.append({"id": 1000 + number, "image_id": number, "category_id": 18, "bbox": box, "iscrowd": 0})
            said.append({"id": 5000 + number, "image_id": number, "caption": "A red dog stands in the noise."})
        write(root, "instances", split, {"images": images, "annotations": boxes, "categories": CATEGORIES})
        write(root, "captions", split, {"images": images, "annotations": said})
    return root


def path_of(root: Path, kind: str, split: str) -> Path:
    return root / "annotations" / f"{kind}_{split}.json"


def write(root: Path, kind: str, split: str, content: Any) -> None:
    path_of(root, kind, split).write_text(json.dumps(content))


def change(root: Path, kind: str, edit: Callable[[Any], Any], splits: tuple[str, ...] = tuple(IDS)) -> None:
    """Edit annotation files in place."""
    for split in splits:
        content = json.loads(path_of(root, kind, split).read_text())
        edit(content)
        write(root, kind, split, content)


def every(part: str, **fields: Any) -> Callable[[Any], None]:
    """An edit that sets fields of all records of a part; a function is given the field's value."""

    def edit(content: Any) -> None:
        for row in content[part]:
            row |= {key: value(row.get(key)) if callable(value) else value for key, value in fields.items()}

    return edit


def photos(root: Path) -> list[Path]:
    return sorted(path for split in IDS for path in (root / split).iterdir())


def turn(root: Path, orientation: int) -> None:
    """Store every photo so that EXIF turns it back to what it was."""
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
    for path in photos(root):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        with Image.open(path) as photo:
            stored = photo.transpose(undo[orientation])
        stored.save(path, "JPEG", quality=95, subsampling=0, exif=exif)
