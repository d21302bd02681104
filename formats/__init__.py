"""What the stages hand to one another, each part checked when it is read; numpy, PIL and the standard library alone."""

import json
import reprlib
from collections.abc import Sequence
from typing import Any

SHOWN = 3  # faults that a message lists
WIDEST = 80  # characters of a value in a message


def listed(faults: Sequence[str], total: int | None = None) -> str:
    """The first few of some faults and how many there are, as one line."""
    total = total or len(faults)
    return "; ".join(faults[:SHOWN]) + (f"; and {total - SHOWN} more, {total} in all" if total > SHOWN else "")


def shown(value: Any) -> str:
    """A value as a message shows it: one short line, whatever it is."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    text = short.repr(value)
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}..."
