"""What was measured of every image, box and label of a row, as arrays in the order of the layouts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import Metric, metrics_of
from formats.files import InputError

UNIT = ("image_id", "id", "object")  # what a score is of; object -1 is the whole image


def scored(about: Mapping[str, Any]) -> list[Metric]:
    """The metrics that are means over images, boxes or labels, of rows whose files state `about`."""
    return [metric for metric in metrics_of(about).values() if metric.scores]


def read_scores(path: Path, layouts: Sequence[dict[str, Any]], metrics: Sequence[Metric]) -> dict[str, np.ndarray]:
    """metric -> its score of every layout, or of every object of all layouts; NaN where nothing was measured.

    The score of a label is that of its first box. Raises InputError unless the file holds the images of `layouts`.
    """
    table, ids = read_table(path, ["clip"]), [row["id"] for row in layouts]
    counts = {row["id"]: len(row["objects"]) for row in layouts}
    table = table.reindex(columns=["id", "object", *dict.fromkeys(metric.scores for metric in metrics)])
    beyond = table[table["object"] >= table["id"].map(counts).fillna(np.inf)]
    if not beyond.empty:
        number = beyond["id"].iloc[0]
        raise InputError(
            f"{path}: scores of other objects than the layouts': layout {number} has {counts[number]}, and a score of its"
            f" object {beyond['object'].iloc[0] + 1}"
        )
    images, boxes = table[table["object"] < 0].set_index("id"), table[table["object"] >= 0].set_index(["id", "object"])
    if odd := set(images.index) ^ set(ids):
        raise InputError(f"{path}: scores of other images than the layouts; {min(odd)} is one of those that differ")
    keys = [(row["id"], place) for row in layouts for place in range(len(row["objects"]))]
    boxes = boxes.reindex(keys) if keys else boxes.iloc[:0]
    units = {"image": images.reindex(ids), "box": boxes, "label": boxes}
    return {metric.name: units[metric.mean_over][metric.scores].astype(float).to_numpy() for metric in metrics}


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A scores file; raises InputError unless it has id, object and these columns, and one row of each image or object."""
    try:
        table = pd.read_parquet(path)
        table[["id", "object", *columns]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of scores ({error}); delete it and run again") from None
    twice = table[table.duplicated(["id", "object"])]
    if not twice.empty:
        number, place = twice["id"].iloc[0], twice["object"].iloc[0]
        raise InputError(f"{path}: layout {number} has several rows of object {place}, expected one")
    return table
