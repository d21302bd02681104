"""Files: written whole or not at all, JSON and hashes; and the one error for whatever is wrong with an input."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """A file or setting handed in cannot be used: the message names the item, what was found and what was expected.

    Programs print it as one line, without a traceback (`formats.cli.run`).
    """


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it to `path` if the block ends well, else remove it.

    The path beside is this call's alone: two nodes of a cluster may write the same file, under the same process id.
    An OSError without a file name, such as a full disk, is raised again with `path` as its file name.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.filename not in (None, str(beside)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON, whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, each: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Read JSON in UTF-8, 16 or 32, every object, as its pairs of key and value, passed through `each` as it is read.

    An integer of more digits than Python converts comes as the text of its digits, for the check of its field to name.
    Raises InputError naming a file that is missing or not JSON.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode(json.detect_encoding(content))
        del content
        try:
            return json.loads(text, object_pairs_hook=each)
        except json.JSONDecodeError:
            raise
        except ValueError:
            return json.loads(text, object_pairs_hook=each, parse_int=_whole)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON of records (lists or objects nested too deeply)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None


def _whole(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def read_object(path: str | Path, kind: str, *keys: str) -> dict[str, Any]:
    """Read a JSON object that has these keys; raises InputError for any other file, `kind` saying what was expected."""
    content = read_json(path)
    if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise InputError(f"{path}: not {kind} (no `{missing[0]}`); delete it and run again")
    return content


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
