"""A headless Chromium, driven over the WebDriver protocol."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ARGUMENTS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
]


class Browser:
    """One window.

    Args:
        address: of the WebDriver session.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def _send(self, method: str, path: str, **body: Any) -> Any:
        return send(method, f"{self._address}/{path}", body if method == "POST" else None)

    def open(self, page: Path) -> None:
        self._send("POST", "url", url=page.resolve().as_uri())

    def size(self, width: int, height: int) -> None:
        self._send("POST", "window/rect", width=width, height=height)

    def run(self, script: str) -> Any:
        """What a function with this body returns in the page."""
        return self._send("POST", "execute/sync", script=script, args=[])

    def text(self, selector: str) -> str:
        return self.run(f"return document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector: str) -> None:
        found = self._send("POST", "element", using="css selector", value=selector)
        (element,) = found.values()
        self._send("POST", f"element/{element}/click")

    def keys(self, text: str) -> None:
        """Press keys, on whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._send("POST", "actions", actions=[keyboard])

    def messages(self) -> list[Any]:
        """What the page wrote to the console: errors and warnings."""
        return self._send("POST", "se/log", type="browser")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "screenshot")))


def send(method: str, address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


@contextlib.contextmanager
def browser(profile: Path, dark: bool = False) -> Iterator[Browser]:
    """A Chromium for the time of a `with` block.

    Raises:
        FileNotFoundError: Chromium or its driver is not installed.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise FileNotFoundError("install chromium and chromedriver (Debian: chromium-driver)")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            address = f"http://127.0.0.1:{_port(process)}/session"
            arguments = [*_ARGUMENTS, f"--user-data-dir={profile}"]
            if dark:
                arguments.append("--blink-settings=preferredColorScheme=0")
            options = {"binary": program, "args": arguments}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = send("POST", address, {"capabilities": {"alwaysMatch": wanted}})
            address = f"{address}/{session['sessionId']}"
            try:
                yield Browser(address)
            finally:
                send("DELETE", address)
        finally:
            process.terminate()


def _port(process: Any) -> int:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        line = process.stdout.readline()
        if "started successfully on port" in line:
            return int(line.rstrip(".\n").rsplit(" ", 1)[1])
    raise TimeoutError("chromedriver did not start within 30 seconds")
