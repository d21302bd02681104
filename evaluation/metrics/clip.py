"""CLIP score: the raw cosine of each image with its caption, or of each region with its label, averaged."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evaluation.metrics.jackknife import groups, jackknife, leave_out_mean
from evaluation.metrics.summary import LEVELS

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result


def measure_clip(measured: "Measured", metric: "Metric") -> "Result":
    """The mean cosine of a level, regions of an image together in the jackknife."""
    cosines = measured.row.read(f"{metric.level}_cosines")
    if not len(cosines):
        return None
    numbers = groups(measured.row.read(f"{metric.level}_image_ids"))
    return asdict(jackknife(leave_out_mean(cosines, numbers), numbers))


def score_clip(measured: "Measured") -> pd.DataFrame:
    """id, object (-1: the whole image), image_id and clip of every image, then of every region."""
    row = measured.row
    tables = [
        pd.DataFrame(
            {
                "id": row.read(f"{level}_ids"),
                "object": row.read("region_objects") if level == "region" else -1,
                "image_id": row.read(f"{level}_image_ids"),
                "clip": np.asarray(row.read(f"{level}_cosines"), float),
            }
        )
        for level in LEVELS
    ]
    return pd.concat(tables, ignore_index=True)
