"""Which file is the image of which layout, of images that other code has written: by a pattern, or by a table of names.

A pattern is a name with fields: {id}, the layout's; {source_id}, its set's own; {image_id}, the photo's; {index}, the layout's
place in the file of test layouts, from 0; {number}, the same from 1. A number is all the digits that stand there: {id} in any
zero padding, {id:06d} in that alone. `*` is anything but a slash; a folder whose pattern ends in `.zip` is a zip.
A table is a CSV with the column `file` and one or more columns named as those fields. Nothing is guessed: a layout has exactly
one file, and a file is of at most one layout.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from formats import listed, shown
from formats.archives import is_inside
from formats.files import InputError

PATTERN = "{id}.png"
LayoutRow = Mapping[str, Any]
# Of a layout and its place in the file.
FIELDS: dict[str, Callable[[LayoutRow, int], Any]] = {
    "id": lambda layout, place: layout["id"],
    "source_id": lambda layout, place: layout.get("source_id"),
    "image_id": lambda layout, place: layout["image_id"],
    "index": lambda layout, place: place,
    "number": lambda layout, place: place + 1,
}
TEXT = "source_id"  # the one field that need not be a number
Key = tuple[Any, ...]


@dataclass
class Assigned:
    """The file of each layout that has one, by layout id; the files that are no layout's; a line for each kind of fault."""

    files: dict[int, str]
    others: list[str]
    faults: list[str]


class Pattern:
    """Names by a pattern; raises InputError for one that is none."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.fields: list[str] = []
        self._specs: list[str] = []
        expression, parsed = "", _parsed(pattern)
        for place, (literal, field, spec, conversion) in enumerate(parsed):
            expression += "[^/]*".join(map(re.escape, literal.split("*")))
            if field is None:
                continue
            if (
                field not in FIELDS
                or conversion
                or not re.fullmatch("" if field == TEXT else "(0[1-9]d)?|(01[0-9]d)", spec)
            ):
                raise InputError(f"pattern {shown(pattern)}: expected fields such as {{id}} or {{id:06d}}, {_known()}")
            after = parsed[place + 1][0] if place + 1 < len(parsed) else ""
            expression += "([^/]+)" if field == TEXT else _digits(literal, after)
            self.fields.append(field)
            self._specs.append(spec)
        if not self.fields:
            raise InputError(f"pattern {shown(pattern)}: names no layout; expected one of {_known()} in braces")
        if any(f"{{{TEXT}}}" in part and "*" in part for part in pattern.split("/")):
            raise InputError(f"pattern {shown(pattern)}: {{{TEXT}}} may be any text, so no * stands beside it")
        if not is_inside(pattern) or pattern.endswith("/"):
            raise InputError(f"pattern {shown(pattern)}: expected the name of a file below the folder")
        self._expression = re.compile(expression)

    @property
    def depth(self) -> int:
        """Folders above a file."""
        return self.pattern.count("/")

    @property
    def zips(self) -> str:
        """The pattern of zips that the files are in; empty where they are in none."""
        first, slash, _ = self.pattern.partition("/")
        return re.sub(r"\{.*?\}", "*", first) if slash and first.endswith(".zip") else ""

    def fits(self, name: str) -> bool:
        """Whether a name may be that of a layout's file."""
        return self.key(name) is not None

    def key(self, name: str) -> Key | None:
        """What a name says of its layout; None of a name that the pattern does not fit."""
        found = self._expression.fullmatch(name)
        if found is None:
            return None
        texts = found.groups()
        numbers = [text if field == TEXT else int(text) for field, text in zip(self.fields, texts, strict=True)]
        exact = zip(numbers, self._specs, texts, strict=True)
        return tuple(numbers) if all(not spec or format(number, spec) == text for number, spec, text in exact) else None

    def assign(self, names: Iterable[str], layouts: Sequence[LayoutRow]) -> Assigned:
        """The layouts' files among `names`."""
        found: dict[Key, list[str]] = defaultdict(list)
        strange: list[str] = []
        for name in names:
            key = self.key(name)
            (strange if key is None else found[key]).append(name)
        keys, faults = _keys(self.fields, layouts)
        return _assigned(keys, found, strange, faults, f"none of the pattern {self.pattern}")


