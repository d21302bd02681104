"""Two runs side by side: every metric of every row of both, and which of their inputs differ.

    python -m evaluation.side_by_side --first results/a --second results/b --out results/compare/a-b

writes a-b.csv and a-b.md. Differences are the second run's value minus the first's. A row that both measured on the same
images is compared image by image, CLIP scores as evaluation.compare does, all others by the paired jackknife and Student's
t, which errs on the side of caution with distances: images are swapped between rows of one run only. Else the standard
errors of both are added in squares and the p-value is a normal one. p-values are Holm's, over the rows, metric by metric.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from evaluation.compare import (
    DEBIASED,
    FLIPS,
    Row,
    debiased_difference,
    difference,
    holm,
    opposite,
    read_row,
    small,
    stated,
    verdict,
    without_bias,
)
from evaluation.printing import number, write_csv
from evaluation.runs import Metric, Run, changes, read_run
from formats.cli import run
from formats.files import InputError, write_text

VALUES = ["first", "first_se", "second", "second_se", "difference", "se", "debiased", "opposite"]
COLUMNS = ["method", "metric", *VALUES, "p", "paired", "p_holm"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=Path, required=True, help="folder of a run")
    parser.add_argument("--second", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    first, second = read_run(arguments.first), read_run(arguments.second)
    table = side_by_side(first, second)
    write_csv(Path(f"{arguments.out}.csv"), table)
    write_text(Path(f"{arguments.out}.md"), markdown(table, first, second))


def side_by_side(first: Run, second: Run) -> pd.DataFrame:
    """One line a metric and row that both runs have; raises InputError where they share no row."""
    lines: list[dict[str, Any]] = []
    for method in (name for name in first.metrics if name in second.metrics):
        pair = _rows(first, method), _rows(second, method)
        paired = _same_images(*pair)
        for metric in (name for name in pair[0].metrics if name in pair[1].metrics):
            a, b = (row.metrics[metric] for row in pair)
            found = difference(metric, pair[1], pair[0]) if paired else unpaired(metric, b, a)
            values = {"first": a["value"], "first_se": a["se"], "second": b["value"], "second_se": b["se"]}
            values |= {"opposite": opposite(found["difference"], found["debiased"]), "paired": paired}
            lines.append({"method": method, "metric": metric} | values | found)
    if not lines:
        raise InputError(f"{first.name} and {second.name}: no row that both have measured")
    table = pd.DataFrame(lines)
    table["p_holm"] = table.groupby("metric")["p"].transform(lambda p: holm(p.tolist()))
    return table[COLUMNS].assign(different=table["p_holm"].map(verdict))


def _rows(run: Run, method: str) -> Row:
    folder = Path(run.name)
    row = read_row(folder / f"metrics/{method}/test.json", folder / f"scores/{method}/test.parquet")
    return replace(row, metrics=run.metrics[method])


def _same_images(a: Row, b: Row) -> bool:
    return all(np.array_equal(a.image_ids[level], b.image_ids[level]) for level in a.image_ids)


def unpaired(metric: str, a: Metric, b: Metric) -> dict[str, float]:
    """The difference of two values of independent images, as `difference` gives it; nan where either has no standard error."""
    gap = a["value"] - b["value"]
    se = math.nan if a["se"] is None or b["se"] is None else math.hypot(a["se"], b["se"])
    p = float(2 * stats.norm.sf(abs(gap) / se)) if se else math.nan
    return {"difference": gap, "se": se, "debiased": debiased_difference(metric, a, b), "p": p}


def markdown(table: pd.DataFrame, first: Run, second: Run) -> str:
    """The table and the inputs that differ."""
    parts = [
        f"**{first.name} and {second.name}**\n",
        "| Method | Metric | First | Second | Difference | Debiased | p (Holm) | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for line in table.to_dict("records"):
        cells = [
            number(line["first"], se=line["first_se"]),
            number(line["second"], se=line["second_se"]),
            number(line["difference"], se=line["se"], sign="+"),
            without_bias(line),
            small(line["p_holm"]),
        ]
        parts.append(f"| {line['method']} | {line['metric']} | {' | '.join(cells)} | {stated(line['different'])} |")
    alone = {run.name: sorted(set(run.metrics) - set(table["method"])) for run in (first, second)}
    notes = [f"Only in {name}: {', '.join(rows)}." for name, rows in alone.items() if rows]
    if unlike := sorted(set(table.loc[~table["paired"], "method"])):
        notes.append(f"Not of the same images, so not paired: {', '.join(unlike)}.")
    notes.append(
        f"Second minus first, ± one standard error; paired by image: {FLIPS:,} random sign flips for CLIP scores, "
        "delete-a-group jackknife and Student's t for all others, which errs on the side of caution with distances (images are "
        "not swapped across runs); Holm's correction over the rows, metric by metric."
    )
    notes += [
        "Of a distance it is the values of finite samples that are compared, which are biased, by more where a distribution is "
        "wider or the images are fewer.",
        DEBIASED,
    ]
    differing = changes(first, second) or ["nothing that either run states"]
    body = "\n".join(f"- {line}" for line in notes)
    return "\n".join(
        [*parts, "", body, "", "What differs, first -> second:\n", *(f"- {line}" for line in differing), ""]
    )


if __name__ == "__main__":
    run(main)
