"""Layouts: a caption, and the things to show with their boxes; JSON lines, every field checked when it is read.

    {"id": 139, "image_id": 7, "caption": "a cat on a mat", "objects": [
        {"phrase": "cat", "box": [0.1, 0.2, 0.6, 0.9], "span": [2, 5], "annotation_id": 11}]}

`box` is xyxy in the unit square of the canvas; `span`, the characters of the caption that name the phrase, and `annotation_id`
may be null or missing. A row may have `captions`, all that people said of the photo, `ignored`, what a photo shows and the
layout leaves out, [{"phrase", "box", "why"}], `photo`, its file's name, `source_id`, the id that its own set gives it, and
`tags`, what that set says of it ({"scenario": "overlap", "level": 3}); an object may have `category` and `attributes`
({"color": "red"}). Tags and attributes are text, numbers or booleans by name. Keys that are not known are passed over. Ids may
be integers, integral floats or digits as text; blank lines and a byte order mark are skipped.
"""

import codecs
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from formats import listed, shown
from formats.fields import LARGEST, is_text, whole
from formats.files import InputError, write_text

Box = tuple[float, float, float, float]
Tag = str | int | float | bool

UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
UNIT_BOX = "[x0, y0, x1, y1] with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1"


class LayoutError(InputError):
    """A layout breaks the file format; the message names file, line, layout, field, value and what was expected."""


def area(box: Box) -> float:
    """Of a box: the share of the canvas that it covers, where its edges are in the unit square."""
    x0, y0, x1, y1 = box
    return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Object:
    """One thing to show: `box` is xyxy in the unit square, `span` the characters of the caption that name it.

    `category` is the class where the phrase says more or other words than its name; `attributes` what it should look like.
    """

    phrase: str
    box: Box
    span: tuple[int, int] | None = None
    annotation_id: int | None = None
    category: str | None = None
    attributes: Mapping[str, Tag] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Ignored:
    """One thing in the photo that is not to be shown, and why: whether it is there counts neither for nor against a row."""

    phrase: str
    box: Box
    why: str


@dataclass(frozen=True)
class Layout:
    """A caption and its objects; `id` is the caption's own id and names every file and seed derived from it.

    `photo` is the photo's name where that is not COCO's, `source_id` the set's own id, `tags` what the set says of the layout.
    """

    id: int
    image_id: int
    caption: str
    objects: tuple[Object, ...] = ()
    captions: tuple[str, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    photo: str | None = None
    source_id: str | int | None = None
    tags: Mapping[str, Tag] = field(default_factory=dict, hash=False)


def read_layouts(path: str | Path, start: int = 0, stop: int | None = None) -> list[Layout]:
    """Layouts start to stop of a JSON-lines file, in file order; those before are parsed no further than to lines.

    Raises LayoutError that lists the first few faulty rows and how many there are; a repeated id is one.
    """
    layouts: dict[int, Layout] = {}
    faults: list[str] = []
    for number, line in islice(_lines(path), start, stop):
        try:
            layout = _layout(_parsed(line))
            if layout.id in layouts:
                raise LayoutError(f"layout {layout.id} occurs twice")
            layouts[layout.id] = layout
        except LayoutError as error:
            faults.append(f"line {number}: {error}")
        except RecursionError:
            faults.append(f"line {number}: JSON nested too deeply, expected one object a line")
    if faults:
        raise LayoutError(f"{path}, {listed(faults)}")
    return list(layouts.values())


def checked(name: str, layouts: Iterable[Layout]) -> list[Layout]:
    """Layouts as `read_layouts` will read them from the file `name`, which is yet to be written; raises LayoutError."""
    found: dict[int, Layout] = {}
    faults: list[str] = []
    for number, layout in enumerate(layouts, 1):
        try:
            if layout.id in found:
                raise LayoutError(f"layout {layout.id} occurs twice")
            found[layout.id] = _layout(as_row(layout))
        except LayoutError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        raise LayoutError(f"{name}, {listed(faults)}")
    return list(found.values())


def write_layouts(path: str | Path, layouts: Iterable[Layout]) -> None:
    """Write layouts as JSON lines, whole or not at all."""
    write_text(path, "".join(as_line(as_row(layout)) for layout in layouts))


def as_row(layout: Layout) -> dict[str, Any]:
    """The JSON row of a layout, what is optional only where there is something in it."""
    row: dict[str, Any] = {"id": layout.id, "image_id": layout.image_id, "caption": layout.caption}
    row["objects"] = [_record(thing) for thing in layout.objects]
    if layout.captions:
        row["captions"] = list(layout.captions)
    if layout.ignored:
        row["ignored"] = [_record(thing) for thing in layout.ignored]
    if layout.photo:
        row["photo"] = layout.photo
    if layout.source_id is not None:
        row["source_id"] = layout.source_id
    if layout.tags:
        row["tags"] = dict(layout.tags)
    return row


def _record(thing: Object | Ignored) -> dict[str, Any]:
    """A thing's fields; what came later to the format stands only where there is something in it."""
    row = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(thing).items()}
    for name in ("category", "attributes"):
        if not row.get(name):
            row.pop(name, None)
    return row


