"""A headless Chromium driven by the DevTools protocol over a pipe: the standard library and no port."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60.0
_WATCHED = ("Page", "Runtime", "Log", "Network")


class Page:
    """One page; `events` are all that it has reported so far."""

    def __init__(self, write: int, read: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in _WATCHED:
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command's result. Raises RuntimeError with the browser's own words when it fails."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        """Waits for an event that was not reported before."""
        while True:
            event = self._next()
            self.events.append(event)
            if event.get("method") == method:
                return

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError(f"the browser ended, or said nothing for {SECONDS:.0f} s")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, file: Path) -> None:
        """Loads a file and waits until everything in it is loaded."""
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def shape(self, width: int, scheme: str = "light", height: int = 800) -> None:
        """The screen's width in CSS pixels, and whether its user wants light or dark pages."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON. Raises RuntimeError when it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        asked = [e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in asked]

    def complaints(self) -> list[str]:
        """Exceptions, failed loads, and whatever was written to the console or the browser's log."""
        kinds = (
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
            "Network.loadingFailed",
        )
        return [json.dumps(event) for event in self.events if event.get("method") in kinds]

    def pdf(self) -> bytes:
        """The page on paper."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def screenshot(self) -> bytes:
        """The whole page as a PNG picture."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile in the folder `profile`; the test skips where there is none."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH")
    their_read, our_write = os.pipe()
    our_read, their_write = os.pipe()
    # The protocol's pipes are the file descriptors 3 and 4; a shell numbers them without a fork of ours.
    command = ["bash", "-c", f'exec "$@" 3<&{their_read} 4>&{their_write}', "bash", program]
    options = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu"]
    # Chromium's sandbox refuses to run as root; what is opened is our own file.
    options += ["--no-first-run", "--disable-background-networking", "--no-sandbox"]
    process = subprocess.Popen(
        [*command, *options],
        pass_fds=(their_read, their_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # So that the end of the browser is the end of the pipe.
    os.close(their_read)
    os.close(their_write)
    try:
        yield Page(our_write, our_read)
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)
        os.close(our_write)
        os.close(our_read)