class Table:
    """Names by a CSV; raises InputError for a file that is none, and for rows that cannot be meant."""

    zips = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields, self._names = self._read()

    @cached_property
    def depth(self) -> int:
        """Folders above a file, at most."""
        return max((name.count("/") for names in self._names.values() for name in names), default=0)

    def fits(self, name: str) -> bool:
        """Whether a name may be that of a layout's file."""
        return any(name in names for names in self._names.values())

    def assign(self, names: Iterable[str], layouts: Sequence[LayoutRow]) -> Assigned:
        """The layouts' files among `names`."""
        there = set(names)
        listed_names = {name for each in self._names.values() for name in each}
        keys, faults = _keys(self.fields, layouts)
        if lost := sorted(listed_names - there):
            faults.append(_kind(lost, f"named in {self.path.name} and not there"))
        found = {key: [name for name in each if name in there] for key, each in self._names.items()}
        return _assigned(keys, found, sorted(there - listed_names), faults, f"none in {self.path.name}")

    def _read(self) -> tuple[list[str], dict[Key, list[str]]]:
        try:
            with open(self.path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, strict=True)
                fields = [name for name in reader.fieldnames or [] if name in FIELDS]
                if twice := [name for name, count in Counter(reader.fieldnames or []).items() if count > 1]:
                    raise InputError(
                        f"{self.path}: the column {shown(twice[0])} stands there several times, expected once"
                    )
                if "file" not in (reader.fieldnames or []) or not fields:
                    found = ", ".join(reader.fieldnames or []) or "none"
                    raise InputError(f"{self.path}: expected the columns `file` and one of {_known()}, found {found}")
                rows = [(reader.line_num, row) for row in reader]
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: not a CSV in UTF-8 ({error})") from None
        names: dict[Key, list[str]] = defaultdict(list)
        faults = []
        for line, row in rows:
            name, texts = (
                (row["file"] or "").replace("\\", "/").removeprefix("./"),
                [row[field] or "" for field in fields],
            )
            if not is_inside(name):
                faults.append(f"line {line}: file is {shown(row['file'])}, expected a name below the folder")
            elif odd := [
                f"{field} is {shown(text)}, expected digits"
                for field, text in zip(fields, texts, strict=True)
                if field != TEXT and not (text.isascii() and text.isdecimal() and len(text) < 20)
            ]:
                faults.append(f"line {line}: {odd[0]}")
            else:
                pairs = zip(fields, texts, strict=True)
                names[tuple(text if field == TEXT else int(text) for field, text in pairs)].append(name)
        if faults:
            raise InputError(f"{self.path}, {listed(faults)}")
        if not names:
            raise InputError(f"{self.path}: names no file")
        return fields, dict(names)


Naming = Pattern | Table
Size = tuple[int, int]  # width and height in pixels
MIXED: Literal["mixed"] = "mixed"


@dataclass(frozen=True)
class OutsideRow:
    """A row whose images other code made, as its stanza or a command line describes it.

    images: folder or zip; bundle: a bundle of a run instead, and bundle_row which of its rows. table: a CSV of names instead of
    the pattern. size: that every picture has; None is any, but of all the same. surplus: whether files of no layout are meant.
    """

    row: str
    made_by: str
    images: str = ""
    bundle: str = ""
    bundle_row: str = ""
    pattern: str = PATTERN
    table: str = ""
    size: Size | Literal["mixed"] | None = None
    surplus: bool = False

    @property
    def place(self) -> str:
        """Where its images are."""
        return self.bundle or self.images

    @cached_property
    def naming(self) -> Naming:
        """Which file is which layout's; raises InputError for a pattern or table that is none."""
        if self.bundle:
            return Pattern(f"samples/{self.bundle_row}/test/*.zip/{{id:012d}}.png")
        return Table(Path(self.table)) if self.table else Pattern(self.pattern)

    def options(self) -> list[str]:
        """The same as options of evaluation.datasets.outside."""
        words = ["--row", self.row, f"--made-by={self.made_by}"]
        if self.bundle:
            return [*words, "--bundle", self.bundle, "--bundle-row", self.bundle_row]
        words += ["--images", self.images]
        words += [f"--pattern={self.pattern}"] if self.pattern != PATTERN else []
        words += ["--table", self.table] if self.table else []
        words += ["--surplus", "pass_over"] if self.surplus else []
        return words + (["--size", *([MIXED] if self.size == MIXED else map(str, self.size))] if self.size else [])


