"""A headless Chromium, driven over W3C WebDriver with nothing but the standard library."""

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
KEYS = {
    name: chr(code)
    for name, code in {
        "Enter": 0xE007,
        "Escape": 0xE00C,
        "ArrowRight": 0xE014,
        "ArrowDown": 0xE015,
        "End": 0xE010,
    }.items()
}


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    lacking = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return f"no {' and no '.join(lacking)} on PATH (Debian: chromium, chromium-driver)" if lacking else ""


class Browser:
    """One tab."""

    def __init__(self, session: str) -> None:
        self.session = session

    def call(self, name: str, **arguments: Any) -> Any:
        """A WebDriver command of the session; its value."""
        return _post(f"{self.session}/{name}", arguments)

    def open(self, path: Path, anchor: str = "") -> None:
        """Load a file from disk, anew."""
        self.call("url", url="about:blank")
        self.call("url", url=f"{path.resolve().as_uri()}{anchor}")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function in the page; what it returns."""
        return self.call("execute/sync", script=script, args=list(arguments))

    def devtools(self, command: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return self.call("goog/cdp/execute", cmd=command, params=parameters)

    def window(self, width: int, height: int, phone: bool = False) -> None:
        """The size of the viewport in CSS pixels, and whether it is a phone's."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefers(self, scheme: str) -> None:
        """What `prefers-color-scheme` says."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, *keys: str) -> None:
        """Keys one after the other, by their name or as the letter that they write."""
        each = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("actions", actions=[{"type": "key", "id": "keys", "actions": each}])

    def point(self, selector: str, click: bool = False, kind: str = "mouse") -> None:
        """Move the pointer over the middle of an element, and press it there."""
        place = self.run(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2].map(Math.round)",
            selector,
        )
        moves: list[dict[str, Any]] = [{"type": "pointerMove", "x": place[0], "y": place[1], "duration": 0}]
        if click:
            moves += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.call(
            "actions", actions=[{"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": moves}]
        )

    def type(self, selector: str, text: str) -> None:
        """Put `text` into a field as an input does."""
        self.run(
            "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', {bubbles: true}))",
            selector,
            text,
        )

    def errors(self) -> list[str]:
        """What the console and the page's policy have complained about since the last call."""
        return [
            entry["message"] for entry in self.call("se/log", type="browser") if entry["level"] in ("SEVERE", "WARNING")
        ]

    def screenshot(self, path: Path) -> None:
        """The viewport as PNG."""
        found = self.devtools("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with the new folder `profile`, which ends with the block."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = f"http://127.0.0.1:{_port(driver)}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = f"{address}/{_post(address, {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _send(urllib.request.Request(session, method="DELETE"))
    finally:
        driver.terminate()
        driver.wait()


def _port(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout
    for line in driver.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return int(found[1])
    raise RuntimeError("chromedriver ended before it listened")


def _post(address: str, content: dict[str, Any]) -> Any:
    return _send(urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"}))


def _send(request: urllib.request.Request) -> Any:
    # Straight to this machine, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{request.full_url}: {error.read().decode()[:600]}") from None
