"""What a key may hold, in words: for messages about its value, and for the tables of `docs/configuration.md`.

python -m workflow.keys docs/configuration.md      writes the tables into that page, between its marks
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from formats import shown
from workflow.overlays import Fault, Keys, unknown_key

BOUNDS = {
    "ge": " of at least {}",
    "gt": " above {}",
    "le": " at most {}",
    "lt": " below {}",
    "multiple_of": " a multiple of {}",
    "min_length": ", not empty",
}


def words(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """What a value of a type may be: "an integer of at least 1, or null"."""
    if get_origin(kind) is Annotated:
        return words(get_args(kind)[0], [*get_args(kind)[1:], *metadata])
    notes = [note for one in metadata for note in (one.metadata if isinstance(one, FieldInfo) else [one])]
    if said := [note for note in notes if isinstance(note, str)]:
        return said[0]
    options = get_args(kind)
    if type(None) in options:
        return f"{words(options[0], notes)}, or null"
    if get_origin(kind) is Literal:
        return " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))
    if get_origin(kind) is list:
        return f"a list, each {words(options[0])}{_bounds(notes)}"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
    return f"{names.get(kind, 'a mapping')}{_bounds(notes)}"


def _bounds(notes: Iterable[Any]) -> str:
    found = {key: getattr(note, key) for note in notes for key in BOUNDS if hasattr(note, key)}
    if {"ge", "le"} <= found.keys():
        return f" from {found['ge']} to {found['le']}"
    return ",".join(BOUNDS[key].format(value) for key, value in found.items())


def explained(model: type[BaseModel], error: ValidationError) -> Iterator[Fault]:
    """One fault for each of pydantic's."""
    for one in error.errors(include_url=False):
        keys: Keys = tuple(key for key in one["loc"] if key != "[key]")
        if one["type"] in ("extra_forbidden", "invalid_key") or (
            one["loc"][-1] == "[key]" and one["type"] == "literal_error"
        ):
            yield Fault(keys, unknown_key(str(keys[-1]), _names(_kind(model, keys[:-1])[0])))
        elif one["loc"][-1] == "[key]":
            yield Fault(keys, f"expected {words(get_args(_bare(_kind(model, keys[:-1])[0]))[0])} for a name")
        elif one["type"] == "missing":
            yield Fault(keys, "missing")
        elif one["type"] == "repeated":
            yield Fault(keys, f"expected each value once, found {shown(one['input'])}")
        else:
            yield Fault(
                keys, f"expected {words(*_kind(model, keys))}, found {shown(one['input'])}{_as_text(one['input'])}"
            )


def _as_text(value: Any) -> str:
    """A hint about numbers that YAML, or Snakemake inside braces on the command line, reads as text."""
    try:
        return f", which is text: write {float(value):g} in a file" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _kind(model: Any, keys: Keys) -> tuple[Any, list[Any]]:
    """Type and metadata of the value at `keys`."""
    kind: Any = model
    metadata: list[Any] = []
    for key in keys:
        kind = _bare(kind)
        if _is_section(kind):
            field = kind.model_fields[str(key)]
            kind, metadata = field.annotation, field.metadata
        else:
            kind, metadata = get_args(kind)[-1], []
    return kind, metadata


def _bare(kind: Any) -> Any:
    """A type without its metadata, and without null."""
    while get_origin(kind) is Annotated or type(None) in get_args(kind):
        kind = get_args(kind)[0]
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _names(kind: Any) -> list[str]:
    """The keys that a mapping may have."""
    kind = _bare(kind)
    return list(kind.model_fields) if _is_section(kind) else list(get_args(get_args(kind)[0]))
