"""The page around its content: one HTML file in which only the page's own script may run.

Captions come from elsewhere. They reach the page as JSON that cannot end its element, the scripts put them into text nodes
only, and the page's policy names its one script by hash, so that nothing else would run even so.
"""

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# In this order they are one script.
SCRIPTS = ("dom", "content", "tables", "figures", "filter", "boxes", "grid", "detail", "main")


def fill(content: dict[str, Any]) -> str:
    """The page's HTML with `content` in it."""
    script = "\n".join((HERE / f"scripts/{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    pieces = {
        "policy": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "title": html.escape(content["run"]),
        "content": as_json(content),
    }
    # Piece by piece between the marks, so that a mark inside a piece stays what it is.
    first, *rest = (HERE / "page.html").read_text(encoding="utf-8").split("{{")
    return first + "".join(pieces[name] + text for name, text in (part.split("}}", 1) for part in rest))


def as_json(content: Any) -> str:
    """JSON for a script element: ASCII without `<`, so that no text in it ends the element or opens a comment."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
