"""A headless Chromium, driven by Selenium."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

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
    "Enter": Keys.ENTER,
    "Escape": Keys.ESCAPE,
    "ArrowRight": Keys.ARROW_RIGHT,
    "ArrowDown": Keys.ARROW_DOWN,
    "End": Keys.END,
}


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    lacking = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return f"no {' and no '.join(lacking)} on PATH (Debian: chromium, chromium-driver)" if lacking else ""


class Browser:
    """One tab."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, anchor: str = "") -> None:
        """Load a file from disk, again if it is shown already."""
        self.driver.get("about:blank")
        self.errors()  # of the page before, whose last images may only now be found missing
        self.driver.get(f"{path.resolve().as_uri()}{anchor}")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function in the page; what it returns."""
        return self.driver.execute_script(script, *arguments)

    def devtools(self, command: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, parameters)

    def window(self, width: int, height: int, phone: bool = False) -> None:
        """The size of the viewport in CSS pixels, and whether it is a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefers(self, scheme: str) -> None:
        """What `prefers-color-scheme` says."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, *keys: str) -> None:
        """Keys one after the other, by their name or as the letter that they write."""
        ActionChains(self.driver, duration=0).send_keys(*[KEYS.get(key, key) for key in keys]).perform()

    def point(self, selector: str, click: bool = False, kind: str = "mouse") -> None:
        """Move the pointer over the middle of an element, and press it there."""
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=0)
        actions.pointer_action.move_to(self.driver.find_element(By.CSS_SELECTOR, selector))
        if click:
            actions.pointer_action.click()
        actions.perform()

    def type(self, selector: str, text: str, event: str = "input") -> None:
        """Put `text` into a field as an input does, or as what sends another event."""
        self.run(
            "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
            selector,
            text,
            event,
        )

    def errors(self) -> list[str]:
        """What the console and the page's policy have complained about since the last call."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path: Path) -> None:
        """The viewport as PNG."""
        found = self.devtools("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with the new folder `profile`, which ends with the block. Driver and browser are PATH's: none is fetched."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.ignore_local_proxy_environment_variables()
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
