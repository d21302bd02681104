"""How much each row's numbers vary with the sampling seed: mean, standard deviation, least and most of every metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.metrics import metrics_of
from evaluation.tables.table import Cell, Column, Row, Table, decimals
from formats.files import InputError

NOTE = (
    "Mean ± standard deviation over sampling seeds, least and most in brackets; networks and layouts are the same. All "
    "metrics, and the mean standard error over images of one seed, are in seeds.csv; other tables are of the first seed."
)


def seeds_table(rows: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A line a row, of its metrics files, one a seed; headline metrics are shown.

    Raises InputError unless a row's measurements differ in the sampling seed alone, and all do.
    """
    columns = [Column("method", "Method"), Column("seeds", "Seeds", "d")]
    lines = [_line(name, found) for name, found in rows.items()]
    known = metrics_of(next(iter(rows.values()))[0].get("protocol", {})) if rows else {}
    for metric in (metric for metric in known.values() if any(metric.name in line for line in lines)):
        number = decimals(metric.digits)
        columns.append(Column(metric.name, metric.title, number, metric.scale, shown=metric.headline))
        columns.append(Column(f"{metric.name}_error", number=number, scale=metric.scale, shown=False))
    return Table("Sampling seeds", columns, lines, [NOTE])


def _line(name: str, found: Sequence[dict[str, Any]]) -> Row:
    """Of every metric that each seed has its spread over seeds, and the mean of its jackknife errors."""
    seeds = [_seed(row["source"]["spec"]) for row in found]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{name}: measured twice with {max(seeds, key=seeds.count)}")
    for row in found:
        if difference := _difference(row, found[0]):
            raise InputError(f"{row['method']}: {difference} differs from {found[0]['method']}'s, not the seed alone")
    line = {"method": Cell(name), "seeds": Cell(len(seeds))}
    for metric in found[0]["metrics"]:
        results = [row["metrics"][metric] for row in found]
        if all(results):
            values = np.array([one["value"] for one in results])
            errors = [one["se"] for one in results if one["se"] is not None]
            deviation = values.std(ddof=1) if len(values) > 1 else None
            least, most = float(values.min()), float(values.max())
            line[metric] = Cell.of(values.mean(), deviation, least=least, most=most)
            line[f"{metric}_error"] = Cell.of(np.mean(errors) if errors else None)
    return line


def _difference(row: dict[str, Any], first: dict[str, Any]) -> str:
    """The first key that two measurements disagree in, the seed and the row's name aside."""
    for key in ("split", "n_images", "n_regions", "protocol", "reference"):
        if row[key] != first[key]:
            return key
    a, b = (one["source"] | {"spec": _without_seed(one["source"]["spec"])} for one in (row, first))
    return next((key for key in a if a[key] != b.get(key)), "")


def _seed(spec: dict[str, Any]) -> str:
    """What tells a row from its repeats: the seed, or of images made elsewhere what they are."""
    if "images_sha256" in spec:
        return f"the same images ({spec['images_sha256'][:12]})"
    return f"seed {spec['sampling']['seed']}"


def _without_seed(spec: dict[str, Any]) -> dict[str, Any]:
    if "images_sha256" in spec:
        return spec | {"method": "", "images_sha256": ""}
    return spec | {"method": "", "sampling": spec["sampling"] | {"seed": 0}}
