"""Do two detectors agree on which boxes were found? Row by row, on the same boxes; `real` says how far they can be trusted.

They agree about a box where both call it found, or both do not. Cohen's kappa is the part of that beyond chance: 1 where they
always agree, 0 where no more often than two that find as many boxes each would by chance.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import Metric, metrics_of
from evaluation.metrics.jackknife import groups, jackknife, kept
from evaluation.tables.table import Cell, Column, Row, Table, decimals
from formats.files import InputError, read_object

SHARE = decimals(3)
COLUMNS = [
    Column("method", "Method"),
    Column("first", "First"),
    Column("second", "Second"),
    Column("boxes", "Boxes", "d"),
    Column("found_first", "Found by the first", SHARE),
    Column("found_second", "by the second", SHARE),
    Column("agree", "Agree", SHARE),
    Column("kappa", "Kappa", SHARE),
]
NOTE = (
    "Found: a box on which a detector is sure of its object, as in the table of layout adherence; agree: boxes that both find "
    "or both do not; kappa: Cohen's, what of that is beyond chance; -: none where all boxes are alike to both. ± one standard "
    "error (jackknife over images)."
)


def agreement_table(rows: Mapping[Path, Path]) -> Table:
    """A line a row and pair of detectors, of metrics files and the scores files beside them; raises InputError."""
    lines = [line for metrics, scores in rows.items() for line in _lines(metrics, scores)]
    return Table("Agreement of detectors", COLUMNS, lines, [NOTE])


def _lines(metrics: Path, scores: Path) -> list[Row]:
    content = read_object(metrics, "the metrics of a row", "method", "protocol")
    about = content["protocol"]
    found = [one for one in metrics_of(about).values() if one.quantity == "instance_success" and one.extractor in about]
    try:
        table = pd.read_parquet(scores)[["object", "image_id", *(metric.scores for metric in found)]]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{scores}: not a table of scores ({error}); delete it and run again") from None
    boxes = table[table["object"] >= 0].dropna()
    return [_line(content["method"], about, first, second, boxes) for first, second in combinations(found, 2)]


def _line(method: str, about: dict[str, Any], first: Metric, second: Metric, boxes: pd.DataFrame) -> Row:
    names = {"first": Cell(about[first.extractor]["name"]), "second": Cell(about[second.extractor]["name"])}
    line = {"method": Cell(method), **names, "boxes": Cell(len(boxes))}
    if boxes.empty:
        return line
    a, b = (boxes[metric.scores].astype(bool).to_numpy() for metric in (first, second))
    numbers = groups(boxes["image_id"])
    statistics = {
        "found_first": lambda inside: a[inside].mean(),
        "found_second": lambda inside: b[inside].mean(),
        "agree": lambda inside: (a == b)[inside].mean(),
        "kappa": lambda inside: kappa(a[inside], b[inside]),
    }
    for name, statistic in statistics.items():
        estimate = jackknife(lambda group, of=statistic: float(of(kept(numbers, group))), numbers)  # type: ignore[misc]
        known = not np.isnan(estimate.value)
        error = estimate.se if estimate.se is not None and np.isfinite(estimate.se) else None
        line[name] = Cell.of(estimate.value, error) if known else Cell()
    return line


def kappa(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Cohen's kappa of two judgements of the same things, bool [N]; nan where chance alone would agree on all (Cohen 1960)."""
    chance = a_N.mean() * b_N.mean() + (1 - a_N.mean()) * (1 - b_N.mean())
    return float(((a_N == b_N).mean() - chance) / (1 - chance)) if chance < 1 else float("nan")
