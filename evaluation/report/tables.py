"""Tables as the page shows them: views of cells in print, each with the number that it sorts by, and the CSV to keep."""

from pathlib import Path
from typing import Any

from evaluation.tables.table import Shown, csv, printed, read_table


def pack_table(path: Path, caveat: str = "") -> dict[str, Any]:
    """A table's JSON as the page shows it; its caveat among the notes unless it is the page's own."""
    table = read_table(path)
    notes = [note for note in (table.caveat, *table.notes) if note and note != caveat]
    views = [
        {
            "lead": view.lead,
            "heads": [column.head for column in columns],
            "numeric": [bool(column.number) for column in columns],
            "rows": [[_pack(cell) for cell in row] for row in cells],
        }
        for view, columns, cells in printed(table)
        if columns
    ]
    return {"name": path.stem, "title": table.title, "views": views, "notes": notes, "csv": csv(table)}


def _pack(cell: Shown) -> dict[str, Any]:
    """Of a cell only what it has."""
    parts = {"text": cell.value, "error": cell.error, "mark": cell.mark, "bold": cell.bold}
    parts["beside"] = cell.published or cell.limits
    return {name: part for name, part in parts.items() if part} | ({} if cell.sort is None else {"sort": cell.sort})
