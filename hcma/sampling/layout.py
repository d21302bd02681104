"""Layouts: what an image should show and where, as JSON lines."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hcma.sampling import InputError
from hcma.sampling.atomic import replacing

Box = tuple[float, float, float, float]


class LayoutError(InputError):
    """A layout breaks the file format; the message names the layout by its id."""


@dataclass(frozen=True)
class Object:
    """One thing to show: `box` is xyxy in the unit square, `span` the characters of the caption that name it."""

    phrase: str
    box: Box
    span: tuple[int, int] | None = None
    annotation_id: int | None = None


@dataclass(frozen=True)
class Layout:
    """A caption and its objects; `id` is the caption's own id and names every file and seed derived from it."""

    id: int
    image_id: int
    caption: str
    objects: tuple[Object, ...] = ()
    captions: tuple[str, ...] = ()


def read_layouts(path: str | Path) -> list[Layout]:
    """Layouts of a JSON-lines file, in file order.

    Raises LayoutError naming the file, line and layout id for a row that is not valid or an id that occurs twice.
    """
    layouts: dict[int, Layout] = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                layout = _layout(json.loads(line))
            except (LayoutError, json.JSONDecodeError) as error:
                raise LayoutError(f"{path}, line {number}: {error}") from None
            if layout.id in layouts:
                raise LayoutError(f"{path}, line {number}: layout {layout.id} occurs twice")
            layouts[layout.id] = layout
    return list(layouts.values())


def write_layouts(path: str | Path, layouts: Iterable[Layout]) -> None:
    """Write layouts as JSON lines, atomically; `captions` only where there are any."""
    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        for layout in layouts:
            file.write(json.dumps(as_row(layout), ensure_ascii=False) + "\n")


def as_row(layout: Layout) -> dict[str, Any]:
    """The JSON row of a layout."""
    row = asdict(layout)
    if not layout.captions:
        del row["captions"]
    return row


def _layout(row: Any) -> Layout:
    if not isinstance(row, dict):
        raise LayoutError(f"expected an object, found {json.dumps(row)[:60]}")
    ids = [row.get("id"), row.get("image_id")]
    if not all(type(value) is int and value >= 0 for value in ids):
        raise LayoutError(f"`id` and `image_id` must be non-negative integers, found {ids}")
    name = f"layout {row['id']}"
    if not isinstance(row.get("caption"), str):
        raise LayoutError(f"{name}: `caption` must be text, found {row.get('caption')!r}")
    objects, captions = row.get("objects"), row.get("captions", [])
    if not isinstance(objects, list):
        raise LayoutError(f"{name}: `objects` must be a list, found {objects!r}")
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise LayoutError(f"{name}: `captions` must be a list of texts, found {captions!r}")
    caption = row["caption"]
    parsed = tuple(_object(item, caption, f"{name}, object {k}") for k, item in enumerate(objects))
    return Layout(row["id"], row["image_id"], caption, parsed, tuple(captions))


def _object(row: Any, caption: str, name: str) -> Object:
    if not isinstance(row, dict) or not isinstance(row.get("phrase"), str):
        raise LayoutError(f"{name}: expected a record with a `phrase`, found {row!r}")
    annotation_id = row.get("annotation_id")
    if annotation_id is not None and type(annotation_id) is not int:
        raise LayoutError(f"{name}: `annotation_id` must be an integer or null, found {annotation_id!r}")
    return Object(row["phrase"], _box(row.get("box"), name), _span(row.get("span"), caption, name), annotation_id)


def _box(value: Any, name: str) -> Box:
    if isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in value):
        x0, y0, x1, y1 = map(float, value)
        if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
            return x0, y0, x1, y1
    raise LayoutError(f"{name}: box {value} is not xyxy in the unit square")


def _span(value: Any, caption: str, name: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value):
        start, end = value
        if 0 <= start < end <= len(caption):
            return start, end
    raise LayoutError(f"{name}: span {value} does not lie in the caption of {len(caption)} characters")
