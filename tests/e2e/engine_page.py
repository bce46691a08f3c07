"""The editor's engine alone in a page: a small server, photos and input from tests."""

import base64
import functools
import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Page

EDITOR = Path(__file__).resolve().parents[2] / "serve" / "editor"
VIEWPORT = (1000, 700)
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>engine</title>
<link rel="icon" href="icon.svg"><canvas id="stage"></canvas>"""
_POLICY = "default-src 'none'; script-src 'self'; img-src 'self' blob:; connect-src 'self'"
_SETUP = """
async () => {
    const engine = await import("/engine/document.js")
    const stage = document.querySelector("#stage")
    document.body.style.margin = "0"
    Object.assign(stage.style, {display: "block", width: "100vw", height: "100vh"})
    stage.style.background = "#303030"
    window.engine = engine
    window.show = (doc) => { window.doc = doc; doc.attach(stage) }
    window.settled = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
    window.read = async (name) => (await fetch("/files/" + name)).blob()
    window.base64 = async (blob) => {
        if (!blob) return null
        const reader = new FileReader()
        await new Promise((done) => { reader.onload = done; reader.readAsDataURL(blob) })
        return reader.result.split(",")[1]
    }
}
"""

Pixels = NDArray[np.uint8]


class _Handler(SimpleHTTPRequestHandler):
    """The editor's folder, a page without scripts, and files that tests put there."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        name = self.path.removeprefix("/files/")
        if self.path == "/":
            self._answer(_PAGE, "text/html")
        elif name in self.files:
            self._answer(self.files[name], "application/octet-stream")
        else:
            super().do_GET()

    def _answer(self, content: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class EngineServer:
    """Where the engine's files are; ``files`` are served below /files/."""

    url: str
    files: dict[str, bytes]


@contextmanager
def serving_engine() -> Iterator[EngineServer]:
    files: dict[str, bytes] = {}
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(EDITOR))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield EngineServer(f"http://127.0.0.1:{server.server_port}", files)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class EnginePage:
    """A page with a canvas that fills it; ``doc`` is the open document in its scripts."""

    page: Page
    server: EngineServer
    troubles: list[str] = field(default_factory=list)

    def load(self) -> None:
        self.page.goto(f"{self.server.url}/")
        self.page.evaluate(_SETUP)

    def open(self, photo: bytes, name: str = "photo.png") -> None:
        """Show a photo in a new document."""
        self.server.files["photo"] = photo
        self.run(
            "show(new engine.EditorDocument(await engine.openPhoto("
            f"new File([await read('photo')], {json.dumps(name)})))); await settled()"
        )

    def run(self, script: str) -> Any:
        """Run statements; what they return."""
        return self.page.evaluate(f"async () => {{ {script} }}")

    def get(self, expression: str) -> Any:
        return self.run(f"return {expression}")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the photo is in the window."""
        left, top = self.get(f"doc.view.toCanvas({x}, {y})")
        return left, top

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point of the photo, lead it along the others, let go."""
        places = self.get(f"{json.dumps(points)}.map((point) => doc.view.toCanvas(...point))")
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place)
        self.page.mouse.up()

    def pen(self, points: Sequence[tuple[float, float]], force: float) -> None:
        """Draw with a pen."""
        devtools = self.devtools()
        steps = ["mousePressed", *["mouseMoved"] * (len(points) - 2), "mouseReleased"]
        for step, point in zip(steps, points, strict=True):
            x, y = self.place(*point)
            event = {"type": step, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
            devtools.send(
                "Input.dispatchMouseEvent", {**event, "force": force, "pointerType": "pen"}
            )

    def devtools(self) -> CDPSession:
        return self.page.context.new_cdp_session(self.page)

    def exported(self) -> dict[str, Any]:
        """Return what an edit would send; images as files."""
        edit: dict[str, Any] = self.run(
            "const edit = await doc.exportEdit(); const images = {};"
            "for (const key of ['photo', 'mask', 'strokes', 'strengthMap'])"
            "    images[key] = await base64(edit[key]);"
            "return {...edit, ...images}"
        )
        for name in ("photo", "mask", "strokes", "strengthMap"):
            edit[name] = None if edit[name] is None else base64.b64decode(edit[name])
        return edit

    def shown(self) -> Pixels:
        """Return the canvas, uint8 (height, width, 4)."""
        self.run("await settled(); await settled()")
        text = self.run(
            "const stage = document.querySelector('#stage');"
            "return base64(await new Promise((done) => stage.toBlob(done, 'image/png')))"
        )
        return pixels_of(base64.b64decode(text))


@contextmanager
def engine_page(browser: Browser, server: EngineServer) -> Iterator[EnginePage]:
    """Open a page in a profile of its own."""
    width, height = VIEWPORT
    with browser.new_context(
        viewport={"width": width, "height": height}, has_touch=True
    ) as context:
        engine = EnginePage(context.new_page(), server)
        engine.page.on("pageerror", lambda error: engine.troubles.append(str(error)))
        engine.page.on(
            "console",
            lambda message: (
                engine.troubles.append(message.text) if message.type == "error" else None
            ),
        )
        yield engine


def pixels_of(file: bytes) -> Pixels:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def png_of(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
