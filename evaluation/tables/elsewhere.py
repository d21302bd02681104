"""Rows whose images other code made: their mark, and the note that says who made them. Nobody else writes either."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from evaluation.tables.table import Row, Table
from formats.files import InputError

MARK = "§"
# Columns that show a row's name, and those whose values are the rows that they show. A table of claims has the row as `row`,
# and in `method` what its source calls it.
NAMES = {"method": ("method",), "label": ("method",), "name": ("row", "minus", "method"), "against": ("against",)}


def add_option(parser: argparse.ArgumentParser) -> None:
    """--elsewhere, of every program that shows rows."""
    parser.add_argument(
        "--elsewhere",
        nargs="*",
        default=[],
        metavar="METHOD=MADE_BY",
        help="rows that other code made: they are marked",
    )


def read_elsewhere(words: Iterable[str]) -> dict[str, str]:
    """method -> who made its images, of words `METHOD=MADE_BY`."""
    pairs = [word.partition("=") for word in words]
    if odd := [word for word, equals, _ in pairs if not equals]:
        raise InputError(f"--elsewhere {odd[0]}: expected METHOD=MADE_BY")
    return {method: made_by for method, _, made_by in pairs}


def made_by(metrics: Mapping[str, Any]) -> str | None:
    """Who made a row's images, by its metrics file; None where a run of this harness sampled them."""
    return (metrics["source"].get("spec") or {}).get("made_by")


def named(method: str, label: str, elsewhere: Mapping[str, str]) -> str:
    """What figures and the page call a row."""
    return f"{label} {MARK} (made elsewhere)" if method in elsewhere else label


def marked(table: Table, elsewhere: Mapping[str, str]) -> Table:
    """The table with its rows of `elsewhere` marked, and a note on them, if it has any."""
    shown = {column.key for column in table.columns if column.shown}
    there: dict[str, str] = {}

    def mark(row: Row) -> Row:
        found = {
            key: [str(row[by].value) for by in columns if by in row and row[by].value in elsewhere]
            for key, columns in NAMES.items()
            if key in row
        }
        there.update({method: elsewhere[method] for methods in found.values() for method in methods})
        return row | {key: replace(row[key], mark=MARK) for key, methods in found.items() if methods and key in shown}

    rows = [mark(row) for row in table.rows]
    return replace(table, rows=rows, notes=[*table.notes, note(there)]) if there else table


def note(elsewhere: Mapping[str, str]) -> str:
    """Who made the rows, and what a comparison with them is."""
    makers = "; ".join(f"{method} by {made_by}" for method, made_by in elsewhere.items())
    return (
        f"{MARK} Images made elsewhere, from noise of their own: {makers}. They are of the same layouts and are compared "
        "with other rows image by image, but no noise is shared: a difference holds that of both, and is less certain than "
        "one between rows that start alike. What making them cost is not known."
    )
