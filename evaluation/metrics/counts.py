"""Counts by precision and recall: of the objects that a layout asks for, how many are there, and how many are too many?

Of each image and label as many are right as are both asked for and found; what is found beyond is too many, what lacks is
missing; precision, recall and F1 are of the sums over all images. So HRS counts (with UniDet); here the detector is the
configuration's, and what lies on regions that a layout ignores is not counted, as for `count_right`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from evaluation.metrics.adherence import matches
from evaluation.metrics.metric import Measured, Metric, Result, ratio


@dataclass(frozen=True)
class Params:
    """There are none."""


def metrics(name: str, params: Params) -> Iterator[Metric]:
    """Precision, recall and F1."""
    head = name.replace("_", " ").capitalize()
    for kind, short in (("precision", "P"), ("recall", "R"), ("f1", "F1")):
        yield Metric(
            f"{name}_{kind}",
            "box",
            "detector",
            f"{head} {short}",
            3,
            partial(measure_counts, kind),
            higher_is_better=True,
            table="adherence",
            counts=True,
            note=f"{head}: precision, recall and F1 of the number of objects of each label and image." * (kind == "f1"),
        )


def measure_counts(kind: str, measured: Measured, metric: Metric) -> Result:
    """One of the three; None without a box, or where nothing is found of which it would be the share."""
    table = measured.once(matches, metric.extractor)[1]
    wanted, counted = (table[key].to_numpy(float) for key in ("wanted", "counted"))
    right = table[["wanted", "counted"]].min(axis=1).to_numpy(float)
    over = {"precision": counted, "recall": wanted, "f1": (wanted + counted) / 2}
    return ratio(right, over[kind], table["image_id"])
