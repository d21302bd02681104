"""What a field of a record read from outside can be without doubt: the rules that every format here shares."""

import re
from typing import Any

LARGEST = 2**63 - 1  # ids become signed 64-bit integers in the files of features
EXACT = 2**53  # from it on a float does not say which integer was meant


def whole(value: Any, least: int = 0) -> int | None:
    """The integer from `least` to LARGEST that a value is: an int, an integral float, or digits as text; else None."""
    digits = isinstance(value, str) and re.fullmatch("-?[0-9]{1,40}", value)
    integral = type(value) is float and value.is_integer() and abs(value) < EXACT
    read = int(value) if digits or integral else value
    return read if type(read) is int and least <= read <= LARGEST else None


def is_text(value: Any) -> bool:
    """Whether it is text that can be written: JSON may hold half of a surrogate pair, UTF-8 and file names cannot."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
