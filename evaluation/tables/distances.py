"""How far each row's images and regions are from the real ones, by every distance that is measured."""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import Metric, in_table, values_of
from evaluation.metrics.neighbours import COUNTS
from evaluation.metrics.summary import LEVELS
from evaluation.tables.published import WITHOUT_PHOTOS
from evaluation.tables.table import Cell, Column, Row, Table, decimals

SAMPLES = ("n", *COUNTS)


def distances_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a level and row."""
    metrics = list({metric.quantity: metric for metric in in_table("distances", rows[0]["protocol"])}.values())
    lines = [_line(level, row) for level in LEVELS for row in rows]
    columns = [Column("level", "Level"), Column("method", "Method")]
    for metric in metrics:
        columns += [_column(metric.quantity, metric.head, metric)]
        columns += [_column(f"{metric.quantity}_{part}", head, metric) for part, head in _parts(metric).items()]
    bare = all(row["reference"] is None for row in rows)
    # Without photos every distance is a dash, and stands there nevertheless.
    asked = {metric.quantity for metric in metrics if bare and metric.extractor in rows[0]["protocol"]}
    # One that takes more samples than there are stands there as a dash, too.
    asked |= {metric.quantity for metric in metrics if metric.least > 2}
    used = [
        c
        for c in columns
        if c.key in asked or not c.number or any(line.get(c.key, Cell()).value is not None for line in lines)
    ]
    hidden = [Column(name, number="d", shown=False) for name in SAMPLES]
    thinned = thinning(lines)
    notes = [
        "All by the features of the Frechet distance (FD). Debiased: by the jackknife, of the bias that a finite sample has, "
        "where that leaves more samples than dimensions; floor: what two samples of this size from one distribution are "
        "expected to differ by; legacy: pytorch-fid's resize.",
        f"KID: all pairs{' of the samples named below' * bool(thinned)}, kernel (x . y / D + 1)^3, unbiased. Precision, "
        "recall, density, coverage: 5 nearest neighbours; their values depend on the number of samples, so compare rows and "
        "not papers.",
        *thinned,
    ]
    notes += [
        f"{metric.head}: by the features of that network; a dash where a row or `real` has fewer than {metric.least:,} samples."
        for metric in metrics
        if metric.floored
    ]
    if bare:
        notes.insert(0, WITHOUT_PHOTOS)
    return Table("Distances to `real`", [*used, *hidden], lines, notes)


def _column(key: str, head: str, metric: Metric) -> Column:
    return Column(key, head, decimals(metric.digits), metric.scale)


def _parts(metric: Metric) -> dict[str, str]:
    named = {"debiased": f"{metric.head}, debiased", "floor": "floor"}
    return named if metric.headline or metric.floored else {}


def _line(level: str, row: dict[str, Any]) -> Row:
    values = values_of(row)
    line = {"level": Cell(level), "method": Cell(row["method"]), "n": Cell(row[f"n_{level}s"])}
    line |= {name: Cell((row["distances"][level] or {}).get(name)) for name in COUNTS}
    for metric in in_table("distances", row["protocol"]):
        if metric.level == level:
            found = values.get(metric.name, {})
            line[metric.quantity] = Cell(found.get("value"), found.get("se"))
            line |= {f"{metric.quantity}_{part}": Cell(found.get(part)) for part in _parts(metric)}
    return line


def thinning(lines: Sequence[Row]) -> list[str]:
    """A sentence a level whose sums over pairs are not of all samples: of how many they are (metrics.summary.thinned)."""
    sentences = []
    for level in LEVELS:
        rows = [{key: row[key].value for key in SAMPLES} for row in lines if row["level"].value == level]
        found = []
        for whose, part, whole in (("of a row", "samples", "n"), ("of `real`", "real_samples", "real_n")):
            counts: dict[Any, None] = dict.fromkeys((row[part], row[whole]) for row in rows)
            found += [
                f"{kept:,} of the {every:,} {level}s {whose}"
                for kept, every in counts
                if None not in (kept, every) and kept < every
            ]
        if found:
            sentences.append(
                f"The pairs of all {level}s being too many, KID, CMMD, precision, recall, density and coverage are of "
                f"{' and of '.join(found)}: whole images, those of the smallest hashes, the same for every row."
            )
    return sentences
