"""One published file over an unreliable network: resumed, verified, whole or not at all.

It comes into `{file}.part`, which outlives a killed program and is continued by the next, from whichever mirror: the checksum
tells whether the pieces belong together.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from formats.files import InputError
from workflow.settings import Fetch, Source

PIECE = 1 << 20
TRIES = 5  # after breaks without progress, or refusals that may pass
PATIENCE = 300  # seconds that a busy server may ask for
BUSY = (408, 429, 500, 502, 503, 504)
PAGES = (b"<!doctype html", b"<html")
T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """How it may be used. `wait` (seconds, as `timeout`) doubles from one try to the next; the token goes to the hub alone."""

    hub: str = ""
    offline: bool = False
    token: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    wait: float = 1.0


def network_of(settings: Fetch) -> Network:
    """As the hub's own client does: HF_ENDPOINT, HF_TOKEN, and HF_HUB_OFFLINE, which here stops every download."""
    silent = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    hub = os.environ.get("HF_ENDPOINT") or settings.hub
    return Network(hub.rstrip("/"), settings.offline or silent, os.environ.get("HF_TOKEN") or None)


@dataclass(frozen=True)
class Expected:
    """What a file's bytes must be, as far as it is known; `git` is the id git gives the contents."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    git: str | None = None


def fetch_file(source: Source, out: Path, network: Network) -> str:
    """Give `out` the source's bytes and return their SHA-256; raises InputError.

    A part that is already whole is only verified, so a file may be brought there without a network. Without a checksum nothing
    tells whether pieces belong together: then the file is fetched from its first byte, beside what may have been brought.
    """
    expected = Expected(source.size, source.sha256, source.md5)
    part = out.with_name(f"{out.name}.{'part' if source.has_checksum or network.offline else 'fetching'}")
    with alone(out):
        if source.has_checksum:
            with suppress(FileNotFoundError, InputError):  # another start fetched it meanwhile
                return verify(out, expected)
        if source.size is not None and _size(part) > source.size:
            part.unlink()
        if not network.offline:
            digest = _first_of(source, lambda url: _fetch_from(url, source, part, network))
        elif _is_whole(part, source):
            digest = _verify_brought(part, expected)
        else:
            raise InputError(_bring(source, part))
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, out)
    return digest


def still_to_come(source: Source, out: Path, network: Network) -> int:
    """Bytes that `fetch_file` would load, by the first mirror whose headers are right; raises InputError with all faults."""
    part = out.with_name(f"{out.name}.part")
    there = out.exists() and source.size in (None, out.stat().st_size)
    if there or _is_whole(part, source):
        return 0
    if network.offline:
        raise InputError(_bring(source, part))

    def size_at(url: str) -> int | None:
        if url.startswith("file://"):
            return _local(url).stat().st_size
        with _open(url, "bytes=0-0", source, network) as answer:
            return _total(answer)

    return max((_first_of(source, size_at) or source.size or 0) - _size(part), 0)


def verify(path: Path, expected: Expected) -> str:
    """The SHA-256 of a whole file; raises InputError when size, kind or a checksum is not as expected."""
    name, size = path.name.removesuffix(".part"), path.stat().st_size
    with open(path, "rb") as file:
        if file.read(64).lstrip().lower().startswith(PAGES):
            raise InputError(f"{name}: an HTML page came instead of the file; open its address in a browser to see why")
    if expected.size not in (None, size):
        kind = "cut off" if size < (expected.size or 0) else "another file"
        raise InputError(f"{name}: {size:,} bytes, expected {expected.size:,}: {kind}")
    hashers = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    hashers["git"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            for kind, hasher in hashers.items():
                if kind == "sha256" or getattr(expected, kind):
                    hasher.update(piece)
    for kind, hasher in hashers.items():
        wanted, found = getattr(expected, kind), hasher.hexdigest()
        if wanted not in (None, found):
            raise InputError(f"{name}: {kind} is {found}, expected {wanted}: changed or damaged")
    return hashers["sha256"].hexdigest()


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Make the folder of `out`, and hold other programs off that are about to fetch the same; raises InputError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.with_name(f".{out.name}.lock")):
            yield
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(
            f"{out.parent}: cannot be written ({error.strerror}); set fetch.folder to one that can"
        ) from None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _is_whole(part: Path, source: Source) -> bool:
    """Whether it may be; its checksum tells. Of a file of unknown size, one that is there is taken for whole."""
    return part.exists() and source.size in (None, _size(part))


def _bring(source: Source, part: Path) -> str:
    size = f", {source.size:,} bytes" if source.size else ""
    return f"offline (HF_HUB_OFFLINE or fetch.offline): put {source.urls[0]}{size} at {part} and run again"


def _verify_brought(part: Path, expected: Expected) -> str:
    try:
        return verify(part, expected)
    except InputError as error:
        raise InputError(f"{error}; remove {part}") from None


def _first_of(source: Source, attempt: Callable[[str], T]) -> T:
    """The result at the first mirror that gives one; raises InputError with the faults of all."""
    faults = []
    for url in source.urls:
        try:
            return attempt(url)
        except InputError as error:
            faults.append(str(error))
        except FileNotFoundError as error:  # of file://
            faults.append(f"{url}: cannot be reached ({error.strerror})")
    raise InputError("; ".join(dict.fromkeys(faults)))


def _fetch_from(url: str, source: Source, part: Path, network: Network) -> str:
    """Complete and verify the part. One whose pieces do not belong together is fetched once more, from its first byte."""
    expected = Expected(source.size, source.sha256, source.md5)
    if not source.has_checksum:
        part.unlink(missing_ok=True)
    if not _complete(url, source, part, network):
        try:
            return verify(part, expected)
        except InputError:
            part.unlink()
        _complete(url, source, part, network)
    try:
        return verify(part, expected)
    except InputError:
        part.unlink()
        raise


def _complete(url: str, source: Source, part: Path, network: Network) -> bool:
    """Append to the part what it lacks, over breaks; whether all came in one answer. Gives up after TRIES without progress."""
    in_one_piece, failures = not part.exists(), 0
    while True:
        before = _size(part)
        try:
            _append(url, source, part, network)
            return in_one_piece
        except urllib3.exceptions.HTTPError as error:
            in_one_piece, failures = False, 1 if _size(part) > before else failures + 1
            said = f"{url}: the connection broke at byte {_size(part):,} ({_reason(error)})"
            if failures > TRIES:
                go_on = " to go on" if source.has_checksum else ""
                raise InputError(f"{said}; given up after {TRIES} tries, run again{go_on}") from None
            print(f"{said}; trying again", file=sys.stderr)
            time.sleep(network.wait * 2 ** (failures - 1))


def _append(url: str, source: Source, part: Path, network: Network) -> None:
    """One request: the rest of the file where the server can, all of it where not."""
    if url.startswith("file://"):
        shutil.copyfile(_local(url), part)
        return
    start = _size(part)
    if start and start == source.size:
        return
    with _open(url, f"bytes={start}-" if start else "", source, network) as answer:
        if answer.status_code == 416:  # the server has no more
            return
        start = start if answer.status_code == 206 else 0
        bar = tqdm(total=_total(answer), initial=start, desc=part.stem, unit="B", unit_scale=True, mininterval=2)
        with bar, open(part, "ab" if start else "wb") as file:
            while piece := answer.raw.read1(PIECE):  # what is there: a break loses nothing of it
                file.write(piece)
                bar.update(len(piece))


def _open(url: str, span: str, source: Source, network: Network) -> requests.Response:
    """The open answer of a server; raises InputError for a refusal, and for what its headers say is not the file."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": span} if span else {})
    if network.token and urlsplit(url)[:2] == urlsplit(network.hub)[:2]:
        headers["Authorization"] = f"Bearer {network.token}"  # requests keeps it within the site
    retry = Retry(
        TRIES, status_forcelist=BUSY, backoff_factor=network.wait, raise_on_status=False, retry_after_max=PATIENCE
    )
    session = requests.Session()
    session.mount(url, HTTPAdapter(max_retries=retry))
    try:
        answer = session.get(url, headers=headers, stream=True, timeout=network.timeout)
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be reached ({_reason(error)})") from None
    if fault := _fault(answer, source):
        answer.close()
        raise InputError(f"{url}: {fault}")
    return answer


