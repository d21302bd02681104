"""What the detector found in each image and is sure of, for metrics of boxes that are not the layout's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.networks import DETECTOR, detection_arrays, limits_of

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured


@dataclass(frozen=True)
class Found:
    """labels_N and boxes_N4, xyxy in the unit square, best first."""

    labels_N: np.ndarray
    boxes_N4: np.ndarray

    def of(self, label: str) -> np.ndarray:
        """The boxes of a label [N, 4]."""
        return self.boxes_N4[self.labels_N == label]


def centres(boxes_N4: np.ndarray) -> np.ndarray:
    """x and y of each box's centre [N, 2]."""
    return (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2


NOTHING = Found(np.zeros(0, np.str_), np.zeros((0, 4)))


def found(measured: "Measured", detector: str = DETECTOR) -> dict[int, Found]:
    """Of each image in which there is any what the detector found and is sure of, by layout id."""
    ids, boxes, scores, labels = (measured.row.read(name) for name in detection_arrays(detector))
    sure = np.flatnonzero(scores >= limits_of(measured.row.about[detector]).sure)
    # By image, best first, equal ones in their order.
    order = sure[np.lexsort((sure, -scores[sure], ids[sure]))]
    starts = np.flatnonzero(np.diff(ids[order], prepend=-1))
    parts = np.split(order, starts[1:]) if len(order) else []
    return {int(ids[part[0]]): Found(labels[part], boxes[part].astype(np.float64)) for part in parts}