def _digits(before: str, after: str) -> str:
    """The expression of a number: all digits that stand there, unless the pattern itself has digits beside it."""
    left = "" if before[-1:].isdecimal() else "(?<![0-9])"
    return f"{left}([0-9]{{1,20}}){'' if after[:1].isdecimal() else '(?![0-9])'}"


def _parsed(pattern: str) -> list[tuple[str, str | None, str, str | None]]:
    try:
        return [
            (literal, field, spec or "", conversion) for literal, field, spec, conversion in Formatter().parse(pattern)
        ]
    except ValueError as error:
        raise InputError(f"pattern {shown(pattern)}: {error}") from None


def _known() -> str:
    return ", ".join(FIELDS)


def _keys(fields: Sequence[str], layouts: Sequence[LayoutRow]) -> tuple[dict[Key, int], list[str]]:
    """The layout of each key, and a line for each kind of layout that its fields do not name."""
    layouts_of: dict[Key, list[int]] = defaultdict(list)
    for place, layout in enumerate(layouts):
        values = [FIELDS[field](layout, place) for field in fields]
        key = tuple(
            str(value) if field == TEXT and value is not None else value
            for field, value in zip(fields, values, strict=True)
        )
        layouts_of[key].append(layout["id"])
    faults, what = [], " and ".join(fields)
    if nameless := [str(number) for key, ids in layouts_of.items() if None in key for number in ids]:
        faults.append(_kind(nameless, f"layouts without {TEXT}", "have one, or take {id} or {index}"))
    if shared := [
        f"{' and '.join(map(str, key))}" for key, ids in layouts_of.items() if len(ids) > 1 and None not in key
    ]:
        faults.append(_kind(shared, f"{what} of several layouts, so the names do not tell them apart"))
    return {key: ids[0] for key, ids in layouts_of.items() if len(ids) == 1 and None not in key}, faults


def _assigned(
    layouts: Mapping[Key, int], found: Mapping[Key, list[str]], strange: list[str], faults: list[str], absent: str
) -> Assigned:
    """The one file of each layout; what has none, several, or one of another's, are faults."""
    several = [(layouts[key], names) for key, names in found.items() if key in layouts and len(names) > 1]
    if several:
        texts = [f"layout {number}: {', '.join(sorted(names)[:3])}" for number, names in several]
        faults = [*faults, f"{len(several)} with several files: {listed(texts)}"]
    files = {layouts[key]: names[0] for key, names in found.items() if key in layouts and len(names) == 1}
    taken: dict[str, list[int]] = defaultdict(list)
    for number, name in files.items():
        taken[name].append(number)
    if twice := [f"{name}: layouts {', '.join(map(str, ids))}" for name, ids in taken.items() if len(ids) > 1]:
        faults = [*faults, f"{len(twice)} files of several layouts: {listed(twice)}"]
    if missing := [str(number) for key, number in layouts.items() if not found.get(key)]:
        faults = [*faults, _kind(missing, "layouts without a file", absent)]
    others = [name for key, names in found.items() if key not in layouts for name in names]
    return Assigned(files, sorted([*others, *strange]), faults)


def _kind(names: Sequence[str], what: str, more: str = "") -> str:
    """A line of one kind of fault: how many, what, and the first few."""
    first = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    return f"{len(names)} {what} ({first}){f': {more}' if more else ''}"
