"""Layouts as columns: captions, and the objects of all layouts one after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.report.packed import packed, packed_shares


def pack_layouts(layouts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Columns of the page: of layout n, objects start[n] to start[n + 1]; a span is that of the caption, or -1, -1."""
    things = [thing for row in layouts for thing in row["objects"]]
    phrases = sorted({thing["phrase"] for thing in things})
    number = {phrase: place for place, phrase in enumerate(phrases)}
    spans = [thing.get("span") or (-1, -1) for thing in things]
    return {
        "ids": [row["id"] for row in layouts],
        "images": [row["image_id"] for row in layouts],
        "captions": [row["caption"] for row in layouts],
        "phrases": phrases,
        "start": packed(np.cumsum([0, *(len(row["objects"]) for row in layouts)]), "i4"),
        "phrase": packed([number[thing["phrase"]] for thing in things], "u2"),
        "box": packed_shares(np.array([thing["box"] for thing in things], float).reshape(-1)),
        "span": packed(np.array(spans, int).reshape(-1), "i2"),
    }
