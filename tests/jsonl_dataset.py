"""A second data set: a folder with photos/ and test.jsonl, a line {id, caption, photo, objects: [[phrase, x, y, w, h], ...]}.

Boxes are in pixels of the photo.
"""

import json
from pathlib import Path
from typing import Any

from evaluation.datasets import Prepared
from evaluation.datasets.canvas import Frame, rounded
from evaluation.datasets.dropped import Report
from evaluation.datasets.photos import Photos
from evaluation.datasets.spans import Words
from formats.layouts import Layout, Object, area

ANNOTATIONS = ("test.jsonl",)
PHOTOS = {"test": "photos"}


def faults(settings: dict[str, Any]) -> list[str]:
    """`data.test.count` is all that is read."""
    count = settings.get("test", {}).get("count")
    return [] if isinstance(count, int) else [f"data.test.count is {count!r}, expected an integer"]


def prepare(root: Path, settings: dict[str, Any]) -> Prepared:
    """The first layouts of the file."""
    photos, report = open_photos(root, "test"), Report()
    lines = (root / "test.jsonl").read_text().splitlines()[: settings["test"]["count"]]
    layouts = [_layout(json.loads(line), photos, report) for line in lines]
    return Prepared({"test": layouts}, {"splits": {"test": report.summary(layouts, Words())}})


def _layout(row: dict[str, Any], photos: Photos, report: Report) -> Layout:
    seen = photos.look(row["id"], row["photo"])
    boxes = [(phrase, rounded(Frame(seen.width, seen.height).box(xywh))) for phrase, *xywh in row["objects"]]
    report.boxes += len(boxes)
    kept = [Object(phrase, box) for phrase, box in boxes if box and area(box) > 0]
    for _ in range(len(boxes) - len(kept)):
        report.drop("outside the canvas", row["id"])
    return Layout(row["id"], row["id"], row["caption"], tuple(kept), photo=row["photo"])


def describe(settings: dict[str, Any]) -> str:
    """For the tables' notes."""
    return f"Layouts: the first {settings['test']['count']} lines of test.jsonl."


def open_photos(root: Path, split: str, exif: str = "apply") -> Photos:
    """Photos by the names in the layouts."""
    return Photos(root, PHOTOS[split], exif)
