"""A table as the page shows it: title, blocks of columns and rows, notes, and its CSV to keep."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from formats.files import InputError

Block = dict[str, Any]


def read_table(path: Path, caveat: str = "") -> dict[str, Any]:
    """What the .md beside a CSV shows, or the CSV itself where there is none; `caveat` is left out of the notes.

    Raises InputError for a file that is missing or not text.
    """
    beside = path.with_suffix(".md")
    shown = parse_markdown(_text(beside)) if beside.exists() else {"blocks": [], "notes": []}
    if not shown["blocks"]:
        shown["blocks"] = [_parse_csv(path)]
    notes = [note for note in shown["notes"] if note != caveat]
    title = shown.get("title") or path.stem.replace("_", " ").capitalize()
    return shown | {"name": path.stem, "title": title, "notes": notes, "csv": _text(path)}


def parse_markdown(text: str) -> dict[str, Any]:
    """Title (the bold first line), blocks of `lead`, `columns` and `rows`, and notes of a table as evaluation writes them."""
    title, lead, notes, blocks = "", "", [], []
    for part in filter(None, re.split(r"\n\s*\n", text.strip())):
        lines = part.strip().splitlines()
        if lines[0].startswith("|"):
            blocks.append(_block(lead, lines))
            lead = ""
        elif lines[0].startswith("- "):
            notes += [line.removeprefix("- ") for line in lines]
        elif not title and (bold := re.fullmatch(r"\*\*(.+)\*\*|#+ (.+)", part)):
            title = bold[1] or bold[2]
        else:
            lead = " ".join(lines)
    return {"title": title, "blocks": blocks, "notes": notes}


def _block(lead: str, lines: list[str]) -> Block:
    cells = [_cells(line) for line in lines]
    return {"lead": lead, "columns": cells[0], "rows": cells[2:]}


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inside)]


def _parse_csv(path: Path) -> Block:
    lines = list(csv.reader(io.StringIO(_text(path))))
    if not lines:
        raise InputError(f"{path}: empty, expected a table")
    return {"lead": "", "columns": lines[0], "rows": [[_rounded(cell) for cell in line] for line in lines[1:]]}


def _rounded(cell: str) -> str:
    """Six digits of a number that has more."""
    return f"{float(cell):.6g}" if re.fullmatch(r"-?\d+\.\d{5,}(e[-+]?\d+)?", cell) else cell


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text ({error})") from None
