"""Layouts as evaluation reads them: JSON lines to plain records, checked for the fields it uses."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation.files import InputError, write_text


def read_layouts(path: Path, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """Rows start to stop of a layouts file in file order, the others unread; raises InputError naming file and line."""
    rows = []
    try:
        # A file's own lines, not splitlines', which would also cut a caption at the Unicode separators that it may hold.
        with open(path, encoding="utf-8") as file:
            lines = list(islice(file, start, stop))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    for number, line in enumerate(lines, start + 1):
        try:
            row = json.loads(line)
            rows.append(row | {"objects": [dict(thing, box=_box(thing["box"])) for thing in row["objects"]]})
            row["id"], row["image_id"], row["caption"]
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: not a layout ({type(error).__name__}: {error})") from None
    return rows


def _box(value: list[float]) -> list[float]:
    x0, y0, x1, y1 = (float(edge) for edge in value)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"box {value} is not xyxy in the unit square")
    return [x0, y0, x1, y1]


def write_layouts(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
