"""Layouts as evaluation handles them: the checked rows of `formats.layouts` as plain records."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from formats import layouts
from formats.files import write_text


def read_layout_rows(path: Path, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """Rows start to stop of a layouts file as records, in file order; raises InputError as `formats.layouts.read_layouts`."""
    return [layouts.as_row(layout) for layout in layouts.read_layouts(path, start, stop)]


def write_layouts(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all."""
    write_text(path, "".join(map(layouts.as_line, rows)))


def judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """`told`, and what measured numbers may also depend on: attributes and tags that metrics ask for, and what is ignored."""
    attributes = [dict(thing.get("attributes", {})) for thing in row["objects"]]
    return told(row) | {"attributes": attributes, "tags": row.get("tags", {}), "ignored": row.get("ignored", [])}


def told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a method is told of a layout, and what is measured of it: where it agrees, two images are of the same layout."""
    things = [(thing["phrase"], tuple(thing["box"]), thing.get("category")) for thing in row["objects"]]
    return {"caption": row["caption"], "objects": things}
