"""Files of foreign sets, opened without running anything in them; whatever is wrong is one InputError naming the file.

Pickles are read without `find_class`, YAML by the safe loader without aliases or repeated keys, XML without entities, CSV by
the csv module, Python literals by ast.literal_eval.
"""

import ast
import csv
import json
import pickle
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from formats import shown
from formats.files import InputError

LONGEST_REASON = 160  # characters of a library's message
LONGEST_CELL = 1 << 24  # characters of a cell of CSV


class _NoCode(pickle.Unpickler):
    """Lists, dictionaries, tuples, numbers and text alone."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it wants {module}.{name}, expected plain lists, dictionaries, numbers and text")


def open_pickle(path: Path) -> Any:
    """The plain containers of a pickle; raises InputError for one that wants anything else, nothing of which is run."""
    try:
        with open(path, "rb") as file:
            return _NoCode(file).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its opcodes come upon
        raise InputError(f"{path}: refused as a pickle ({_short(error)})") from None


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Safe(_LOADER):  # type: ignore[misc, valid-type]
    """The safe loader that takes no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1 if key.start_mark else 0
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"line {line}: a key that is no text")
            if (key.tag, key.value) in seen:
                raise InputError(f"line {line}: duplicate key {shown(key.value)}; which of them holds?")
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def open_yaml(path: Path) -> Any:
    """The content of a YAML file; raises InputError for one that names Python's objects, an alias or a key twice."""
    text = _text(path)
    try:
        for event in yaml.parse(text, _LOADER):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise InputError(f"line {line}: an alias (*), expected every value written out")
        return yaml.load(text, _Safe)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: not YAML of records (nested too deeply)") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML ({_short(error)})") from None


class RepeatedKey:
    """What stands in an object of JSON that has a key twice: no reader takes it for a value."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"an object with {shown(self.key)} twice"


def open_json(path: Path, passed_over: frozenset[str] = frozenset()) -> Any:
    """The content of a JSON file, without the keys `passed_over`; an object with a key twice is a RepeatedKey.

    Raises InputError for a file that is not JSON. NaN and infinities are floats, for the check of their field to name.
    """

    def each(pairs: list[tuple[str, Any]]) -> Any:
        kept = {key: value for key, value in pairs if key not in passed_over}
        if len(kept) < len(pairs):
            keys = [key for key, _ in pairs if key not in passed_over]
            if len(kept) < len(keys):
                return RepeatedKey(next(key for key in keys if keys.count(key) > 1))
        return kept

    def integer(digits: str) -> Any:
        return int(digits) if len(digits) <= 1000 else f"an integer of {len(digits)} digits"

    try:
        content = path.read_bytes()
        found = json.loads(content.decode(json.detect_encoding(content)), object_pairs_hook=each, parse_int=integer)
    except RecursionError:
        raise InputError(f"{path}: not JSON of records (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({_short(error)})") from None
    if isinstance(found, RepeatedKey):
        raise InputError(f"{path}: duplicate key {shown(found.key)}; which of them holds?")
    return found


def open_csv(path: Path, header: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with their numbers, the header as 0; rows without a cell are passed over.

    Raises InputError naming the line of what is not UTF-8 or not CSV.
    """
    csv.field_size_limit(LONGEST_CELL)
    number = 0 if header else 1
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except UnicodeDecodeError:
                raise InputError(f"{path}: line {_first_odd_line(path)} is not UTF-8; save the file as UTF-8") from None
            except csv.Error as error:
                raise InputError(f"{path}: line {reader.line_num}: not CSV ({error})") from None
            if cells:
                yield number, cells
                number += 1


def open_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Lines, cut at line feeds alone and stripped, with their numbers; None is one that is not UTF-8."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                yield number, None


def open_xml(path: Path) -> ET.Element:
    """The root of an XML file; raises InputError for what is not XML, or declares a type or entities of its own."""
    content = path.read_bytes()
    encoded = ("<!DOCTYPE".encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be"))
    if any(mark in content for mark in encoded):
        raise InputError(f"{path}: declares a document type; expected an annotation without entities")
    try:
        return ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not XML ({_short(error)})") from None


def open_parquet(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of these columns of a parquet file with their numbers; the others, photos among them, are not read."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                found = ", ".join(file.schema_arrow.names)
                raise InputError(f"{path}: no column `{missing[0]}`; found {found}")
            for batch in file.iter_batches(batch_size=1024, columns=list(columns)):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except FileNotFoundError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:  # an OSError for a damaged header
        raise InputError(f"{path}: not parquet that can be read ({_short(error)})") from None


def literal(text: str) -> Any:
    """The value of a Python literal; raises ValueError for any other text, of which nothing is evaluated."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("not a literal of lists, texts and numbers") from None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: line {_first_odd_line(path)} is not UTF-8; save the file as UTF-8") from None


def _first_odd_line(path: Path) -> int:
    return next((number for number, line in open_lines(path) if line is None), 1)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    plain = "".join(sign if sign.isprintable() else "?" for sign in text)
    return plain if len(plain) <= LONGEST_REASON else f"{plain[:LONGEST_REASON]}..."
