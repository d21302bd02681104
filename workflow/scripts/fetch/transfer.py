"""One file over an unreliable network: into a work file beside it, gone on with after a break, renamed when whole.

The work file `{name}.part` and its note `{name}.part.json` (which URL, which version) outlive a killed program.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from formats.files import InputError
from workflow.scripts.fetch.request import Access, Answer, Beyond, Broken, open_url
from workflow.scripts.fetch.sources import PAGES, Source, verify
from workflow.scripts.room import MARGIN

PIECE = 1 << 20
RETRIES = 5
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The work file of a download."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def written_from(self) -> dict[str, str]:
        """The note: `url`, and `version`, the server's ETag or date; empty where there is none."""
        try:
            return json.loads(self.note.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def fetch(source: Source, out: Path, access: Access) -> str:
    """Give `out` the source's bytes and return their SHA-256; raises InputError and OSError.

    A work file that is already whole is only verified: so a file may be brought here without a network.
    """
    part = Part(out.with_name(f"{out.name}.part"))
    check_folder(out.parent)
    if source.size is not None and part.size > source.size:
        part.discard()
    if not _is_whole(part, source):
        if access.offline:
            raise InputError(_bring(source, part))
        return _from_mirrors(source, part, out, access)
    return _accept(source, part, out)


def _is_whole(part: Part, source: Source) -> bool:
    """Of a file of unknown size, one that bears no note was brought whole by hand."""
    if source.size is None:
        return part.path.exists() and not part.note.exists()
    return part.size == source.size


def _bring(source: Source, part: Part) -> str:
    size = f", {source.size:,} bytes" if source.size else ""
    return f"{source.name}: offline (HF_HUB_OFFLINE or fetch.offline): put {source.urls[0]}{size} at {part.path} and run again"


def still_to_come(source: Source, out: Path, access: Access) -> int:
    """Bytes that `fetch` would load, by the first mirror whose headers are right. Raises InputError with the faults of all."""
    part = Part(out.with_name(f"{out.name}.part"))
    there = out.exists() and source.size in (None, out.stat().st_size)
    if there or _is_whole(part, source):
        return 0
    if access.offline:
        raise InputError(_bring(source, part))
    size = _first_of(source, lambda url: retrying(partial(_size_at, url, source, access), lambda: 0, access))
    return max((size or source.size or 0) - part.size, 0)


def _size_at(url: str, source: Source, access: Access) -> int | None:
    """What the headers of one byte say of the whole."""
    with open_url(url, {"Range": "bytes=0-0"}, access) as answer:
        total = _total(answer)
        _check_answer(url, answer, total, source)
        return total


def _first_of(source: Source, attempt: Callable[[str], T]) -> T:
    """The result at the first mirror that gives one; raises InputError with the faults of all."""
    faults = []
    for url in source.urls:
        try:
            return attempt(url)
        except InputError as error:
            faults.append(str(error))
    raise InputError("; ".join(dict.fromkeys(faults)))


def _from_mirrors(source: Source, part: Part, out: Path, access: Access) -> str:
    def attempt(url: str) -> str:
        said = retrying(partial(_once, url, source, part, access), lambda: part.size, access)
        return _accept(source if source.sha256 else replace(source, sha256=said), part, out)

    return _first_of(source, attempt)


def _accept(source: Source, part: Part, out: Path) -> str:
    """Verify the work file and give it its name; a download that is wrong is removed, what someone brought is not."""
    try:
        digest = verify(part.path, source)
    except InputError as error:
        if not part.note.exists():
            raise InputError(f"{error}; remove {part.path}") from None
        part.discard()
        raise
    with open(part.path, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part.path, out)
    part.discard()
    return digest


def retrying(attempt: Callable[[], T], progress: Callable[[], int], access: Access) -> T:
    """Call `attempt` until it does not raise Broken; gives up after RETRIES times without progress."""
    failures, furthest = 0, progress()
    while True:
        try:
            return attempt()
        except Broken as broken:
            failures = 1 if progress() > furthest else failures + 1
            furthest = max(furthest, progress())
            if failures > RETRIES:
                raise InputError(f"{broken}; given up after {RETRIES} tries, run again to go on") from None
            print(f"{broken}; trying again", file=sys.stderr)
            time.sleep(max(broken.after, access.wait * 2 ** (failures - 1)))


def _once(url: str, source: Source, part: Part, access: Access) -> str | None:
    try:
        return _stream(url, source, part, access)
    except Beyond:
        part.discard()
        raise


def _stream(url: str, source: Source, part: Part, access: Access) -> str | None:
    """One request: the rest of the file where the server can, all of it where not. Returns the SHA-256 the hub states."""
    start, version = _resumable(url, source, part)
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and version and not version.startswith("W/"):
        headers["If-Range"] = version
    with open_url(url, headers, access) as answer:
        if not answer.partial:
            start = 0
        elif not _continues(answer, start, version):
            part.discard()
            raise Broken(f"{url}: the file changed on the server; starting from its first byte")
        total = _total(answer)
        _check_answer(url, answer, total, source)
        # A part is gone on with, or written over.
        check_room(part.path.parent, (total or source.size or 0) - part.size, source.name)
        part.note.write_text(json.dumps({"url": url, "version": _version(answer)}))
        _copy(url, answer, part, start, total)
        linked = answer.linked_sha256
    if total is not None and part.size < total:
        raise Broken(f"{url}: the connection ended at byte {part.size:,} of {total:,}")
    return linked


def _resumable(url: str, source: Source, part: Part) -> tuple[int, str]:
    """Where to go on, and the version that is there; a part from elsewhere is kept only if a checksum will tell."""
    note = part.written_from()
    same = note.get("url") == url
    if part.size and not source.checked and not (same and note.get("version")):
        part.discard()
    return part.size, note.get("version", "") if same else ""


def _version(answer: Answer) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""


def _continues(answer: Answer, start: int, version: str) -> bool:
    span = answer.headers.get("Content-Range") or ""
    return span.startswith(f"bytes {start}-") and version in ("", _version(answer))


def _total(answer: Answer) -> int | None:
    """Bytes of the whole file as the server says, None where it does not."""
    if answer.partial:
        total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    length = answer.headers.get("Content-Length")
    return int(length) if length else None


def _check_answer(url: str, answer: Answer, total: int | None, source: Source) -> None:
    """Refuse before the first byte what can be told from the headers."""
    if answer.headers.get_content_type() == "text/html":
        raise InputError(f"{url}: an HTML page came instead of {source.name}; open it in a browser to see why")
    if None not in (total, source.size) and total != source.size:
        raise InputError(
            f"{url}: the server's file has {total:,} bytes, expected {source.size:,}: cut off or another file"
        )
    if None not in (answer.linked_sha256, source.sha256) and answer.linked_sha256 != source.sha256:
        raise InputError(
            f"{url}: the hub's file has sha256 {answer.linked_sha256}, expected {source.sha256}: it changed"
        )


def _copy(url: str, answer: Answer, part: Part, start: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=start, desc=url.rpartition("/")[2], unit="B", unit_scale=True, mininterval=2)
    with bar, open(part.path, "ab" if start else "wb") as file:
        while piece := answer.read(PIECE):
            if not start and not bar.n and piece[:64].lstrip().lower().startswith(PAGES):
                raise InputError(f"{url}: an HTML page came instead of the file; open it in a browser to see why")
            file.write(piece)
            bar.update(len(piece))


def check_folder(folder: Path) -> None:
    """Make a folder; raises InputError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{os.getpid()}.tmp"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); set fetch.folder to one that can") from None


def check_room(folder: Path, size: int, name: str) -> None:
    """Raise InputError unless the folder's disk takes `size` bytes more and keeps a margin."""
    free = shutil.disk_usage(folder).free
    if free < size + MARGIN:
        raise InputError(
            f"{folder}: {name} needs {size / 1e9:.2f} GB more and {free / 1e9:.2f} GB are free; give fetch.folder another disk"
        )
