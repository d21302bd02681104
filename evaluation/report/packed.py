"""Columns of numbers as the page's typed arrays: little-endian bytes in base64."""

import base64
from typing import Any

import numpy as np

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
