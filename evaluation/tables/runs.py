"""Two runs side by side: every metric of every row of both, and which of their inputs differ.

Differences are the second run's value minus the first's. A row that both measured on the same images is compared image by
image, CLIP scores as evaluation.significance does, all others by the paired jackknife and Student's t, which errs on the side
of caution with distances: images are swapped between rows of one run only. Else the standard errors of both are added in
squares and the p-value is a normal one. p-values are Holm's, over the rows, metric by metric.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy

from evaluation.metrics import Metric as Kind
from evaluation.metrics import metric_of
from evaluation.metrics.permutation import FLIPS
from evaluation.regression import Metric, Run, changes
from evaluation.significance import MeasuredRow, debiased_difference, difference, holm, opposite, read_row, verdict
from evaluation.tables.elsewhere import marked
from evaluation.tables.significance import DEBIASED, DIFFERENCE, P_HOLM, VERDICT, WITHOUT_BIAS, differences
from evaluation.tables.table import Cell, Column, Table, decimals
from formats.files import InputError

COLUMNS = [
    Column("method", "Method"),
    Column("metric", "Metric"),
    Column("first", "First", decimals(4)),
    Column("second", "Second", decimals(4)),
    DIFFERENCE,
    WITHOUT_BIAS,
    P_HOLM,
    VERDICT,
    Column("p", number="p", shown=False),
    *(Column(key, shown=False) for key in ("paired", "opposite", "different")),
]


def runs_table(first: Run, second: Run) -> Table:
    """A line a metric and row that both runs have, and what differs between them."""
    lines = side_by_side(first, second)
    rows = [
        {
            "method": Cell(line["method"]),
            "metric": Cell(line["metric"]),
            "paired": Cell("yes" if line["paired"] else "no"),
        }
        | {run: Cell.of(line[run], line[f"{run}_se"]) for run in ("first", "second")}
        | differences(line)
        for line in lines.to_dict("records")
    ]
    table = Table(f"{first.name} and {second.name}", COLUMNS, rows, _notes(lines, first, second))
    made = {
        name: str(by) for run in (first, second) for name, inputs in run.inputs.items() if (by := inputs.get("made_by"))
    }
    return marked(table, made)


def side_by_side(first: Run, second: Run) -> pd.DataFrame:
    """One line a metric and row that both runs have; raises InputError where they share no row."""
    lines: list[dict[str, Any]] = []
    # Sets whose layouts are numbered from 0 share their ids with every other.
    alike = None in (first.layouts, second.layouts) or first.layouts == second.layouts
    for method in (name for name in first.metrics if name in second.metrics):
        pair = _rows(first, method), _rows(second, method)
        paired = alike and _same_images(*pair)
        for metric in (name for name in pair[0].metrics if name in pair[1].metrics):
            a, b = (row.metrics[metric] for row in pair)
            kind = metric_of(metric, pair[0].known)
            found = difference(metric, pair[1], pair[0]) if paired else unpaired(kind, b, a)
            values = {"first": a["value"], "first_se": a["se"], "second": b["value"], "second_se": b["se"]}
            values |= {"opposite": opposite(found["difference"], found["debiased"]), "paired": paired}
            lines.append({"method": method, "metric": metric} | values | found)
    if not lines:
        raise InputError(f"{first.name} and {second.name}: no row that both have measured")
    table = pd.DataFrame(lines)
    table["p_holm"] = table.groupby("metric")["p"].transform(lambda p: holm(p.tolist()))
    return table.assign(different=table["p_holm"].map(verdict))


def _rows(run: Run, method: str) -> MeasuredRow:
    assert run.folder is not None
    row = read_row(run.folder / f"metrics/{method}/test.json", run.folder / f"scores/{method}/test.parquet")
    return replace(row, metrics=run.metrics[method])


def _same_images(a: MeasuredRow, b: MeasuredRow) -> bool:
    return all(np.array_equal(a.image_ids[level], b.image_ids[level]) for level in a.image_ids)


def unpaired(metric: Kind, a: Metric, b: Metric) -> dict[str, float]:
    """The difference of two values of independent images, as `difference` gives it; nan where either has no standard error."""
    gap = a["value"] - b["value"]
    se = math.nan if a["se"] is None or b["se"] is None else math.hypot(a["se"], b["se"])
    p = float(2 * scipy.special.ndtr(-abs(gap) / se)) if se else math.nan
    return {"difference": gap, "se": se, "debiased": debiased_difference(metric, a, b), "p": p}


def _notes(table: pd.DataFrame, first: Run, second: Run) -> list[str]:
    alone = {run.name: sorted(set(run.metrics) - set(table["method"])) for run in (first, second)}
    notes = [f"Only in {name}: {', '.join(rows)}." for name, rows in alone.items() if rows]
    if unlike := sorted(set(table.loc[~table["paired"], "method"])):
        notes.append(f"Not of the same layouts, so not paired: {', '.join(unlike)}.")
    return [
        *notes,
        f"Second minus first, ± one standard error; paired by image: {FLIPS:,} random sign flips for CLIP scores, "
        "delete-a-group jackknife and Student's t for all others, which errs on the side of caution with distances (images are "
        "not swapped across runs); Holm's correction over the rows, metric by metric.",
        "Of a distance it is the values of finite samples that are compared, which are biased, by more where a distribution is "
        "wider or the images are fewer.",
        DEBIASED,
        *(f"Differs, first -> second: {line}" for line in changes(first, second) or ["nothing that either run states"]),
    ]
