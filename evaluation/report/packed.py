"""Columns of numbers as the page's typed arrays: little-endian bytes in base64."""

import base64
from typing import Any

import numpy as np

UNIT = 10_000  # of scores, which lie between -1 and 1, and of boxes' edges: four digits are what is shown
MISSING = -32_768


def packed(values: Any, kind: str) -> str:
    """Base64 of `values` as a little-endian numpy type such as i2."""
    return base64.b64encode(np.asarray(values).astype(f"<{kind}").tobytes()).decode()


def packed_shares(values: np.ndarray) -> str:
    """Base64 of numbers from -1 to 1 as int16 in units of 1 / UNIT; NaN becomes MISSING."""
    return packed(np.where(np.isnan(values), MISSING, np.round(values * UNIT)), "i2")
