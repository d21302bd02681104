"""COCO's JSON: COCO 2014 and 2017, LVIS, and what CVAT, Label Studio, Roboflow, FiftyOne and LayoutBench (CLEVR) write.

Paths are the file of instances, or a folder in which one has its usual name, and, where there is one, the file of captions.
Boxes are x, y, width, height in pixels of the photo.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from evaluation.datasets.opening import open_json
from evaluation.datasets.reading import Row, RowError, Source, attributes_of
from formats import shown
from formats.files import InputError

PATTERNS = (
    "annotations/*.json",
    "labels.json",
    "result.json",
    "_annotations.coco.json",
    "*/_annotations.coco.json",
    "*.json",
)
OUTLINES = frozenset({"segmentation"})
Boxes = dict[int, list[tuple[Row, int, str]]]


def read(source: Source) -> None:
    """A layout an image, with the caption of the lowest id where there are captions; crowds are left out."""
    contents = {path: open_json(path, OUTLINES) for path in source.files(*PATTERNS)}
    for path, content in contents.items():
        if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
            source.fault(path, "", "expected COCO's object with `images` and `annotations`")
            return
    captioned = {path for path, one in contents.items() if _has(one, "caption") and not _has(one, "bbox")}
    boxed = [path for path in contents if path not in captioned]
    if len(boxed) != 1:
        said = ", ".join(path.name for path in boxed) or "none"
        raise InputError(f"{source.paths[0]}: expected one file of boxes, found {said}; name it")
    path, content = boxed[0], contents[boxed[0]]
    names, images = _categories(source, path, content), _images(source, path, content)
    captions = [pair for one in sorted(captioned) for pair in _captions(source, one, contents[one], images)]
    boxes = _boxes(source, path, content, images)
    by_number = all(_numbered(fields) for _, fields in images.values())
    caption_of = {image: text for _, image, text in sorted(captions, reverse=True)}
    for number, (where, fields) in images.items():
        with source.row(path, where, fields) as row:
            canvas = _side(row, "width"), _side(row, "height")
            photo = _photo(row)
            own = number if by_number or photo is None else photo
            if captioned and number not in caption_of:
                source.report.drop("image without a caption", number)
                continue
            layout = row.layout(caption_of.get(number), own, number, photo)
            for record, kind, name in boxes.get(number, []):
                if kind not in names:
                    layout.drop("unknown category", name)
                    continue
                phrase, category, often = names[kind]
                fields = record.fields
                attributes, complete = attributes_of(fields.get("attributes"))
                if attributes.get("rotation"):
                    layout.note("rotated box, read as the box before it was turned")
                if not complete:
                    layout.note("`attributes` that are no text, numbers or booleans by name, left out")
                crowd = "crowd" if fields.get("iscrowd") else ""
                own_id = fields["id"] if type(fields.get("id")) is int else None
                layout.add(
                    phrase,
                    record.field("bbox"),
                    f"{record.where}, `bbox`",
                    canvas,
                    "xywh",
                    True,
                    None,
                    own_id,
                    category,
                    attributes | {"frequency": often},
                    crowd,
                )


def _has(content: Any, key: str) -> bool:
    rows = content["annotations"]
    return isinstance(rows, list) and any(isinstance(row, dict) and key in row for row in rows)


def _categories(source: Source, path: Path, content: Any) -> dict[int, tuple[str, str, str | None]]:
    """id -> phrase, name and how often it is shown; LVIS's phrase is the first of its synonyms, and it alone has the last."""
    found: dict[int, tuple[str, str, str | None]] = {}
    for where, fields in source.entries(path, content.get("categories", []), "categories"):
        with source.record(path, where, fields) as row:
            number, name = row.whole("id"), row.text("name")
            synonyms = row.several("synonyms") if row.has("synonyms") else []
            phrase = str(synonyms[0]) if synonyms else name
            if number in found and found[number][1] != name:
                raise RowError("`id`", f"duplicate id, of {found[number][1]!r} and {name!r}")
            often = row.text("frequency") if row.has("frequency") else None
            found[number] = phrase.lower().replace("_", " ").strip(), name, often
    return found


def _images(source: Source, path: Path, content: Any) -> dict[int, tuple[str, Any]]:
    found: dict[int, tuple[str, Any]] = {}
    for where, fields in source.entries(path, content["images"], "images"):
        with source.record(path, where, fields) as row:
            number = row.whole("id")
            if number in found:
                raise RowError("`id`", f"duplicate image id, which {found[number][0]} has")
            found[number] = where, fields
    return found


def _boxes(source: Source, path: Path, content: Any, images: dict[int, Any]) -> Boxes:
    """Of each listed image its boxes' records, each id once."""
    found: Boxes = defaultdict(list)
    seen: set[Any] = set()
    for where, fields in source.entries(path, content["annotations"], "annotations"):
        with source.record(path, where, fields) as row:
            image, kind, own = row.whole("image_id"), row.whole("category_id"), fields.get("id")
            name = shown(own)
            box = row.field("bbox", "x, y, width and height")
            if not isinstance(box, list) or len(box) != 4:
                raise RowError("`bbox`", f"is {shown(box)}, not four numbers")
            if fields.get("iscrowd") not in (None, 0, 1):
                raise RowError("`iscrowd`", f"is {shown(fields['iscrowd'])}, expected 0 or 1")
            if isinstance(own, int | str) and own in seen:
                source.report.drop("duplicate annotation id", own)
            elif image not in images:
                source.report.drop("annotation of an unlisted image", own)
            else:
                found[image].append((row, kind, name))
            seen.add(own if isinstance(own, int | str) else None)
    return found


def _captions(source: Source, path: Path, content: Any, images: dict[int, Any]) -> list[tuple[int, int, str]]:
    found = []
    for where, fields in source.entries(path, content["annotations"], "annotations"):
        with source.record(path, where, fields) as row:
            own, image, text = row.whole("id"), row.whole("image_id"), row.text("caption", filled=False)
            if image not in images:
                source.report.drop("caption of an unlisted image", own)
            elif not text:
                source.report.drop("empty caption", own)
            else:
                found.append((own, image, text))
    return found


def _side(row: Row, key: str) -> int:
    value = row.field(key, "the photo's size in pixels")
    if type(value) is not int or value < 1:
        raise RowError(f"`{key}`", f"is {shown(value)}: no image size, expected pixels")
    return value


def _photo(row: Row) -> str | None:
    """The photo's name; LVIS's is the end of `coco_url`, after its host."""
    if row.has("file_name"):
        return row.text("file_name")
    address = row.text("coco_url", filled=False) if row.has("coco_url") else ""
    return "/".join(address.split("/")[3:]) or None


def _numbered(fields: Any) -> bool:
    """Whether the photo's name ends in the image's id with zeros before it, as COCO's do, or there is none."""
    name = fields.get("file_name") if isinstance(fields, dict) else None
    digits = re.fullmatch(r"(?:.*[/_])?([0-9]{6,})\.\w+", name) if isinstance(name, str) else None
    return name is None or (digits is not None and int(digits[1]) == fields.get("id"))
