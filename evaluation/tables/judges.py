"""What judges say of each row's images, on average."""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import in_table
from evaluation.tables.adherence import measured_line
from evaluation.tables.table import Column, Table, decimals
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
    return Table("Judges", columns, [measured_line(row, metrics) for row in rows], [NOTE])
