"""Which row of a table is best, and is it really? Per metric the best row, the runner-up, and their paired difference.

    python -m evaluation.best --table 1 sd14 gligen_sd hcma --table 2 gligen_sd hcma --out tables/best \
        --row metrics/hcma/test.json scores/hcma/test.parquet --row metrics/sd14/test.json scores/sd14/test.parquet ... \
        --swaps swaps/hcma.json swaps/gligen_sd.json ...

writes best.csv and best.md. Tests are those of evaluation.compare. Which two rows lead is seen from the data, so p-values
are Holm's over all pairs of the table's rows: they hold whichever pair is looked at. `real` takes no part.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.compare import (
    COLUMNS,
    DEBIASED,
    WHAT_IS_TESTED,
    Row,
    Swaps,
    compare,
    numbers,
    read_row,
    read_swaps,
    stated,
)
from evaluation.printing import write_csv
from evaluation.tables import METRICS
from formats.cli import run
from formats.files import InputError, write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", type=Path, nargs=2, action="append", required=True, help="metrics, scores")
    parser.add_argument("--swaps", type=Path, nargs="*", default=[], help="what evaluation.swaps wrote of these rows")
    parser.add_argument("--table", nargs="+", action="append", required=True, help="number of a table, its rows")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    rows = {row.method: row for row in (read_row(*paths) for paths in arguments.row)}
    for number, *names in arguments.table:
        if not number.isdecimal():
            raise InputError(f"--table {number}: expected the number of a table, then its rows")
        if unknown := [name for name in names if name not in rows]:
            raise InputError(f"--table {number}: {unknown[0]} is not among the rows, {', '.join(rows)}")
    swaps = read_swaps(arguments.swaps)
    lines = [
        line
        for number, *names in arguments.table
        for line in leaders(int(number), {name: rows[name] for name in names}, swaps)
    ]
    table = pd.DataFrame(lines, columns=["table", *COLUMNS])
    write_csv(arguments.out.with_suffix(".csv"), table)
    write_text(arguments.out.with_suffix(".md"), markdown(table))


def leaders(number: int, rows: dict[str, Row], swaps: Swaps) -> Iterator[dict[str, Any]]:
    """A line for every metric that two rows have: the best row as `method`, the runner-up as `against`."""
    shown = {name: replace(row, metrics={m: row.metrics.get(m) for m in METRICS}) for name, row in rows.items()}
    pairs = {
        (line["metric"], line["method"], line["against"]): line
        for line in compare(shown, list(shown), swaps).to_dict("records")
    }
    for metric in METRICS:
        values = {name: found["value"] for name, row in shown.items() if (found := row.metrics[metric])}
        ranked = sorted(values, key=lambda name: values[name], reverse=not metric.endswith("fid"))
        if len(ranked) > 1:
            found = pairs[metric, ranked[0], ranked[1]]
            yield {"table": number, **{column: found[column] for column in COLUMNS}}


def markdown(table: pd.DataFrame) -> str:
    """The table and how to read it."""
    lines = [
        "| Table | Metric | Best | Runner-up | Difference | Debiased | p | p (Holm) | |",
        "|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    for line in table.to_dict("records"):
        names = f"{line['table']} | {line['metric']} | {line['method']} | {line['against']}"
        lines.append(f"| {names} | {numbers(line)} | {stated(line['different'])} |")
    tests = (
        "Best minus runner-up, paired by image: random sign flips of the images' differences for CLIP scores, random swaps of "
        "groups of images between the two rows for distances; Holm's correction over all pairs of a table's rows, metric by "
        "metric. In the tables the best value is bold where it can be told from the runner-up's."
    )
    notes = "".join(f"- {note}\n" for note in (tests, WHAT_IS_TESTED, DEBIASED))
    return "**Best rows**\n\n" + "\n".join(lines) + f"\n\n{notes}"


if __name__ == "__main__":
    run(main)
