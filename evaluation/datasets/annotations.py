"""COCO's annotation files: every field that is used is checked as its record is read.

What can be read without doubt is read and counted (digits as text, an integral float, a missing `iscrowd`); what cannot is
one line naming file, record, field, value and what was expected, the first few and the count. The rules:

- Ids of images, categories and captions are integers from 0 to 2^63 - 1; an annotation's own id is only a name.
- An id is one image's, and one category's among those in use. Records that are the same in every field count once.
- A box is four finite numbers, its sides not negative. `iscrowd` is 0 or 1, false or true.
- A side of an image that is missing or no positive integer is None here: the photo says it.
- A caption is text; one without a word is left out where its image has another.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from evaluation.datasets.dropped import Report
from evaluation.datasets.reading import attributes_of
from formats import listed, shown
from formats.fields import LARGEST, is_text, whole
from formats.files import InputError, read_json
from formats.layouts import Tag

_DIGITS = re.compile(r"\s*0*([0-9]{1,19})(?:\.0*)?\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_FLAGS = {"0": False, "1": True, "false": False, "true": True}
# All that is kept of a file: nine tenths of it are outlines, whose numbers would take gigabytes.
_READ = {"images", "annotations", "categories", "id", "width", "height", "file_name", "image_id", "bbox", "category_id"}
_READ |= {"iscrowd", "caption", "name", "attributes"}
# What tells a record from what stands in one, such as attributes, of which all is kept.
_OF_RECORDS = _READ - {"id", "name"} | {"segmentation", "supercategory"}
_TWICE = object()  # the key of a record under which stand the keys that it has twice
_MISSING = object()

Row = dict[Any, Any]
Box = tuple[float, float, float, float]
Record = TypeVar("Record", bound="ImageRecord | BoxRecord | CaptionRecord | CategoryRecord")


class ImageRecord(NamedTuple):
    """An image as listed; a side is None where the record has none that can be read."""

    id: int
    width: int | None
    height: int | None
    file_name: str | None


class BoxRecord(NamedTuple):
    """A box as annotated: x, y, width and height in pixels of the photo; `id` names it, where it has a name; its attributes."""

    id: int | str | None
    image_id: int
    category_id: int
    xywh: Box
    crowd: bool
    attributes: tuple[tuple[str, Tag], ...] = ()


class CaptionRecord(NamedTuple):
    """One caption of an image, stripped."""

    id: int
    image_id: int
    caption: str


class CategoryRecord(NamedTuple):
    """What a `category_id` stands for."""

    id: int
    name: str


@dataclass(frozen=True)
class Instances:
    """An instances file: images by id, boxes `of` an image by ascending id, names of the categories that boxes have."""

    images: dict[int, ImageRecord]
    of: dict[int, list[BoxRecord]]
    names: dict[int, str]


@dataclass(frozen=True)
class Captions:
    """A captions file: images by id, captions `of` an image by ascending id, and whether two captions share an id."""

    images: dict[int, ImageRecord]
    of: dict[int, list[CaptionRecord]]
    ids_repeat: bool


def read_instances(path: Path, report: Report) -> Instances:
    """Read instances_*.json; raises InputError naming what cannot be read, `report` counts what was left out or converted."""
    file = _File(path, report)
    images = file.images(file.records("images", file.image))
    categories = file.records("categories", file.category)
    of, _ = file.by_image(file.records("annotations", file.box), images)
    used = {row.category_id for rows in of.values() for row in rows}
    names = file.names(row for row in categories if row.id in used)
    file.refuse()
    return Instances(images, of, names)


def read_captions(path: Path, report: Report) -> Captions:
    """Read captions_*.json; raises InputError naming what cannot be read, `report` counts what was left out or converted."""
    file = _File(path, report)
    images = file.images(file.records("images", file.unsized))
    said = file.records("annotations", file.caption)
    captioned = {record.image_id for record in said if record.caption}
    for record, fault in file.wordless:
        if record.image_id in captioned or record.image_id not in images:
            report.drop(f"caption without a word in {path.name}", record.id)
        else:
            file.faults.append(f"{fault}, expected text, since image {record.image_id} has no other caption")
    of, ids_repeat = file.by_image([record for record in said if record.caption], images)
    file.refuse()
    return Captions(images, of, ids_repeat)


def _integer(value: Any) -> int | None:
    """`formats.fields.whole`, text padded or with a zero fraction included: exports of tables have such ids."""
    if isinstance(value, str) and (digits := _DIGITS.fullmatch(value)):
        value = digits[1]
    return whole(value)


def _decimal(value: Any) -> float | None:
    """The finite number that a value is without doubt: an int, a float, or one written as text."""
    if type(value) not in (int, float) and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = map(_decimal, value)
    if x is None or y is None or width is None or height is None or width < 0 or height < 0:
        return None
    return x, y, width, height


def _flag(value: Any) -> bool | None:
    if value is None or value is _MISSING:
        return False
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return bool(value) if type(value) in (int, float, bool) and value in (0, 1) else None


class _Unreadable(Exception):
    """A field of the record at hand cannot be read."""


class _File:
    """The records of one file as they are read: the one at hand, and all that was found wrong."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path, self.report = path, report
        self.content = read_json(path, _kept)
        self.faults: list[str] = []
        self.wordless: list[tuple[CaptionRecord, str]] = []
        self.part, self.place, self.row = "", 0, Row()
        if not isinstance(self.content, dict):
            found = type(self.content).__name__
            raise InputError(f"{path}: expected COCO's object with `images` and `annotations`, found {found}")
        if _TWICE in self.content:
            raise InputError(f"{path}: `{self.content[_TWICE]}` stands twice in one object; which of them holds?")

    def records(self, part: str, read: Callable[[], Record]) -> list[Record]:
        """One part of the file, each record by `read`, which looks at the record at hand; those it cannot read are faults."""
        rows = self.content.pop(part, None)
        if not isinstance(rows, list):
            raise InputError(f"{self.path}: `{part}` should be a list, found {type(rows).__name__}")
        self.part, found = part, []
        for place, row in enumerate(rows):
            # Freed as it is read: both forms of a whole file at once would take gigabytes.
            rows[place] = None
            self.place, self.row = place, row
            try:
                if not isinstance(row, dict):
                    raise _Unreadable(f"is {shown(row)}, expected an object")
                if _TWICE in row:
                    raise _Unreadable(f"has `{row[_TWICE]}` twice")
                found.append(read())
            except _Unreadable as error:
                self.faults.append(f"{self._name()} {error}")
        return found

    def _name(self) -> str:
        number = self.row.get("id", _MISSING) if isinstance(self.row, dict) else _MISSING
        return f"{self.part}[{self.place}]" + ("" if number is _MISSING else f" (id {shown(number)})")

    def refuse(self) -> None:
        """Raises InputError if anything was found wrong."""
        if self.faults:
            raise InputError(f"{self.path}: {listed(self.faults)}")

    def image(self) -> ImageRecord:
        return ImageRecord(self._id("id"), self._side("width"), self._side("height"), self._file_name())

    def unsized(self) -> ImageRecord:
        return ImageRecord(self._id("id"), None, None, self._file_name())

    def category(self) -> CategoryRecord:
        name = self.row.get("name", _MISSING)
        if not is_text(name) or not name.strip():
            raise self._unreadable("name", "a name as text")
        return CategoryRecord(self._id("id"), name.strip())

    def box(self) -> BoxRecord:
        value, flag = self.row.get("bbox"), self.row.get("iscrowd", _MISSING)
        box, crowd = _box(value), _flag(flag)
        if box is None:
            raise self._unreadable("bbox", "[x, y, width, height], finite and the last two not negative")
        if crowd is None:
            raise self._unreadable("iscrowd", "0 or 1")
        if isinstance(value, list) and any(isinstance(edge, str) for edge in value):
            self._note("`bbox` read from text")
        if type(flag) is not int:
            self._note(
                "no `iscrowd`, read as 0" if flag in (None, _MISSING) else "`iscrowd` read from text, float or boolean"
            )
        attributes, complete = attributes_of(self.row.get("attributes"))
        if not complete:
            self._note("`attributes` that are no text, numbers or booleans by name, left out")
        own = self._annotation_id(), self._id("image_id"), self._id("category_id")
        return BoxRecord(*own, box, crowd, tuple(attributes.items()))

    def caption(self) -> CaptionRecord:
        text = self.row.get("caption")
        if text is not None and not is_text(text):
            raise self._unreadable("caption", "text of whole Unicode characters")
        record = CaptionRecord(self._id("id"), self._id("image_id"), (text or "").strip())
        if not record.caption:
            self.wordless.append((record, f"{self._name()} has `caption` {shown(text)}"))
        return record

    def _id(self, key: str) -> int:
        value = self.row.get(key)
        found = _integer(value)
        if found is None:
            raise self._unreadable(key, "an integer from 0 to 2^63 - 1")
        if type(value) is not int:
            self._note(f"`{key}` read as an integer from text or float")
        return found

    def _annotation_id(self) -> int | str | None:
        value = self.row.get("id")
        if type(value) is int and -LARGEST <= value <= LARGEST:
            return value
        found = _integer(value)
        self._note(
            "`id` read as an integer from text or float" if found is not None else "`id` that is no integer, left out"
        )
        return found if found is not None or not is_text(value) else str(value)

    def _side(self, key: str) -> int | None:
        value = self.row.get(key)
        found = _integer(value) or None
        if found is None:
            self._note(f"`{key}` that is missing or no positive integer, taken from the photo")
        elif type(value) is not int:
            self._note(f"`{key}` read as an integer from text or float")
        return found

    def _file_name(self) -> str | None:
        name = self.row.get("file_name")
        if name is not None and (not is_text(name) or "\0" in name):
            raise self._unreadable("file_name", "a file's name as text")
        return name or None

    def _unreadable(self, key: str, expected: str) -> _Unreadable:
        found = f"has no `{key}`" if key not in self.row else f"has `{key}` {shown(self.row[key])}"
        return _Unreadable(f"{found}, expected {expected}")

    def _note(self, what: str) -> None:
        self.report.note(f"{self.path.name}, {self.part}: {what}", self.row.get("id"))

    def images(self, records: list[ImageRecord]) -> dict[int, ImageRecord]:
        """Images by id; one listed twice counts once, an id of two different images is a fault."""
        images: dict[int, ImageRecord] = {}
        for record in records:
            first = images.setdefault(record.id, record)
            if first is record:
                continue
            if first == record:
                self.report.drop(f"image listed twice in {self.path.name}", record.id)
            else:
                both = " and ".join(f"{shown(one.file_name)} ({one.width} x {one.height})" for one in (first, record))
                self.faults.append(f"`images` has id {record.id} twice, for {both}, expected ids of one image each")
        return images

    def names(self, categories: Iterable[CategoryRecord]) -> dict[int, str]:
        """Names by id; an id of two names is a fault."""
        names: dict[int, str] = {}
        for record in categories:
            if (first := names.setdefault(record.id, record.name)) != record.name:
                both = f"{shown(first)} and {shown(record.name)}"
                self.faults.append(
                    f"`categories` has id {record.id} twice, for {both}, expected ids of one category each"
                )
        return names

    def by_image(self, records: list[Any], images: dict[int, ImageRecord]) -> tuple[dict[int, list[Any]], bool]:
        """Records of listed images, by image and ascending id, and whether ids of different records repeat."""
        of: dict[int, list[Any]] = defaultdict(list)
        for record in records:
            if record.image_id in images:
                of[record.image_id].append(record)
            else:
                self.report.drop(f"annotation of an unlisted image in {self.path.name}", record.id)
        if records and images and not of:
            self.faults.append(
                f"none of {len(records)} annotations is of an image listed there: the first has `image_id` "
                f"{records[0].image_id}, the first of `images` `id` {next(iter(images))}"
            )
        seen: set[int | str] = set()
        repeated = 0
        for image_id, rows in of.items():
            of[image_id] = sorted(dict.fromkeys(rows), key=by_id)
            for record in (Counter(rows) - Counter(of[image_id])).elements() if len(of[image_id]) < len(rows) else ():
                self.report.drop(f"annotation listed twice in {self.path.name}", record.id)
            for record in (record for record in of[image_id] if record.id is not None):
                if record.id in seen:
                    repeated += 1
                    self.report.note(f"annotation ids that repeat in {self.path.name}", record.id)
                seen.add(record.id)
        return dict(of), repeated > 0


def by_id(record: BoxRecord | CaptionRecord) -> int:
    """Numbers ascending, then all that is none in the file's order."""
    return record.id if isinstance(record.id, int) else LARGEST + 1


def _kept(pairs: list[tuple[str, Any]]) -> Row:
    """Of a record the keys that are read, of another JSON object all; a key that stands twice stands under _TWICE."""
    of_record = any(key in _OF_RECORDS for key, _ in pairs)
    kept = [pair for pair in pairs if pair[0] in _READ] if of_record else pairs
    row: Row = dict(kept)
    if len(row) < len(kept):
        row[_TWICE] = next(key for key, count in Counter(key for key, _ in kept).items() if count > 1)
    return row
