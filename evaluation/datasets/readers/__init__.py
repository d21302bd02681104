"""Readers of foreign layout sets: one module a format.

A reader is a module of this package, or any other by its dotted name, with

    read(source)            go through source's files and hand over a layout a row (evaluation/datasets/reading.py)
    TAKES = (option, ...)   those of boxes, canvas and origin that it can be told, where there are any
    FRAME = name            which part of a photo its boxes are of, where that is not all of it, squashed
"""

import pkgutil
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluation.datasets.photos import Photos
from evaluation.datasets.reading import Options, Source
from formats import listed, shown
from formats.files import InputError
from formats.layouts import Layout
from formats.modules import find_module

SQUASH = "squash"
DECLARED = ("boxes", "canvas", "origin")
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".JPG", ".JPEG", ".PNG")


def find_reader(name: str) -> Any:
    """A reader's module by its name; raises InputError naming those of this package."""
    return find_module("reader", name, __name__, "read", known_readers)


def known_readers() -> list[str]:
    """Names of the readers in this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def frame_of(name: str, frame: str | None) -> str:
    """How a reader's photos are brought to the canvas: as said, or as its boxes are drawn."""
    return frame or str(getattr(find_reader(name), "FRAME", SQUASH))


def read_set(name: str, paths: Sequence[Path], options: Options) -> tuple[list[Layout], dict[str, Any]]:
    """The layouts of a foreign set in their files' order, and the report of them; raises InputError for what cannot be read."""
    reader = find_reader(name)
    takes = getattr(reader, "TAKES", ())
    for option in DECLARED:
        if getattr(options, option) is not None and option not in takes:
            raise InputError(f"reader {name}: its format says `{option}` itself; leave that option out")
    source = Source(paths, options)
    reader.read(source)
    layouts = source.finish()
    things = [thing for layout in layouts for thing in layout.objects]
    stated = asdict(options) | {"captions": str(options.captions) if options.captions else None}
    report = {
        "reader": name,
        "paths": [str(path) for path in paths],
        "options": stated,
        "rows": source.rows,
        "layouts": len(layouts),
        "layouts_without_boxes": sum(not layout.objects for layout in layouts),
        "boxes_read": source.report.boxes,
        "boxes": len(things),
        "boxes_named": sum(thing.span is not None for thing in things),
        "dropped": source.report.dropped.as_dict(),
        "noted": source.report.noted.as_dict(),
    }
    return layouts, report


def with_photos(layouts: Sequence[Layout], folder: Path) -> list[Layout]:
    """Layouts that name their photos in a folder; raises InputError for those that have none, or one that cannot be read."""
    photos = open_folder(folder)
    numbered: dict[int, list[str]] = {}
    for name in sorted(path.name for path in folder.iterdir() if path.suffix in ENDINGS):
        if digits := re.search("[0-9]{1,18}$", Path(name).stem):
            numbered.setdefault(int(digits[0]), []).append(name)
    found, faults = [], []
    for layout in layouts:
        names = [layout.photo] if layout.photo else [f"{layout.source_id}{ending}" for ending in ENDINGS]
        names = [*names, *(Path(name.replace("\\", "/")).name for name in names)]
        # A set that has the photo's number alone: COCO's photos end in it.
        if layout.image_id != layout.id and len(of_number := numbered.get(layout.image_id, [])) == 1:
            names += of_number
        there = next((name for name in names if name and photos.has(name)), names[0])
        try:
            seen = photos.look(layout.image_id, there)
            found.append(replace(layout, photo=seen.name))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError(f"{folder}: {len(faults)} of {len(layouts)} photos: {listed(faults)}")
    return found


def open_folder(folder: Path, exif: str = "apply") -> Photos:
    """The photos of a folder, or of the zip beside which it would be."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of photos")
    return Photos(folder.parent, folder.name, exif)


def summary(report: dict[str, Any]) -> list[str]:
    """What was read, left out and why, as lines for people."""
    lines = [
        f"read {report['layouts']} layouts of {report['rows']} rows, {report['boxes']} boxes of {report['boxes_read']}, "
        f"{report['boxes_named']} named in their captions"
    ]
    for kind, said in (("dropped", "left out"), ("noted", "noted")):
        for reason, found in report[kind].items():
            examples = ", ".join(map(shown, found["examples"][:3]))
            lines.append(f"{said}: {found['count']} x {reason} ({examples})")
    return lines
