"""What was measured of every image and box, as the page's typed arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.report.packed import packed_shares
from evaluation.scores import scored


def pack_scores(methods: Sequence[dict[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """metric -> title, whether it is of boxes, which way is better, and its scores of all methods, method after method."""
    return {
        metric.name: {
            "title": metric.title,
            "perBox": metric.mean_over != "image",
            "higherIsBetter": metric.higher_is_better,
            "values": packed_shares(np.concatenate([scores[metric.name] for scores in methods])),
        }
        for metric in scored()
    }
