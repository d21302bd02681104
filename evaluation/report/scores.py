"""What was measured of every image and box, as columns in the order of the layouts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import Metric, metrics_of
from evaluation.report.packed import packed_shares, unit_of
from formats.files import InputError


def shown(about: Mapping[str, Any]) -> list[Metric]:
    """Metrics with a score of each image or box, of a run whose features state `about`."""
    return [metric for metric in metrics_of(about).values() if metric.scores]


def read_scores(
    path: Path, layouts: Sequence[dict[str, Any]], metrics: Iterable[Metric] | None = None
) -> dict[str, np.ndarray]:
    """metric -> its score of every layout, or of every object of all layouts; NaN where nothing was measured.

    Raises InputError unless the file holds the images of `layouts`.
    """
    metrics = shown({}) if metrics is None else list(metrics)
    table, ids = _read(path), [row["id"] for row in layouts]
    table = table.reindex(columns=["id", "object", *dict.fromkeys(metric.scores for metric in metrics)])
    images, boxes = table[table["object"] < 0].set_index("id"), table[table["object"] >= 0].set_index(["id", "object"])
    if odd := set(images.index) ^ set(ids):
        raise InputError(f"{path}: scores of other images than the layouts; {min(odd)} is one of those that differ")
    keys = [(row["id"], place) for row in layouts for place in range(len(row["objects"]))]
    boxes = boxes.reindex(keys) if keys else boxes.iloc[:0]
    levels = {"image": images.reindex(ids), "region": boxes, "box": boxes}
    return {metric.name: levels[metric.level][metric.scores].astype(float).to_numpy() for metric in metrics}


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
        table[["id", "object", "clip"]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of scores ({error})") from None
    return table


def pack_scores(
    methods: Sequence[dict[str, np.ndarray]], metrics: Iterable[Metric] | None = None
) -> dict[str, dict[str, Any]]:
    """metric -> title, whether it is of boxes, which way is better, and its scores of all methods, method after method.

    A method whose file has no such metric has no scores of it.
    """
    lengths = {metric: len(values) for scores in methods for metric, values in scores.items()}
    nothing = {metric: np.full(length, np.nan) for metric, length in lengths.items()}
    found = {}
    for metric in shown({}) if metrics is None else metrics:
        values = np.concatenate([(nothing | scores)[metric.name] for scores in methods])
        found[metric.name] = {
            "title": metric.title,
            "perBox": metric.level != "image",
            "higherIsBetter": metric.higher_is_better,
            "unit": unit_of(values),
            "values": packed_shares(values, unit_of(values)),
        }
    return found
