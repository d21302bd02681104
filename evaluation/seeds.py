"""How much each row's numbers vary with the sampling seed: mean, standard deviation, least and most of every metric.

    python -m evaluation.seeds --row hcma metrics/hcma/test.json metrics/hcma_seed_1/test.json --row ... --out tables/seeds

writes seeds.csv, a line a row and metric, and seeds.md, the main metrics.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.printing import write_csv
from evaluation.tables import DIGITS, HEADS, METRICS
from formats.cli import run
from formats.files import InputError, read_json, write_text

COLUMNS = ["method", "metric", "seeds", "mean", "sd", "min", "max", "se"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", nargs="+", action="append", required=True, help="a row and its metrics, one a seed")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    rows = {name: [read_json(Path(path)) for path in paths] for name, *paths in arguments.row}
    lines = [line for name, found in rows.items() for line in spread(name, found)]
    table = pd.DataFrame(lines, columns=COLUMNS)
    write_csv(arguments.out.with_suffix(".csv"), table)
    write_text(arguments.out.with_suffix(".md"), markdown(table))


def spread(name: str, found: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A line for every metric that each seed has: its spread over seeds, and the mean of its jackknife errors.

    Raises InputError unless the measurements differ in the sampling seed alone, and all do.
    """
    seeds = [row["source"]["spec"]["sampling"]["seed"] for row in found]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{name}: measured twice with seed {max(seeds, key=seeds.count)}")
    for row in found:
        if difference := _difference(row, found[0]):
            raise InputError(f"{row['method']}: {difference} differs from {found[0]['method']}'s, not the seed alone")
    for metric in found[0]["metrics"]:
        metrics = [row["metrics"][metric] for row in found]
        if all(metrics):
            values = np.array([one["value"] for one in metrics])
            errors = [one["se"] for one in metrics if one["se"] is not None]
            yield {
                "method": name,
                "metric": metric,
                "seeds": len(values),
                "mean": values.mean(),
                "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
                "min": values.min(),
                "max": values.max(),
                "se": np.mean(errors) if errors else np.nan,
            }


def _difference(row: dict[str, Any], first: dict[str, Any]) -> str:
    """The first thing that two measurements disagree in, the seed and the row's name aside."""
    for key in ("split", "n_images", "n_regions", "protocol", "reference"):
        if row[key] != first[key]:
            return key
    a, b = (one["source"] | {"spec": _without_seed(one["source"]["spec"])} for one in (row, first))
    return next((key for key in a if a[key] != b.get(key)), "")


def _without_seed(spec: dict[str, Any]) -> dict[str, Any]:
    return spec | {"method": "", "sampling": spec["sampling"] | {"seed": 0}}


def markdown(table: pd.DataFrame) -> str:
    """Mean and standard deviation of the main metrics, and how to read them."""
    lines = [[HEADS[0], "Seeds", *HEADS[1:]], ["---"] + ["---:"] * len(HEADS)]
    for method, rows in table.groupby("method", sort=False):
        known = rows.set_index("metric").to_dict("index")
        seeds = str(rows["seeds"].iloc[0])
        lines.append([str(method), seeds, *(_cell(known.get(metric), metric) for metric in METRICS)])
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = (
        "Mean ± standard deviation over sampling seeds, least and most in brackets; networks and layouts are the same. All "
        "metrics, and the mean standard error over images of one seed, are in seeds.csv; other tables are of the first seed."
    )
    return f"**Sampling seeds**\n\n{body}\n\n- {note}\n"


def _cell(found: dict[Any, Any] | None, metric: str) -> str:
    if not found:
        return "-"
    digits = DIGITS[metric.split("_")[1]]
    mean, sd, least, most = (f"{found[key]:.{digits}f}" for key in ("mean", "sd", "min", "max"))
    return f"{mean} ± {sd} [{least}, {most}]"


if __name__ == "__main__":
    run(main)
