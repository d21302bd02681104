"""SHA256SUMS: what a folder of weights holds, as the program `sha256sum` writes it; by it every later use is verified.

A line is `<64 hex digits>  <name>`, or ` *` for the two blanks; names are relative to the folder and stay inside it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from formats.files import InputError, sha256, write_text

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")


def folder_sha256(folder: str | Path) -> str:
    """The identity of a model folder: the SHA-256 of its SHA256SUMS file; raises InputError where it has none."""
    return sha256(_sums_of(Path(folder)))


def read_sums(folder: str | Path) -> dict[str, str]:
    """{relative name: SHA-256} of a folder's SHA256SUMS; raises InputError with the line that is none."""
    path = _sums_of(Path(folder))
    return sums_of(path.read_text(encoding="utf-8", errors="replace"), str(path))


def sums_of(text: str, where: str) -> dict[str, str]:
    """{relative name: SHA-256} of a SHA256SUMS's text; raises InputError with the line that is none."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = LINE.fullmatch(line)
        if not found or PurePosixPath(found[2]).is_absolute() or ".." in PurePosixPath(found[2]).parts:
            raise InputError(f"{where}, line {number}: expected `<sha256>  <file in the folder>`, found {line[:80]!r}")
        sums[found[2]] = found[1]
    if not sums:
        raise InputError(f"{where}: lists no file")
    return sums


def write_sums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write SHA256SUMS, whole or not at all: last, since a folder is none without it."""
    write_text(folder / SUMS, as_sums(digests))


def as_sums(digests: Mapping[str, str]) -> str:
    """The text of a SHA256SUMS."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder but hidden ones, by its path there; parts may be links to another folder's."""
    walked = (Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names)
    names = [path.relative_to(folder) for path in walked]
    shown = [name for name in names if name.name != SUMS and not any(part.startswith(".") for part in name.parts)]
    return {name.as_posix(): sha256(folder / name) for name in shown}


def verify_folder(folder: str | Path) -> str:
    """Check every file of a model folder against its SHA256SUMS; return the folder's own SHA-256.

    Raises InputError for a listed file that is missing or changed, and for a file in a component's folder that is not
    listed, since a loader might prefer it to a listed one.
    """
    folder = Path(folder)
    listed = read_sums(folder)
    for name, expected in listed.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing, but listed in {SUMS}")
        found = sha256(folder / name)
        if found != expected:
            raise InputError(f"{folder / name}: sha256 is {found}, expected {expected} ({folder / SUMS})")
    for path in sorted(folder.glob("[!.]*/*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and name not in listed:
            raise InputError(f"{path}: not listed in {folder / SUMS}; remove it or add its line")
    return folder_sha256(folder)


def stated_sha256(path: Path) -> str | None:
    """What the SHA256SUMS beside a file says of it; None without a line or without that file. Raises InputError."""
    return read_sums(path.parent).get(path.name) if (path.parent / SUMS).is_file() else None


def _sums_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder")
    if not (folder / SUMS).is_file():
        raise InputError(f"{folder / SUMS}: missing; write it with `sha256sum` from inside the folder")
    return folder / SUMS
