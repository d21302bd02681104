"""A table: cells with their errors and marks, what is shown of it, and one renderer for all of its forms.

`{name}.json` holds the whole table and is what other programs read. Of it are made `{name}.csv`, all columns in full
precision; `{name}.md`; and `{name}.tex`, for booktabs.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from formats.files import InputError, read_object, write_json, write_text

P_VALUE = "p"


@dataclass(frozen=True)
class Cell:
    """A number or text (None: nothing was measured) with its standard error, a mark behind it, and whether it is bold.

    published: the value of the paper, in brackets; least and most: of several values, in brackets.
    """

    value: float | str | None = None
    standard_error: float | None = None
    mark: str = ""
    bold: bool = False
    published: float | None = None
    least: float | None = None
    most: float | None = None

    @staticmethod
    def of(value: Any, standard_error: Any = None, **parts: Any) -> "Cell":
        """A cell of numbers as pandas has them, whose nan is none."""
        return Cell(_plain(value), _plain(standard_error), **parts)


def _plain(number: Any) -> Any:
    if number is None or pd.isna(number):
        return None
    return number.item() if isinstance(number, np.generic) else number


@dataclass(frozen=True)
class Column:
    """key: in CSV and JSON; head: above the column; number: the format of its numbers times `scale`, or P_VALUE; "": of text.

    shown: in the views that name no columns of their own.
    """

    key: str
    head: str = ""
    number: str = ""
    scale: float = 1
    shown: bool = True


@dataclass(frozen=True)
class View:
    """A part of a table as it is printed: a sentence above it, its columns and its rows (None: all); heads: other ones."""

    lead: str = ""
    columns: list[str] | None = None
    rows: list[int] | None = None
    heads: dict[str, str] = field(default_factory=dict)


Row = dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """A cell that a row lacks is empty. Notes say how to read the table; `caveat` is a note that a page shows elsewhere."""

    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]
    views: list[View] = field(default_factory=lambda: [View()])
    caveat: str = ""

    def frame(self) -> pd.DataFrame:
        """Every column in full precision; beside one `{key}_se`, `{key}_published` … where any of its cells has that."""
        columns: dict[str, Any] = {}
        for column in self.columns:
            cells = [row.get(column.key, Cell()) for row in self.rows]
            columns[column.key] = (
                _numbers([cell.value for cell in cells]) if column.number else [cell.value for cell in cells]
            )
            for part, empty in PARTS.items():
                found = [getattr(cell, part) for cell in cells]
                if any(value != empty for value in found):
                    columns[f"{column.key}_{SUFFIXES.get(part, part)}"] = found
        return pd.DataFrame(columns)


def _numbers(values: list[Any]) -> "pd.Series[Any]":
    """Integers where they all are, else floats, nan for none."""
    return pd.Series(values, dtype=float if None in values or not values else None)


# The parts of a cell beside its value, and what each is where there is none.
PARTS = {name: default for name, default in asdict(Cell()).items() if name != "value"}
SUFFIXES = {"standard_error": "se"}


@dataclass(frozen=True)
class Shown:
    """A cell in print; each part is empty where there is none. sort: the number that it is sorted by."""

    value: str
    error: str = ""
    mark: str = ""
    limits: str = ""
    published: str = ""
    bold: bool = False
    sort: float | None = None

    def text(self) -> str:
        """All but the published value."""
        error, limits = f" ± {self.error}" * bool(self.error), f" [{self.limits}]" * bool(self.limits)
        return f"{self.value}{error}{self.mark}{limits}"


def shown(cell: Cell, column: Column) -> Shown:
    """A zero has no sign, and a missing number is a dash."""
    if not column.number:
        return Shown("" if cell.value is None else one_line(str(cell.value)), mark=cell.mark, bold=cell.bold)
    value, error, published, *limits = (
        _number(part, column) for part in (cell.value, cell.standard_error, cell.published, cell.least, cell.most)
    )
    sort = cell.value if isinstance(cell.value, float | int) else None
    between = ", ".join(filter(None, limits))
    return Shown(value or "-", error.lstrip("+"), cell.mark, between, published, cell.bold, sort)


def _number(value: Any, column: Column) -> str:
    if value is None:
        return ""
    if column.number == P_VALUE:
        return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
    return f"{value * column.scale:{column.number}}"


def decimals(digits: int, sign: str = "") -> str:
    """The format of numbers with so many decimals; `sign` "+": positive ones bear it."""
    return f"{sign}z.{digits}f"


def printed(table: Table) -> list[tuple[View, list[Column], list[list[Shown]]]]:
    """Each view with its columns, renamed as it says, and its cells."""
    known = {column.key: column for column in table.columns}
    views = []
    for view in table.views:
        keys = [column.key for column in table.columns if column.shown] if view.columns is None else view.columns
        rows = table.rows if view.rows is None else [table.rows[number] for number in view.rows]
        cells = [[shown(row.get(key, Cell()), known[key]) for key in keys] for row in rows]
        columns = [Column(key, view.heads.get(key, known[key].head), known[key].number) for key in keys]
        views.append((view, columns, cells))
    return views


def markdown(table: Table) -> str:
    """Title, views and notes."""
    parts = [f"**{table.title}**"]
    for view, columns, cells in printed(table):
        parts += [view.lead] * bool(view.lead) + [markdown_grid(columns, cells)] * bool(columns)
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in _notes(table))]) + "\n"


def markdown_grid(columns: Sequence[Column], cells: Sequence[Sequence[Shown]]) -> str:
    """Heads and rows."""
    lines = [
        [
            (f"**{cell.text()}**" if cell.bold else cell.text()) + (f" [{cell.published}]" if cell.published else "")
            for cell in row
        ]
        for row in cells
    ]
    escaped = [[text.replace("|", r"\|") for text in line] for line in lines]
    align = ["right" if column.number else "left" for column in columns]
    return tabulate(escaped, [column.head for column in columns], "pipe", colalign=align, disable_numparse=True)


def _notes(table: Table) -> list[str]:
    """The caveat and the notes, each on one line."""
    return [one_line(note) for note in [table.caveat] * bool(table.caveat) + table.notes]


def one_line(text: str) -> str:
    """Text from outside, such as a tag, where a line break would end a row."""
    return re.sub(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*", " ", text)


def latex(table: Table) -> str:
    """One `table` for booktabs, a tabular a view; a published value has a column of its own beside ours."""
    notes = _notes(table)
    lines = ["% needs \\usepackage{booktabs}", *(f"% {note}" for note in notes), r"\begin{table}\centering\small"]
    lines.append(rf"\caption{{{escaped(' '.join([f'{table.title}.', *notes]))}}}")
    for view, columns, cells in printed(table):
        lines += [rf"\par {escaped(view.lead)}\par"] * bool(view.lead) + _tabular(columns, cells) * bool(columns)
    return "\n".join([*lines, r"\end{table}", ""])


def _tabular(columns: Sequence[Column], cells: Sequence[Sequence[Shown]]) -> list[str]:
    paired = [any(row[place].published for row in cells) for place in range(len(columns))]
    kinds = "".join("r" * (1 + pair) if column.number else "l" for column, pair in zip(columns, paired, strict=True))
    heads, rules, second, place = [], [], [], 1
    for column, pair in zip(columns, paired, strict=True):
        head = escaped(column.head)
        heads.append(rf"\multicolumn{{2}}{{c}}{{{head}}}" if pair else head)
        second.append("ours & paper" if pair else "")
        rules += [rf"\cmidrule(lr){{{place}-{place + 1}}}"] * pair
        place += 1 + pair
    rows = []
    for row in cells:
        texts: list[str] = []
        for cell, pair in zip(row, paired, strict=True):
            ours = escaped(cell.text())
            texts.append(rf"\textbf{{{ours}}}" if cell.bold else ours)
            texts += [escaped(cell.published) or "-"] * pair
        rows.append(" & ".join(texts) + r" \\")
    top = [" & ".join(heads) + r" \\", *([" ".join(rules), " & ".join(second) + r" \\"] if any(paired) else [])]
    return [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", *top, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]


LATEX = str.maketrans(
    {plain: f"\\{plain}" for plain in "_&%#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"±": r"\textpm{}", "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}"}
    | {"§": r"\textsection{}", "¶": r"\textparagraph{}"}
)


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return text.translate(LATEX)


def csv(table: Table) -> str:
    """`frame` as CSV."""
    file = io.StringIO()
    # A zero has no sign.
    table.frame().map(lambda cell: cell + 0.0 if isinstance(cell, float) else cell).to_csv(file, index=False)
    return file.getvalue()


def write_table(table: Table, out: Path) -> None:
    """Write `out`.json, .csv, .md and .tex, each whole or not at all."""
    write_json(out.with_name(f"{out.name}.json"), as_json(table))
    for suffix, render in (("csv", csv), ("md", markdown), ("tex", latex)):
        write_text(out.with_name(f"{out.name}.{suffix}"), render(table))


def as_json(table: Table) -> dict[str, Any]:
    """The table as JSON; of a cell only what it has."""
    rows = [{key: _parts(cell) for key, cell in row.items()} for row in table.rows]
    return {**asdict(table), "rows": rows}


def _parts(cell: Cell) -> dict[str, Any]:
    return {"value": cell.value} | {name: found for name in PARTS if (found := getattr(cell, name)) != PARTS[name]}


def read_table(path: Path) -> Table:
    """A table of a JSON file that `write_table` wrote; raises InputError for another file."""
    content = read_object(path, "a table", "title", "columns", "rows", "notes", "views", "caveat")
    try:
        return Table(
            title=content["title"],
            columns=[Column(**column) for column in content["columns"]],
            rows=[{key: Cell(**cell) for key, cell in row.items()} for row in content["rows"]],
            notes=content["notes"],
            views=[View(**view) for view in content["views"]],
            caveat=content["caveat"],
        )
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a table ({error}); delete it and run again") from None


def read_frame(path: Path, *columns: str) -> pd.DataFrame:
    """A table's `frame`; raises InputError where it lacks one of the columns."""
    frame = read_table(path).frame()
    if missing := [column for column in columns if column not in frame]:
        raise InputError(f"{path}: no column `{missing[0]}`; delete it and run again")
    return frame
