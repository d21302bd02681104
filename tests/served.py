"""A web server on this machine that misbehaves as asked: breaks connections, ignores ranges, serves other bytes."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Page:
    """A file as served. `cuts`: after how many bytes of its body each of the next answers breaks off.

    `statuses` are given to the next requests before the file itself; `before` is what the next answers still hold.
    """

    content: bytes = b""
    ranges: bool = True
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

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        page = self.shelf.pages.get(path)
        span = self.headers.get("Range")
        if self.command == "GET":
            self.shelf.requests.append((path, span, self.headers.get("Authorization")))
        if page is None:
            return self._answer(404, b"nothing here", _absent(path, self.shelf))
        if page.statuses:
            return self._answer(page.statuses.pop(0), b"not now", page.headers)
        if page.redirect:
            return self._answer(302, b"", page.headers | {"Location": page.redirect})
        content = page.before.pop(0) if page.before else page.content
        headers = {"Content-Type": page.kind} | page.headers
        if span and page.ranges:
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
        if self.command == "HEAD":
            return
        cut = cuts.pop(0) if cuts else len(body)
        with suppress(ConnectionError):  # whoever has seen enough hangs up
            self.wfile.write(body[:cut])
        self.shelf.sent += len(body[:cut])
        self.close_connection = self.close_connection or cut < len(body)


def _absent(path: str, shelf: Shelf) -> dict[str, str]:
    """What a hub says beside 404: which of repository, commit and file it does not know."""
    parts = path.removeprefix("/api/models").split("/")
    repo = "/".join(parts[1:3])
    if not any(known.startswith(f"/api/models/{repo}/") for known in shelf.pages):
        return {"X-Error-Code": "RepoNotFound"} if "/api/models/" in path else {}
    return {"X-Error-Code": "EntryNotFound" if "/resolve/" in path else "RevisionNotFound"}


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Of a client that hangs up, nothing."""


@contextmanager
def serving() -> Iterator[Shelf]:
    """A shelf at its own address on loopback."""
    shelf = Shelf()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"shelf": shelf}))
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
    """A repository of a model hub: its listings, and its files, the large ones behind a redirect to another store."""
    siblings, tree = [], []
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        row: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
        where, headers = f"/{repo}/resolve/{commit}/{name}", {"X-Repo-Commit": commit}
        if name.endswith((".safetensors", ".bin")):
            row["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            # On another host, to which no token goes.
            store = shelf.put(f"/store/{sha256}", content).replace("127.0.0.1", "localhost")
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
            shelf.put(where, redirect=store, headers=headers)
        else:
            shelf.put(where, content, headers=headers | {"ETag": f'"{git}"'})
        siblings.append(row)
        lfs = {"lfs": {"oid": sha256, "size": len(content), "pointerSize": 134}} if "lfs" in row else {}
        tree.append({"type": "file", "path": name, "oid": git, "size": len(content)} | lfs)
    described = {"id": repo, "sha": commit, "siblings": siblings} | (
        {"cardData": {"license": licence}} if licence else {}
    )
    commits = [
        {"id": id, "title": "", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
        for id in (commit, "0" * 40)
    ]
    for path, content in {f"revision/{commit}": described, f"tree/{commit}": tree, "commits/main": commits}.items():
        shelf.put(f"/api/models/{repo}/{path}", json.dumps(content).encode(), kind="application/json")
