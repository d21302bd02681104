"""Overlaps as other papers average them, from boxes that the detector is sure of.

    NAME_miou     OverLayBench's mIoU: boxes and detections of a label are paired one to one, by falling intersection over
                  union; a box without one has 0; the mean over the boxes of an image, then over images
    NAME_o_miou   its O-mIoU: the same pairs, and of every two boxes of the layout that overlap the intersection over union of
                  the rectangle in which they do and of the one in which their detections do; an image without such has none
    NAME_auc      cobench's area under accuracy at thresholds 0, 0.1 ... 1 of intersection over union, of each box's best
                  overlap; the mean over the boxes of an image: one that is missed has 0.05, or 0 where nothing is found

Their detectors are others (a language model's answer, OWLv2), their edges may be whole pixels, and cobench keeps one box of
each phrase: what is alike is the arithmetic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics.adherence import detected, matches, overlaps
from evaluation.metrics.found import NOTHING, Found, found
from evaluation.metrics.metric import KEYS, Measured, Metric, mean_of_scores
from evaluation.networks import DETECTOR

THRESHOLDS = np.arange(11) / 10
TOUCHING = (
    1e-5  # boxes that share no more than this of the canvas's side lie side by side (as in evaluation.difficulty)
)
ROUNDING = 1e-6  # of detections' boxes, which are float32: a box that is met exactly reaches 1


@dataclass(frozen=True)
class Params:
    """There are none."""


def metrics(name: str, params: Params) -> Iterator[Metric]:
    """The three of them."""
    scored = _scored(name)
    for kind, head in (("miou", "mIoU"), ("o_miou", "O-mIoU"), ("auc", "IoU AUC")):
        yield Metric(
            f"{name}_{kind}",
            "image",
            "detector",
            head,
            3,
            mean_of_scores,
            scores=f"{name}_{kind}",
            scored=scored,
            flips=True,
            higher_is_better=True,
            table="adherence",
            counts=True,
        )


def _scored(name: str) -> Callable[[Measured], pd.DataFrame]:
    def scored(measured: Measured) -> pd.DataFrame:
        """A row a layout with boxes."""
        seen = measured.once(found)
        best = measured.once(matches, DETECTOR)[0].groupby("id")["best_iou"]
        areas = {number: areas_under(ious.to_numpy(float)) for number, ious in best}
        rows = []
        for layout in measured.once(detected, DETECTOR)[0]:
            boxes = seen.get(layout["id"], NOTHING)
            truths, pairs = np.array([thing["box"] for thing in layout["objects"]]), paired(layout, boxes)
            ious = [_iou(truths[place], pairs[place]) if place in pairs else 0.0 for place in range(len(truths))]
            any_found = np.isin(boxes.labels_N, [thing["phrase"] for thing in layout["objects"]]).any()
            area = float(np.mean(areas[layout["id"]])) if any_found else 0.0
            rows.append([layout["id"], -1, layout["image_id"], np.mean(ious), overlap_iou(truths, pairs), area])
        names = [f"{name}_{kind}" for kind in ("miou", "o_miou", "auc")]
        return pd.DataFrame(rows, columns=[*KEYS, *names])

    return scored


def paired(layout: dict[str, Any], seen: Found) -> dict[int, np.ndarray]:
    """Object -> the detection [4] of its label that it is paired with, one to one, by falling overlap; none without any."""
    pairs: dict[int, np.ndarray] = {}
    things = layout["objects"]
    for label in dict.fromkeys(thing["phrase"] for thing in things):
        places = [place for place, thing in enumerate(things) if thing["phrase"] == label]
        boxes = seen.of(label)
        iou_NM = overlaps(np.array([things[place]["box"] for place in places]), boxes)
        taken: set[int] = set()
        for flat in np.argsort(-iou_NM, axis=None, kind="stable"):
            truth, detection = divmod(int(flat), len(boxes))
            if iou_NM[truth, detection] > 0 and places[truth] not in pairs and detection not in taken:
                pairs[places[truth]] = boxes[detection]
                taken.add(detection)
    return pairs


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(overlaps(a[None], b[None])[0, 0])


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The rectangle [4] that is part of both; None where they do not overlap, or by no more than rounding."""
    both = np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])
    return both if (both[2:] - both[:2] > TOUCHING).all() else None


def overlap_iou(truths_N4: np.ndarray, pairs: dict[int, np.ndarray]) -> float:
    """The mean over every two boxes that overlap; nan where no two do."""
    values = []
    for a, b in combinations(range(len(truths_N4)), 2):
        wanted = _shared(truths_N4[a], truths_N4[b])
        if wanted is not None:
            shown = _shared(pairs[a], pairs[b]) if {a, b} <= pairs.keys() else None
            values.append(0.0 if shown is None else _iou(wanted, shown))
    return float(np.mean(values)) if values else float("nan")


def areas_under(ious_N: np.ndarray) -> np.ndarray:
    """Of each box the area under whether its overlap reaches a threshold, by trapezoids."""
    reached_NK = (ious_N[:, None] + ROUNDING >= THRESHOLDS).astype(float)
    return np.asarray(np.trapezoid(reached_NK, THRESHOLDS, axis=1))
