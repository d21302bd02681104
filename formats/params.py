"""Values of a configuration as the fields of a dataclass, such as a module's `Params`, and the checks of a field."""

import math
from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from formats.files import InputError


def unknown_key(key: str, known: Iterable[str]) -> str:
    """That a key is none of those known, and which of them is nearest."""
    return f"unknown key{_nearest(key, known)}; known are {', '.join(sorted(known)) or 'none'}"


def unknown_name(name: str, known: Iterable[str], of: str = "") -> str:
    """That a name is none of those known, and which of them is nearest."""
    return f"{name!r} is not one of {of}{', '.join(known)}{_nearest(name, known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, known, 1)
    return f", nearest is {nearest[0]}" if nearest else ""


def check_keys(found: dict[str, Any], known: set[str], where: str) -> None:
    """Raise InputError naming the first key that is not known."""
    if unknown := sorted(set(found) - known):
        raise InputError(f"{where}: {unknown[0]}: {unknown_key(unknown[0], known)}")


def from_keys(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    """An instance of dataclass `kind` from JSON values; errors name `where` (say "method hcma, params") and the key."""
    check_keys(values, {key.name for key in fields(kind)}, where)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error


def expect(key: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    """Raise InputError naming a parameter unless `holds(value)`."""
    if not holds(value):
        raise InputError(f"{key}: expected {expected}, found {value!r}")


def expect_each(params: Any, keys: str, holds: Callable[[Any], bool], expected: str) -> None:
    """`expect` of each of these fields, named in one text, of a method's parameters."""
    for key in keys.split():
        expect(key, getattr(params, key), holds, expected)


def is_count(value: Any) -> bool:
    """Whether a value is an integer of at least 0, and no bool."""
    return type(value) is int and value >= 0


def is_number(value: Any) -> bool:
    """Whether a value is a finite int or float, and no bool."""
    return type(value) in (int, float) and math.isfinite(value)
