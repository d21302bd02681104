"""One HTTP request: its redirects, the hub's token, and what an error means for the person who runs this."""

import os
import re
import urllib.request
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from formats.files import InputError

AGENT = "hcma-harness"
SHA256 = re.compile(r"[0-9a-f]{64}")


class Broken(Exception):
    """A connection failed or ended early; trying again may go on. `after`: seconds that the server asks to wait."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class Beyond(Broken):
    """The server's file ends before the byte that was asked for."""


@dataclass(frozen=True)
class Access:
    """How the network may be used. The token goes to the hub alone; `wait` (seconds) doubles from one retry to the next."""

    hub: str = ""
    offline: bool = False
    token: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    wait: float = 1.0


def access_from_environment(hub: str, offline: bool) -> Access:
    """As the hub's own client does: HF_ENDPOINT, HF_TOKEN, and HF_HUB_OFFLINE, which here stops every download."""
    silent = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    hub = os.environ.get("HF_ENDPOINT") or hub
    return Access(hub.rstrip("/"), offline or silent, os.environ.get("HF_TOKEN") or None)


@dataclass
class Answer:
    """An open response; `linked_sha256` is what the hub says of a large file before it redirects to its store."""

    body: Any
    linked_sha256: str | None

    @property
    def headers(self) -> HTTPMessage:
        return self.body.headers

    @property
    def partial(self) -> bool:
        return self.body.status == 206

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end; raises Broken."""
        try:
            return self.body.read(size)
        except (HTTPException, OSError) as error:  # TLS that breaks, and a route that is gone, are plain OSErrors
            raise Broken(f"the connection broke ({type(error).__name__})") from error

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.body.close()


def open_url(url: str, headers: dict[str, str], access: Access) -> AbstractContextManager[Answer]:
    """Open a URL. Raises Broken for what may pass, InputError for what will not."""
    redirects = _Redirects()
    request = urllib.request.Request(url, headers={"User-Agent": AGENT} | headers)
    if access.token and _same_site(url, access.hub):
        # Unredirected: the large files' store is another site and signs its links itself.
        request.add_unredirected_header("Authorization", f"Bearer {access.token}")
    try:
        body = urllib.request.build_opener(redirects).open(request, timeout=access.timeout)
    except HTTPError as error:
        with error:
            raise _refusal(url, error, access) from None
    except URLError as error:
        kind = InputError if isinstance(error.reason, FileNotFoundError) else Broken
        raise kind(f"{url}: cannot be reached ({_reason(error)})") from None
    except (HTTPException, OSError) as error:
        raise Broken(f"{url}: cannot be reached ({type(error).__name__})") from None
    return Answer(body, redirects.linked_sha256)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, keeps the token within one site, and remembers what the hub said of the file."""

    def __init__(self) -> None:
        self.linked_sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        linked = (headers.get("X-Linked-Etag") or "").strip('"')
        self.linked_sha256 = linked if SHA256.fullmatch(linked) else self.linked_sha256
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and _same_site(newurl, req.full_url):
            for name, value in req.unredirected_hdrs.items():
                if name == "Authorization":
                    request.add_unredirected_header(name, value)
        return request


def _same_site(url: str, other: str) -> bool:
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.netloc) == (two.scheme, two.netloc)


def _reason(error: URLError) -> str:
    reason = error.reason
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)


def _refusal(url: str, error: HTTPError, access: Access) -> Exception:
    """What a status means: Broken when waiting may help."""
    said = f"{url}: {error.code} {error.reason}"
    if error.code == 416:
        return Beyond(f"{said}: the server's file is shorter than what is here; starting from its first byte")
    if error.code == 429 or error.code >= 500:
        after = error.headers.get("Retry-After") or "0"
        return Broken(said, min(float(after), 300.0) if after.isdecimal() else 0.0)
    if error.code in (401, 403):
        return InputError(f"{said}: {_forbidden(url, access)}")
    if error.code in (404, 410):
        return InputError(f"{said}: no such file or revision there")
    return InputError(said)


def _forbidden(url: str, access: Access) -> str:
    if not _same_site(url, access.hub):
        return "this server does not give it to us; put another mirror first in `urls`"
    if access.token:
        return "the token in HF_TOKEN does not open it: accept the repository's licence on its page with that account"
    return "gated, or no such repository: accept its licence on its page and give your access token in HF_TOKEN"
