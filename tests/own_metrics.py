"""What tests of metrics of one's own share: a row of hand-made boxes, without a network."""

from typing import Any

import numpy as np

from evaluation.metrics.metric import Measured


class Row:
    """The summaries of a row, of whose arrays tests give those that are read."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.about = {"detector": {"name": "by hand"}}

    def read(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def carried(self, name: str, key: str) -> np.ndarray:
        return self.arrays[f"{name} {key}"]


def layout(number: int, *things: tuple[str, list[float]], **more: Any) -> dict[str, Any]:
    """A layout of phrases and boxes, of an image of its own."""
    objects = [{"phrase": phrase, "box": box} for phrase, box in things]
    return {"id": number, "image_id": 10 * number, "caption": "", "objects": objects} | more


def detections(*rows: tuple[int, str, list[float], float]) -> dict[str, np.ndarray]:
    """What a detector found: layout, label, box, score."""
    ids, labels, boxes, scores = zip(*rows, strict=True) if rows else ([], [], np.zeros((0, 4)), [])
    return {
        "detection_ids": np.array(ids, np.int64),
        "detection_labels": np.array(labels, np.str_),
        "detection_boxes": np.array(boxes, np.float32),
        "detection_scores": np.array(scores, np.float32),
    }


def measured(layouts: list[dict[str, Any]], *rows: tuple[int, str, list[float], float], **arrays: Any) -> Measured:
    """A row of which this was found."""
    return Measured(Row(detections(*rows) | arrays), None, layouts)  # type: ignore[arg-type]


def values(found: Any, of: Measured) -> dict[str, float | None]:
    """metric -> value of metrics, None where there is none."""
    results = {metric.name: metric.compute(of, metric) for metric in found}
    return {name: result and result["value"] for name, result in results.items()}
