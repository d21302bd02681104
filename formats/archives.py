"""The files of a folder or of a zip, by name. Nothing in a zip is trusted: names, sizes and kinds are checked beforehand.

What operating systems leave beside files is passed over. Nothing is ever extracted by a name that a zip gives.
"""

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from formats import SHOWN
from formats.files import InputError

# What file managers leave beside files; AppleDouble's `._*` as well.
LITTER_FILES = {".ds_store", ".localized", "thumbs.db", "ehthumbs.db", "desktop.ini"}
LITTER_FOLDERS = {"__macosx", ".spotlight-v100", ".trashes", ".fseventsd", "@eadir"}
BYTES = 2**28  # of a file, as far as nobody expects more: an image's, uncompressed
# What the standard library raises for a zip, or a member of one, that is not whole, or compressed in a way that it does not
# know; and with what a system call raises too.
NOT_WHOLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError, NotImplementedError)
DAMAGED = (*NOT_WHOLE, OSError, ValueError)


class Folder:
    """A folder, read as a zip is: its files and those of the folders in it, down to a depth."""

    def __init__(self, path: Path, depth: int = 1) -> None:
        self.path, self.depth = path, depth

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infolist(self) -> list[zipfile.ZipInfo]:
        """A folder further down counts as a file."""
        return [self._info(path) for path in self._below(self.path, self.depth)]

    def _below(self, folder: Path, depth: int) -> Iterator[Path]:
        for entry in folder.iterdir():
            if depth and entry.is_dir():
                yield from self._below(entry, depth - 1)
            else:
                yield entry

    def _info(self, path: Path) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(path.relative_to(self.path).as_posix())
        info.file_size = path.stat().st_size
        return info

    def close(self) -> None:
        pass

    def open(self, info: zipfile.ZipInfo) -> IO[bytes]:
        return open(self.path / info.filename, "rb")

    def read(self, info: zipfile.ZipInfo) -> bytes:
        return (self.path / info.filename).read_bytes()


Archive = zipfile.ZipFile | Folder
Members = dict[str, zipfile.ZipInfo]


def open_archive(path: Path, depth: int = 1) -> Archive:
    """A folder, down to a depth, or a zip; raises InputError for what is neither."""
    if path.is_dir():
        return Folder(path, depth)
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except DAMAGED as error:
        raise InputError(
            f"{path}: damaged or cut off, or not a zip ({error}); a run's own: delete it and run again"
        ) from None


def members(path: Path, archive: Archive, largest: int | None = None) -> Members:
    """Files by name, without litter; raises InputError for names that come twice or lead outside, for links, for what is
    encrypted, and for files that say they are larger than `largest` bytes (BYTES).
    """
    most = largest or BYTES
    infos = [info for info in archive.infolist() if not info.is_dir()]
    named = [(info.filename.replace("\\", "/"), info) for info in infos]  # some programs write Windows' separators
    named = [(name, info) for name, info in named if not is_litter(name)]
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise InputError(f"{path}: {some(twice)} there more than once")
    if isinstance(archive, zipfile.ZipFile):
        if outside := sorted(name for name, _ in named if not is_inside(name)):
            raise InputError(f"{path}: {some(outside)} outside the zip by name")
        if links := sorted(name for name, info in named if stat.S_ISLNK(info.external_attr >> 16)):
            raise InputError(f"{path}: {some(links)} no file but a link")
    if locked := sorted(name for name, info in named if info.flag_bits & 1):
        raise InputError(f"{path}: {some(locked)} encrypted; expected a zip without a password")
    if large := sorted(name for name, info in named if info.file_size > most):
        raise InputError(f"{path}: {some(large)} larger than {most >> 20} MiB")
    return dict(named)


def is_inside(name: str) -> bool:
    """Whether a name stays in the folder that it is relative to, on every system."""
    path = PurePosixPath(name)
    rooted = path.is_absolute() or name[1:3] == ":/" or "\0" in name
    return bool(path.parts) and not rooted and ".." not in path.parts


def is_litter(name: str) -> bool:
    """Whether a file or folder is one that operating systems leave beside others, or lies in one."""
    *_, last = parts = name.lower().split("/")
    return last in LITTER_FILES or last.startswith("._") or not LITTER_FOLDERS.isdisjoint(parts)


def some(names: Sequence[str]) -> str:
    """ "3 (a, b, ...) are": the first few names, their count and the verb."""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more}) {'is' if len(names) == 1 else 'are'}"
