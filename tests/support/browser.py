"""A real headless Chromium, driven over the WebDriver protocol."""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from local.airflow import free_port

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
FLAGS += "--disable-component-update --disable-sync --hide-scrollbars --disable-dev-shm-usage"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


class Browser:
    """One window of Chromium."""

    def __init__(self, driver: str, profile: Path) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        options = {"binary": CHROMIUM, "args": [*FLAGS.split(), f"--user-data-dir={profile}"]}
        capabilities = {
            "alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
        }
        opened = self._ask(f"{driver}/session", {"capabilities": capabilities})
        self._session = f"{driver}/session/{opened['sessionId']}"

    def open(self, url: str) -> None:
        self._do("url", {"url": url})

    def cookie(self, name: str, value: str) -> None:
        """For the site that is open."""
        self._do("cookie", {"cookie": {"name": name, "value": value, "path": "/"}})

    def run(self, script: str) -> Any:
        """What `script` returns."""
        return self._do("execute/sync", {"script": script, "args": []})

    def keys(self, text: str) -> None:
        """To whatever has the focus."""
        strokes = [
            stroke for key in text for stroke in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})
        ]
        self._do("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """The size of the page in CSS pixels, and the colour scheme that the system prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask(f"{self._session}/screenshot")))

    def pdf(self) -> str:
        """The page as it is printed, in base64."""
        return self._devtools("Page.printToPDF", {})["data"]

    def errors(self) -> list[str]:
        """What the console has complained of: scripts, missing files, violations of the content security policy."""
        return [e["message"] for e in self._do("se/log", {"type": "browser"}) if e["level"] in ("SEVERE", "WARNING")]

    def close(self) -> None:
        self._http.delete(self._session, timeout=30)

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._do("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _do(self, what: str, body: dict[str, Any]) -> Any:
        return self._ask(f"{self._session}/{what}", body)

    def _ask(self, url: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.get(url, timeout=120) if body is None else self._http.post(url, json=body, timeout=120)
        value = answer.json()["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{url}: {value['message']}")
        return value


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser with a new, empty profile; both it and its driver end with the block."""
    port = free_port()
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        browser = Browser(_ready(f"http://127.0.0.1:{port}"), profile)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(20)


def _ready(driver: str) -> str:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=requests.adapters.Retry(20, backoff_factor=0.1)))
    session.get(f"{driver}/status", timeout=30)
    return driver
