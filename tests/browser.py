"""A headless Chromium that a test drives: it types, clicks, uploads, and looks."""

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
TEXTS = {"Enter": "\r", " ": " "}
SECONDS = 120


@contextmanager
def chromium(program: str, profile: Path) -> Iterator["Tab"]:
    """Start a browser of its own and yield its tab; its microphone hears beeps."""
    process = subprocess.Popen(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={profile}", "--use-fake-device-for-media-stream",
         "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
         "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port, path = _address(profile / "DevToolsActivePort")
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.kill()
        process.wait()


def _address(file: Path) -> tuple[str, str]:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        lines = file.read_text().split() if file.is_file() else []
        if len(lines) == 2:
            return lines[0], lines[1]
        time.sleep(0.05)
    raise TimeoutError("the browser did not start")


class Tab:
    """One tab, by the DevTools protocol; `urls` is all that it asked for."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.numbers, self.session = socket, itertools.count(1), {}
        self.urls: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps(
            {"id": number, "method": method, "params": parameters, **self.session}
        ))  # fmt: skip
        while True:
            found = json.loads(self.socket.recv(SECONDS))
            if found.get("method") == "Network.requestWillBeSent":
                self.urls.append(found["params"]["request"]["url"])
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return found["result"]

    def open(self, url: str, width: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = SECONDS) -> Any:
        """Return the value of an expression once it is a true one; of an element, that it is."""
        end = time.monotonic() + seconds
        expression = f"(found => found instanceof Node || found)({expression})"
        while not (found := self.js(expression)):
            assert time.monotonic() < end, f"{expression}\n{self.js('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def press(self, key: str, shift: bool = False) -> None:
        about = {"key": key, "code": "Space" if key == " " else key,
                 "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift}  # fmt: skip
        text = {"text": TEXTS[key]} if key in TEXTS else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def upload(self, selector: str, *paths: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def picture(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
