"""What judges say of each row's images, on average."""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import in_table
from evaluation.tables.table import Cell, Column, Table, decimals
from formats.files import InputError

NOTE = "A number an image, by its caption; more is better. ± one standard error (jackknife over images)."


def judges_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a row; raises InputError where one row's judges are not the first row's."""
    about = rows[0]["protocol"]
    metrics = in_table("judges", about)
    for row in rows:
        if odd := [name for one in metrics if row["protocol"].get(name := one.extractor) != about[name]]:
            raise InputError(
                f"{row['method']}: {odd[0]} is another judge than {rows[0]['method']}'s; measure both again"
            )
    columns = [Column("method", "Method")]
    columns += [Column(metric.name, metric.head, decimals(metric.digits), metric.scale) for metric in metrics]
    lines = []
    for row in rows:
        found = {metric.name: row["metrics"].get(metric.name) or {} for metric in metrics}
        lines.append(
            {"method": Cell(row["method"])}
            | {name: Cell(result.get("value"), result.get("se")) for name, result in found.items()}
        )
    return Table("Judges", columns, lines, [NOTE])