def _total(answer: requests.Response) -> int | None:
    """Bytes of the whole file as the server says, None where it does not."""
    partial = answer.headers.get("Content-Range", "").rpartition("/")[2]
    total = partial if answer.status_code in (206, 416) else answer.headers.get("Content-Length", "")
    return int(total) if total.isdecimal() else None


def _fault(answer: requests.Response, source: Source) -> str:
    """Why the headers are not those of the file; empty where they are."""
    said, total = f"{answer.status_code} {answer.reason}", _total(answer)
    if answer.status_code in (404, 410):
        return f"{said}: no such file there"
    if answer.status_code in (401, 403):
        return (
            f"{said}: put another mirror first in `urls`; or, if it is gated, accept its licence on its page with the account"
            " whose access token is in HF_TOKEN"
        )
    if not answer.ok and answer.status_code != 416:
        return said
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        return "an HTML page came instead of the file; open it in a browser to see why"
    if total is None and source.size is None and not source.has_checksum:
        return "the server does not say how long the file is, so that a cut would not be seen; state its sha256"
    if total is not None and source.size not in (None, total):
        return f"the server's file has {total:,} bytes, expected {source.size:,}: cut off or another file"
    return ""


def _local(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _reason(error: BaseException) -> str:
    """What the system said in the depth of a library's error, else the error's name."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return type(error).__name__