def as_line(row: dict[str, Any]) -> str:
    """A row as it stands in a file of layouts."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers. Cut at line feeds alone: a caption may hold other separators."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(UTF_16):
                    raise LayoutError(f"{path}: UTF-16, expected UTF-8; save it as UTF-8")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise LayoutError(f"{path}: no such file") from None


class _Missing:
    """What stands where a row has no such key."""

    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


class _Long:
    """An integer of more digits than Python turns into a number; no field may be one."""

    def __init__(self, digits: str) -> None:
        self._digits = len(digits.removeprefix("-"))

    def __repr__(self) -> str:
        return f"an integer of {self._digits:,} digits"


def _integer_or_long(text: str) -> "int | _Long":
    return int(text) if len(text) <= 1000 else _Long(text)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise LayoutError(f"key {shown(repeated)} comes twice in one object")
    return row


def _parsed(line: bytes) -> Any:
    try:
        text = line.decode("utf-8")
        return json.loads(text, parse_int=_integer_or_long, object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise LayoutError(f"byte {shown(line[error.start : error.start + 1])} is not UTF-8, expected UTF-8") from None
    except json.JSONDecodeError as error:
        start = shown(line.decode("utf-8")[:40])
        raise LayoutError(
            f"not JSON ({error.msg}, column {error.colno}); expected one object a line, found {start}"
        ) from None


def _wrong(name: str, value: Any, expected: str) -> LayoutError:
    return LayoutError(f"{name} is {shown(value)}, expected {expected}")


def _layout(row: Any) -> Layout:
    if not isinstance(row, dict):
        raise LayoutError(f"expected an object, found {shown(row)}")
    id = _integer(row.get("id", MISSING), "`id`")
    name = f"layout {id}: "
    caption = _text(row.get("caption", MISSING), f"{name}`caption`")
    things = _entries(row.get("objects", MISSING), f"{name}`objects", "records with a `phrase` and a `box`")
    texts = _entries(_optional(row, "captions"), f"{name}`captions", "texts")
    others = _entries(_optional(row, "ignored"), f"{name}`ignored", "records with a `phrase`, a `box` and a `why`")
    return Layout(
        id,
        _integer(row.get("image_id", MISSING), f"{name}`image_id`"),
        caption,
        tuple(_object(thing, caption, entry) for entry, thing in things),
        tuple(_text(text, f"{entry}`") for entry, text in texts),
        tuple(_ignored(other, entry) for entry, other in others),
        None if row.get("photo") is None else _text(row["photo"], f"{name}`photo`", filled=True),
        _source_id(row.get("source_id"), f"{name}`source_id`"),
        _tags(row.get("tags"), f"{name}`tags`"),
    )


def _source_id(value: Any, name: str) -> str | int | None:
    if value is None or (type(value) is int and abs(value) <= LARGEST):
        return value
    if isinstance(value, str) and is_text(value) and value.strip():
        return value
    raise _wrong(name, value, f"text that is not blank, or an integer up to {LARGEST}")


def _tags(value: Any, name: str) -> dict[str, Tag]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object of names with text, numbers or booleans")
    for key, one in value.items():
        if not is_text(key) or not key.strip():
            raise LayoutError(f"{name} has the name {shown(key)}, expected text that is not blank")
        if not is_tag(one):
            raise _wrong(f"{name}.{key}", one, "text, a finite number or a boolean")
    return dict(value)


def is_tag(value: Any) -> bool:
    """Whether a tag or an attribute may have the value: text, a finite number or a boolean."""
    if isinstance(value, float):
        return math.isfinite(value)
    return is_text(value) or isinstance(value, bool) or (type(value) is int and abs(value) <= LARGEST)


def _optional(row: dict[str, Any], key: str) -> Any:
    return [] if row.get(key) is None else row[key]


def _entries(value: Any, name: str, expected: str) -> list[tuple[str, Any]]:
    """(name[place], entry) of a list; names open a quotation that what follows closes."""
    if not isinstance(value, list):
        raise _wrong(f"{name}`", value, f"a list of {expected}")
    return [(f"{name}[{place}]", entry) for place, entry in enumerate(value)]


def _object(row: Any, caption: str, name: str) -> Object:
    phrase, box = _phrase_and_box(row, name, "a record with a `phrase` and a `box`")
    span, annotation = row.get("span"), row.get("annotation_id")
    return Object(
        phrase,
        box,
        None if span is None else _span(span, caption, f"{name}.span`"),
        None if annotation is None else _integer(annotation, f"{name}.annotation_id`", -LARGEST),
        None if row.get("category") is None else _text(row["category"], f"{name}.category`", filled=True),
        _tags(row.get("attributes"), f"{name}.attributes`"),
    )


def _ignored(row: Any, name: str) -> Ignored:
    phrase, box = _phrase_and_box(row, name, "a record with a `phrase`, a `box` and a `why`")
    return Ignored(phrase, box, _text(row.get("why", MISSING), f"{name}.why`", filled=True))


def _phrase_and_box(row: Any, name: str, expected: str) -> tuple[str, Box]:
    if not isinstance(row, dict):
        raise _wrong(f"{name}`", row, expected)
    return _text(row.get("phrase", MISSING), f"{name}.phrase`", filled=True), _box(
        row.get("box", MISSING), f"{name}.box`"
    )


def _integer(value: Any, name: str, least: int = 0) -> int:
    read = whole(value, least)
    if read is None:
        raise _wrong(name, value, f"an integer from {least} to {LARGEST}")
    return read


def _text(value: Any, name: str, filled: bool = False) -> str:
    if not isinstance(value, str) or (filled and not value.strip()):
        raise _wrong(name, value, "text that is not blank" if filled else "text")
    if not is_text(value):
        raise _wrong(name, value, "text without halves of surrogate pairs")
    return value


def _box(value: Any, name: str) -> Box:
    if isinstance(value, list) and len(value) == 4 and all(type(edge) in (int, float) for edge in value):
        x0, y0, x1, y1 = value
        if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
            return float(x0), float(y0), float(x1), float(y1)
    raise _wrong(name, value, UNIT_BOX)


def _span(value: Any, caption: str, name: str) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(edge) is int for edge in value):
        start, stop = value
        if 0 <= start < stop <= len(caption):
            return start, stop
    raise _wrong(name, value, f"[start, stop] with 0 <= start < stop <= {len(caption)}, the caption's length")
