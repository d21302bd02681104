"""A published file: where it is, and what its bytes must be."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formats.files import InputError

PAGES = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Source:
    """One file. `urls` are mirrors in order; `git` is the id git gives the contents, known of the hub's small files."""

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    git: str | None = None

    @property
    def checked(self) -> bool:
        """Whether any checksum is known."""
        return bool(self.sha256 or self.md5 or self.git)


def source_of(name: str, entry: dict[str, Any]) -> Source:
    """The source of a configuration's entry; its licence is another matter."""
    known = {key: value for key, value in entry.items() if key in ("size", "sha256", "md5")}
    return Source(name, tuple(entry["urls"]), **known)


def verify(path: Path, source: Source) -> str:
    """The SHA-256 of a whole file; raises InputError when size, kind or a checksum is not the source's."""
    size = path.stat().st_size
    if is_page(path):
        raise InputError(f"{source.name}: an HTML page and not the file; open {source.urls[0]} in a browser to see why")
    if source.size not in (None, size):
        raise InputError(
            f"{source.name}: {size:,} bytes, expected {source.size:,}: {'cut off' if size < source.size else 'another file'}"
        )
    expected = {"sha256": source.sha256, "md5": source.md5, "git": source.git}
    found = _digests(path, size)
    for kind, digest in expected.items():
        if digest not in (None, found[kind]):
            raise InputError(f"{source.name}: {kind} is {found[kind]}, expected {digest}: changed or damaged")
    return found["sha256"]


def is_page(path: Path) -> bool:
    """Whether a file that should be binary or JSON begins as a web page."""
    with open(path, "rb") as file:
        return file.read(64).lstrip().lower().startswith(PAGES)


def _digests(path: Path, size: int) -> dict[str, str]:
    hashers = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    hashers["git"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            for hasher in hashers.values():
                hasher.update(piece)
    return {kind: hasher.hexdigest() for kind, hasher in hashers.items()}
