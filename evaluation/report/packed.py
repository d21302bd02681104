"""Layouts, scores and bands of difficulty as the page's typed arrays: little-endian bytes in base64."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.difficulty import Facet
from evaluation.metrics import Metric

UNIT = 10_000  # of scores, which lie between -1 and 1, and of boxes' edges: four digits are what is shown
MISSING = -32_768


def packed(values: Any, kind: str) -> str:
    """Base64 of `values` as a little-endian numpy type such as i2."""
    return base64.b64encode(np.asarray(values).astype(f"<{kind}").tobytes()).decode()


def packed_shares(values: np.ndarray, unit: float = UNIT) -> str:
    """Base64 of numbers as int16 in units of 1 / `unit`, by default of those from -1 to 1; NaN and infinity become MISSING."""
    return packed(np.where(np.isfinite(values), np.round(values * unit), MISSING), "i2")


def unit_of(values: np.ndarray) -> float:
    """The finest power of ten up to UNIT in which all of them fit: what is no share may be larger."""
    largest = float(np.abs(values).max(initial=0, where=np.isfinite(values)))
    unit = float(UNIT)
    while largest * unit > -MISSING - 1:
        unit /= 10
    return unit


def pack_layouts(layouts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Columns of the page: of layout n, objects start[n] to start[n + 1]; a span is that of the caption, or -1, -1."""
    things = [thing for row in layouts for thing in row["objects"]]
    phrases = sorted({thing["phrase"] for thing in things})
    number = {phrase: place for place, phrase in enumerate(phrases)}
    spans = [thing.get("span") or (-1, -1) for thing in things]
    return {
        # As text: a number of JavaScript has 53 bits.
        "ids": [str(row["id"]) for row in layouts],
        "images": [str(row["image_id"]) for row in layouts],
        "captions": [row["caption"] for row in layouts],
        "phrases": phrases,
        "start": packed(np.cumsum([0, *(len(row["objects"]) for row in layouts)]), "i4"),
        "phrase": packed([number[thing["phrase"]] for thing in things], "u4"),
        "box": packed_shares(np.array([thing["box"] for thing in things], float).reshape(-1)),
        "span": packed(np.array(spans, int).reshape(-1), "i4"),
    }


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


def pack_facets(facets: Sequence[Facet]) -> list[dict[str, Any]]:
    """Of each facet its key, title, bands, whether it is of boxes, and the band of every layout or object, -1 for none."""
    return [
        {
            "key": facet.key,
            "title": facet.title,
            "bands": facet.bands,
            "perBox": facet.per_box,
            "place": packed(facet.place_N, "i2"),
        }
        for facet in facets
    ]
