"""What was measured of every image and box, as columns in the order of the layouts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.files import InputError
from evaluation.page.packed import packed_shares

BOXES = {"region_clip": "clip", "best_iou": "best_iou", "success": "success"}


def read_scores(path: Path, layouts: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """`image_clip` [layouts], and each of BOXES [objects of all layouts], NaN where nothing was measured.

    Raises InputError unless the file holds the images of `layouts`.
    """
    try:
        table = pd.read_parquet(path).set_index(["id", "object"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of scores ({error})") from None
    images = pd.MultiIndex.from_tuples([(row["id"], -1) for row in layouts])
    odd = images.symmetric_difference(table.index[table.index.get_level_values("object") < 0])
    if len(odd):
        raise InputError(f"{path}: scores of other images than the layouts; {odd[0][0]} is one of those that differ")
    boxes = pd.MultiIndex.from_tuples([(row["id"], place) for row in layouts for place in range(len(row["objects"]))])
    columns = table.reindex(columns=list(BOXES.values())).astype(float)
    found = {name: _ordered(columns[column], boxes) for name, column in BOXES.items()}
    return {"image_clip": _ordered(columns["clip"], images)} | found


def _ordered(column: "pd.Series[float]", keys: pd.MultiIndex) -> np.ndarray:
    return column.reindex(keys).to_numpy() if len(keys) else np.zeros(0)


def pack_scores(methods: Sequence[dict[str, np.ndarray]]) -> dict[str, str]:
    """Each score of all methods, method after method."""
    return {name: packed_shares(np.concatenate([scores[name] for scores in methods])) for name in methods[0]}
