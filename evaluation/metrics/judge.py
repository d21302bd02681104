"""What a judge says of a row's images: the mean of its numbers, an image each."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.jackknife import groups, jackknife, leave_out_mean

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result


def measure_judge(measured: "Measured", metric: "Metric") -> "Result":
    """The mean score of whole images; None without any."""
    scores = np.asarray(measured.row.read(f"judge_{metric.extractor}"), np.float64)
    if not len(scores):
        return None
    numbers = groups(measured.row.read("image_image_ids"))
    return asdict(jackknife(leave_out_mean(scores, numbers), numbers))
