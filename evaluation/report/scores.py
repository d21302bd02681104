"""What was measured of every image and box, as the page's typed arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.metrics import Metric
from evaluation.report.packed import packed_shares, unit_of


def pack_scores(methods: Sequence[dict[str, np.ndarray]], metrics: Sequence[Metric]) -> dict[str, dict[str, Any]]:
    """metric -> title, whether it is of boxes, which way is better, and its scores of all methods, method after method.

    A method whose file has no such metric has no scores of it.
    """
    lengths = {metric: len(values) for scores in methods for metric, values in scores.items()}
    nothing = {metric: np.full(length, np.nan) for metric, length in lengths.items()}
    found = {}
    for metric in metrics:
        values = np.concatenate([(nothing | scores)[metric.name] for scores in methods])
        found[metric.name] = {
            "title": metric.title,
            "perBox": metric.mean_over != "image",
            "higherIsBetter": metric.higher_is_better,
            "unit": unit_of(values),
            "values": packed_shares(values, unit_of(values)),
        }
    return found
