"""A real browser, held by its own protocol over two pipes: Chromium's --remote-debugging-pipe,
messages of JSON ended by a zero byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

NAMES = (
    "chromium",
    "chromium-browser",
    "chrome-headless-shell",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
CONSOLE = ("error", "warning", "assert")  # what a page says there and should not
LOCAL = ("data", "blob", "about")  # addresses that ask nobody
DRAWN = """
    (async () => {
        const trouble = () => document.querySelector("#trouble:not([hidden])");
        const done = () => document.documentElement.dataset.drawn || trouble();
        while (document.readyState !== "complete" || !done()) {
            await new Promise((next) => setTimeout(next, 20));
        }
    })()"""
PATIENCE = 120.0  # seconds without a word from it, or for what is to come true
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """Return its path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab.

    Its errors and warnings are in `complaints`, what it asked for in `requests`.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out = to_browser
        self._in = from_browser
        self._rest = b""
        self._count = 0
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {
            "sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
        }
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def size(self, width: int, height: int, phone: bool) -> None:
        """Set the size of the window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, scheme: Literal["light", "dark"]) -> None:
        """Have the system prefer light or dark colours."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, path: Path) -> None:
        """Load a file and wait until its charts are drawn, or it says that they could not be."""
        self.call("Page.navigate", url=path.as_uri())
        self.evaluate(DRAWN)

    def evaluate(self, expression: str) -> Any:
        """Return the expression's value, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def becomes(self, expression: str, expected: Any) -> None:
        """Wait until the expression has that value."""
        deadline = time.monotonic() + PATIENCE
        while (value := self.evaluate(expression)) != expected:
            assert time.monotonic() < deadline, f"{expression} is {value!r}, not {expected!r}"
            time.sleep(0.02)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command; events that arrive meanwhile are noted."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._count:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.complaints.append(str(details.get("exception", details).get("description")))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in CONSOLE:
            words = [str(argument.get("value")) for argument in facts["args"]]
            self.complaints.append(" ".join(words))
        elif event == "Log.entryAdded" and facts["entry"]["level"] in CONSOLE:
            self.complaints.append(facts["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            address = facts["request"]["url"]
            if address.partition(":")[0] not in LOCAL:
                self.requests.append(address)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], PATIENCE)[0], "the browser says nothing more"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def browsing(path: str, profile: Path) -> Iterator[Page]:
    """Open a page of the browser at `path`; it is ended with its children afterwards.

    Args:
        profile: a folder for what it keeps.
    """
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # It wants its pipes as descriptors 3 and 4.
    script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["bash", "-c", script, path, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for descriptor in (theirs_in, theirs_out):
        os.close(descriptor)
    try:
        yield Page(ours_out, ours_in)
    finally:
        for descriptor in (ours_out, ours_in):
            os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
