"""What a judge says of a row's images: a number each, of which its metric is the mean."""

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured


@cache
def score_judge(judge: str) -> Callable[["Measured"], pd.DataFrame]:
    """What makes the scores of whole images by a judge, in a column of its name."""
    return partial(_score_judge, judge)


def _score_judge(judge: str, measured: "Measured") -> pd.DataFrame:
    ids, image_ids, scores = (measured.row.read(name) for name in ("image_ids", "image_image_ids", f"judge_{judge}"))
    return pd.DataFrame({"id": ids, "object": -1, "image_id": image_ids, judge: np.asarray(scores, np.float64)})
