"""What a key may hold, in words: for messages about its value, and for the tables of `docs/configuration.md`.

    python -m workflow.keys docs/configuration.md

writes the tables into that page, between its marks.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from formats import shown
from formats.cli import options, run
from formats.files import replacing
from formats.params import unknown_key
from workflow.overlays import BASE, ROOT, Fault, Keys, content

REQUIRED = object()
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
    choices = get_args(kind)
    if type(None) in choices:
        return f"{words(choices[0], notes)}, or null"
    if get_origin(kind) is Literal:
        *others, last = map(str, choices)
        return " or ".join(filter(None, [", ".join(others), last]))
    if get_origin(kind) is list:
        return f"a list, each item {words(choices[0])}{_bounds(notes)}"
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
        kind, found, of_a_name = one["type"], one["input"], one["loc"][-1:] == ("[key]",)
        keys: Keys = one["loc"][:-1] if of_a_name else one["loc"]
        if kind in ("extra_forbidden", "invalid_key") or (of_a_name and kind == "literal_error"):
            yield Fault(keys, unknown_key(str(keys[-1]), _names(model, keys[:-1])))
        elif of_a_name:
            yield Fault(keys, f"not {words(get_args(_bare(_kind(model, keys[:-1])[0]))[0])}")
        elif kind == "missing":
            yield Fault(keys, "missing")
        elif kind == "repeated":
            yield Fault(keys, f"expected each value once, found {shown(found)}")
        elif kind == "path":
            yield Fault(keys, f"{one['msg']}, which cannot be taken there; rename the folder, or give a link to it")
        else:
            yield Fault(keys, f"expected {words(*_kind(model, keys))}, found {shown(found)}{_as_text(found)}")


def _as_text(value: Any) -> str:
    """A hint about what YAML, or Snakemake on its command line, reads as text: numbers, inside braces, and true and false."""
    if value in ("true", "false"):
        return f", which is text: on the command line write {value.capitalize()}"
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
        if _is_section(kind) and str(key) in kind.model_fields:
            field = kind.model_fields[str(key)]
            kind, metadata = field.annotation, field.metadata
        elif _is_section(kind):  # one of the further keys that it takes
            kind, metadata = get_args(kind.__annotations__["__pydantic_extra__"])[-1], []
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


def _names(model: Any, keys: Keys) -> list[str]:
    """The keys that the mapping at `keys` may have."""
    kind = _bare(_kind(model, keys)[0])
    return list(kind.model_fields) if _is_section(kind) else list(get_args(get_args(kind)[0]))


class KeyRow(NamedTuple):
    """A line of the tables; the default is that of base.yaml, else the model's, else empty: every scale states it."""

    key: str
    value: str
    default: str
    meaning: str


def rows(model: type[BaseModel], base: Any, above: str = "") -> Iterator[KeyRow]:
    """Every key, those below mappings dotted; `base` is what base.yaml has there."""
    for name, field in model.model_fields.items():
        kind, key = _bare(field.annotation), f"{above}{name}"
        stated = base.get(name, REQUIRED) if isinstance(base, Mapping) else REQUIRED
        if field.description:
            default = field.default if stated is REQUIRED and not field.is_required() else stated
            text = "" if default is REQUIRED or isinstance(default, Mapping) else f"`{json.dumps(default)}`"
            yield KeyRow(key, words(field.annotation, field.metadata), text, field.description)
        if _is_section(kind) and not _alike(model) and getattr(kind, "EXPLAINED", key) == key:
            yield from rows(kind, stated, f"{key}.")
        elif get_origin(kind) is dict and _is_section(value := _bare(get_args(kind)[1])):
            yield from rows(value, REQUIRED, f"{key}.NAME.")
    if _alike(model):
        yield from rows(kind, REQUIRED, f"{above}NAME.")


def _alike(model: type[BaseModel]) -> bool:
    """Whether all keys of a mapping hold mappings of one type."""
    kinds = {_bare(field.annotation) for field in model.model_fields.values()}
    return len(kinds) == 1 < len(model.model_fields) and _is_section(kinds.pop())


def with_tables(page: str, model: type[BaseModel], base: Any) -> str:
    """A page with the keys of each section between its marks, `<!-- keys of alignment.train -->` and `<!-- end -->`.

    A key is in the table of the longest mark that it lies below; `top` takes those that lie below none.
    """
    marks = re.findall("<!-- keys of (.*?) -->", page)
    tables: dict[str, list[str]] = {
        mark: ["| key | value | default | meaning |", "|---|---|---|---|"] for mark in marks
    }
    for row in rows(model, base):
        above = [mark for mark in marks if f"{row.key}.".startswith(f"{mark}.")]
        tables[max(above, key=len, default="top")].append(f"| `{row.key}` | {' | '.join(row[1:])} |")

    def marked(found: re.Match[str]) -> str:
        return "\n".join([f"<!-- keys of {found[1]} -->", *tables[found[1]], "<!-- end -->"])

    return re.sub("<!-- keys of (.*?) -->.*?<!-- end -->", marked, page, flags=re.DOTALL)


def main() -> None:
    """The command line above."""
    from workflow.settings import Settings

    parser = options(__doc__)
    parser.add_argument("page", type=Path)
    path: Path = parser.parse_args().page
    page = with_tables(path.read_text(encoding="utf-8"), Settings, content(ROOT / BASE))
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
