"""A table: a row a layout, `id, caption, obj1, bbox1, obj2, bbox2, ...`, or a row a box, `id, caption, phrase, x0, y0, x1, y1`.

The caption's column may be called prompt or text, that of a box bbox1 or box1: four numbers with commas or blanks between them.
Boxes are xyxy of the unit square unless `boxes` and `canvas` say otherwise. A box may have `category`, or category1; whatever
other columns there are become the layout's tags, and columns that begin with `attribute_` the box's attributes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.datasets.reading import UNIT, Draft, Row, RowError, Source, number, numbers

TAKES = ("boxes", "canvas")
CAPTION = ("caption", "prompt", "text")
EDGES = {"xyxy": ("x0", "y0", "x1", "y1"), "xywh": ("x", "y", "w", "h")}
OF_A_BOX = {"phrase", "category", *EDGES["xyxy"], *EDGES["xywh"]}
NUMBERED = re.compile("(obj|phrase|bbox|box|category)([0-9]+)")


def read(source: Source) -> None:
    """The rows of every table; those of one id, one after another, are one layout where rows are boxes."""
    for path in source.files("*.csv"):
        rows = list(source.table(path, "id"))
        if rows and "phrase" in rows[0][1]:
            groups: list[list[tuple[int, dict[str, str]]]] = []
            for number_, cells in rows:
                if groups and groups[-1][0][1]["id"] == cells["id"]:
                    groups[-1].append((number_, cells))
                else:
                    groups.append([(number_, cells)])
            for group in groups:
                _by_box(source, path, group)
        else:
            for number_, cells in rows:
                with source.row(path, f"row {number_} (id {cells['id']})", cells) as row:
                    _by_layout(row)


def _begun(row: Row, cells: Mapping[str, str]) -> Draft:
    name = next((name for name in CAPTION if name in cells), None)
    others = {key: _value(value) for key, value in cells.items() if key not in {"id", *CAPTION, *OF_A_BOX, "photo"}}
    tags = {
        key: value for key, value in others.items() if not NUMBERED.fullmatch(key) and not key.startswith("attribute_")
    }
    photo = cells.get("photo", "").strip() or None
    return row.layout(row.text(name, False) if name else None, row.text("id"), photo=photo, tags=tags)


def _value(text: str) -> str | int:
    """A tag: a whole number where the text is one as numbers are written, and not an id such as 007."""
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,17}", text.strip(), re.ASCII) else text.strip()


def _by_layout(row: Row) -> None:
    layout, cells = _begun(row, row.fields), row.fields
    pairs = {match[2] for match in map(NUMBERED.fullmatch, cells) if match}
    for place in sorted(pairs, key=int):
        (phrase_key, phrase), (box_key, box) = (
            _of(cells, kinds, place) for kinds in (("obj", "phrase"), ("bbox", "box"))
        )
        if not phrase and not box:
            continue
        if not phrase or not box:
            raise RowError(f"`{phrase_key if phrase else box_key}`", f"without `{box_key if phrase else phrase_key}`")
        edges = numbers(box, f"`{box_key}`", "," if "," in box else None)
        _add(row.source, layout, phrase, edges, f"`{box_key}`", {}, cells.get(f"category{place}", "").strip() or None)


def _of(cells: Mapping[str, str], kinds: tuple[str, ...], place: str) -> tuple[str, str]:
    key = next((f"{kind}{place}" for kind in kinds if f"{kind}{place}" in cells), f"{kinds[0]}{place}")
    return key, cells.get(key, "").strip()


def _by_box(source: Source, path: Path, group: list[tuple[int, dict[str, str]]]) -> None:
    first, cells = group[0]
    with source.row(path, f"row {first} (id {cells['id']})", cells) as row:
        layout = _begun(row, cells)
        keys = EDGES[source.options.boxes or "xyxy"]
        for number_, box in group:
            if _caption(box) != _caption(cells):
                raise RowError(f"row {number_}, caption", "differs from that of the rows before it with the same id")
            if not box["phrase"].strip() and not any(box.get(key, "").strip() for key in keys):
                continue  # a layout without boxes
            if missing := [key for key in keys if key not in box]:
                raise RowError(f"column `{missing[0]}`", f"missing, expected {', '.join(keys)}")
            edges = [number(box[key].strip(), f"row {number_}, `{key}`") for key in keys]
            own = {key.removeprefix("attribute_"): box[key].strip() for key in box if key.startswith("attribute_")}
            _add(source, layout, box["phrase"], edges, f"row {number_}", own, box.get("category", "").strip() or None)


def _caption(cells: Mapping[str, str]) -> list[str]:
    return [cells[name].strip() for name in CAPTION if name in cells]


def _add(
    source: Source,
    layout: Draft,
    phrase: str,
    edges: list[float],
    field: str,
    own: Mapping[str, Any],
    category: str | None,
) -> None:
    canvas, form = source.options.canvas or UNIT, source.options.boxes or "xyxy"
    layout.add(phrase, edges, field, canvas, form, category=category, attributes=own)
