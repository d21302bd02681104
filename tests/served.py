"""A web server on this machine that misbehaves as asked: breaks connections, ignores ranges, serves other bytes."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """A file as served. `cuts`: after how many bytes of its body each of the next answers breaks off.

    `statuses` are given to the next requests before the file itself; `before` is what the next answers still hold.
    """

    content: bytes = b""
    ranges: bool = True
    honours_if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    before: list[bytes] = field(default_factory=list)
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""


@dataclass
class Shelf:
    """The pages by path, and every request: path, Range, Authorization."""

    address: str = ""
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    sent: int = 0

    def put(self, path: str, content: bytes = b"", **behaviour: Any) -> str:
        self.pages[path] = Page(content, **behaviour)
        return f"{self.address}{path}"

    def asked(self, path: str) -> list[str | None]:
        """The Range of every request for a path."""
        return [span for found, span, _ in self.requests if found == path]


class _Handler(BaseHTTPRequestHandler):
    shelf: Shelf
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        page = self.shelf.pages.get(self.path.partition("?")[0])
        span = self.headers.get("Range")
        self.shelf.requests.append((self.path.partition("?")[0], span, self.headers.get("Authorization")))
        if page is None:
            return self._answer(404, b"nothing here", {})
        if page.statuses:
            return self._answer(page.statuses.pop(0), b"not now", page.headers)
        if page.redirect:
            return self._answer(302, b"", page.headers | {"Location": page.redirect})
        content = page.before.pop(0) if page.before else page.content
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        condition = self.headers.get("If-Range")
        changed = page.honours_if_range and condition not in (None, etag)
        headers = {"ETag": etag, "Content-Type": page.kind} | page.headers
        if span and page.ranges and not changed:
            start, size = int(span.removeprefix("bytes=").partition("-")[0]), len(content)
            if start >= size:
                return self._answer(416, b"", {"Content-Range": f"bytes */{size}"})
            if span == "bytes=0-0":
                headers["Content-Range"] = f"bytes 0-0/{size}"
                return self._answer(206, content[:1], headers)
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            return self._answer(206, content[start:], headers, page.cuts)
        return self._answer(200, content, headers, page.cuts)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], cuts: list[int] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        cut = cuts.pop(0) if cuts else len(body)
        with suppress(ConnectionError):  # whoever has seen enough hangs up
            self.wfile.write(body[:cut])
        self.shelf.sent += len(body[:cut])
        self.close_connection = self.close_connection or cut < len(body)


@contextmanager
def serving() -> Iterator[Shelf]:
    """A shelf at its own address on loopback."""
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"shelf": shelf}))
    shelf.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield shelf
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve_repository(shelf: Shelf, repo: str, commit: str, files: dict[str, bytes], licence: str | None) -> None:
    """A repository of a model hub: its listing, and its files, the large ones behind a redirect to another store."""
    siblings = []
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        row: dict[str, Any] = {"rfilename": name, "size": len(content)}
        where = f"/{repo}/resolve/{commit}/{name}"
        if name.endswith((".safetensors", ".bin")):
            row["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            shelf.put(f"/store/{sha256}", content)
            headers = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": commit}
            shelf.put(where, redirect=f"{shelf.address}/store/{sha256}", headers=headers)
        else:
            row["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            shelf.put(where, content)
        siblings.append(row)
    listing = {"sha": commit, "siblings": siblings} | ({"cardData": {"license": licence}} if licence else {})
    shelf.put(f"/api/models/{repo}/revision/{commit}", _json(listing), kind="application/json")
    commits = [{"id": commit, "title": "newest"}, {"id": "0" * 40, "title": "first"}]
    shelf.put(f"/api/models/{repo}/commits/main", _json(commits), kind="application/json")


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()
