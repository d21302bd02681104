"""What was measured of every image and box, as columns in the order of the layouts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.page.packed import packed_shares
from formats.files import InputError

BOXES = {"region_clip": "clip", "best_iou": "best_iou", "success": "success"}


def read_scores(path: Path, layouts: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """`image_clip` [layouts], and each of BOXES [objects of all layouts], NaN where nothing was measured.

    Raises InputError unless the file holds the images of `layouts`.
    """
    table, ids = _read(path), [row["id"] for row in layouts]
    images = table[table["object"] < 0].set_index("id")["clip"]
    if odd := set(images.index) ^ set(ids):
        raise InputError(f"{path}: scores of other images than the layouts; {min(odd)} is one of those that differ")
    keys = [(row["id"], place) for row in layouts for place in range(len(row["objects"]))]
    boxes = table[table["object"] >= 0].set_index(["id", "object"]).reindex(columns=list(BOXES.values())).astype(float)
    ordered = boxes.reindex(keys) if keys else boxes.iloc[:0]
    return {"image_clip": images.reindex(ids).to_numpy()} | {
        name: ordered[column].to_numpy() for name, column in BOXES.items()
    }


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
        table[["id", "object", "clip"]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of scores ({error})") from None
    return table


def pack_scores(methods: Sequence[dict[str, np.ndarray]]) -> dict[str, str]:
    """Each score of all methods, method after method."""
    return {name: packed_shares(np.concatenate([scores[name] for scores in methods])) for name in methods[0]}
