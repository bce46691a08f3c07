"""The editor as a person sees it: what is clicked by its name, and what must never happen."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, expect

from neural_photo_editor.api.stream import EventParser
from tests.e2e.gateway_process import REPOSITORY, KeyedGateway

SCREENSHOTS = REPOSITORY / "outputs" / "editor"
DESKTOP = (1280, 800)
_PATIENCE_MS = 20_000  # tests may share two cores with much else
_SEGMENTING_MS = 30_000  # the first request to a server that has just started is the slowest
_SERIOUS = ("serious", "critical")
_WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
    noteViolation(`policy: ${event.effectiveDirective} ${event.blockedURI}`))
"""
# Begin to count the pictures that the canvas shows until results are there, frame by frame.
_COUNT_FRAMES = """() => {
    const canvas = document.querySelector("canvas")
    const small = new OffscreenCanvas(64, 64).getContext("2d", { willReadFrequently: true })
    const seen = new Set()
    const deadline = performance.now() + 60000
    window.framesSeen = (async () => {
        while (!document.querySelector(".candidates")) {
            if (performance.now() > deadline) throw new Error("no result came")
            small.drawImage(canvas, 0, 0, 64, 64)
            seen.add(small.getImageData(0, 0, 64, 64).data.join())
            await new Promise(requestAnimationFrame)
        }
        return seen.size
    })()
    window.framesSeen.catch(() => {}) // told where it is waited for
}"""
_UNTIL_SAVED = """async (position) => {
    const asDone = (request) => new Promise((done, failed) => {
        request.onsuccess = () => done(request.result)
        request.onerror = () => failed(request.error)
    })
    const database = await asDone(indexedDB.open("neural-photo-editor"))
    const deadline = performance.now() + 60000
    for (;;) {
        if (performance.now() > deadline) throw new Error("the work was not saved")
        const store = database.transaction("editor").objectStore("editor")
        const record = await asDone(store.get("document"))
        if (record?.position === position) break
        await new Promise(requestAnimationFrame)
    }
    database.close()
}"""


@dataclass
class EditorPage:
    """A tab with the editor.

    Attributes:
        executed: what injected code said; none must ever run.
        troubles: errors of scripts, violations of the policy, and requests to other servers.
        answers: to requests for edits.
    """

    page: Page
    gateway: KeyedGateway
    executed: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    def watch(self) -> None:
        """Note what must not happen, from the first script on."""
        self.page.expose_function("executed", lambda text: self.executed.append(text))
        self.page.expose_function("noteViolation", lambda text: self.troubles.append(text))
        self.page.add_init_script(_WATCH)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("console", self._on_console)
        self.page.on("request", self._on_request)
        self.page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        # A refused request is said there as well; tests look at what the page says of it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.troubles.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.gateway.url}/", "blob:", "data:")):
            self.troubles.append(f"request: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.url.endswith("/v1/edit") and response.status == 200:
            self.answers.append(response)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what the server sent under this name while it edited."""
        found = []
        for answer in self.answers:
            events = EventParser(max_bytes=2**25).feed(answer.body())
            found += [json.loads(event.data) for event in events if event.name == name]
        return found

    def open(self, *, with_key: bool = True) -> None:
        """Go to the page, by the address that is printed when the server starts."""
        fragment = f"#key={self.gateway.key}" if with_key else ""
        self.page.goto(f"{self.gateway.url}/editor/{fragment}")

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name, exact=isinstance(name, str))

    @property
    def canvas(self) -> Locator:
        return self.page.locator("canvas")

    def choose_file(self, file: Path | dict[str, Any]) -> None:
        """Open a photo or a recipe as by the button; a dict is a file of that name and content."""
        self.page.get_by_label("Open a photo or a recipe").set_input_files(file)  # type: ignore[arg-type]

    def until_regions_are_known(self) -> None:
        expect(self.page.get_by_role("list", name="Regions of the photo")).to_be_visible(
            timeout=_SEGMENTING_MS
        )

    def region(self, name: str) -> Locator:
        """Return a region's entry in the legend."""
        return self.button(re.compile(f"^{name} "))

    def click_in_photo(self, region: str, *, shift: bool = False) -> None:
        """Move down the middle of the photo until the page says the region's name, and click."""
        box = self.canvas.bounding_box()
        assert box is not None
        self.button("Select regions").click()
        said = self.page.locator(".hover-name")
        for y in range(0, int(box["height"]), 6):
            self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + y)
            if said.is_visible() and said.inner_text() == region:
                # Not at its very edge.
                self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + y + 6)
                self.page.keyboard.down("Shift") if shift else None
                self.page.mouse.down()
                self.page.mouse.up()
                self.page.keyboard.up("Shift") if shift else None
                return
        raise AssertionError(f"the page names {region} nowhere in the middle of the photo")

    def paint(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag in the canvas; places are shares of its width and height."""
        box = self.canvas.bounding_box()
        assert box is not None
        (x0, y0), (x1, y1) = (
            (box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)
        )
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        self.page.mouse.move(x1, y1, steps=4)
        self.page.mouse.up()

    def set_number(self, label: str, value: int) -> None:
        field_ = self.page.get_by_role("spinbutton", name=label, exact=True)
        field_.fill(str(value))
        field_.press("Tab")

    def enhance(self) -> int:
        """Press Enhance, wait for the result; return how many pictures were seen until then."""
        self.page.evaluate(_COUNT_FRAMES)
        self.button("Enhance").click()
        frames = int(self.page.evaluate("window.framesSeen"))
        expect(self.button("Keep")).to_be_visible()
        return frames

    def keep(self) -> None:
        self.button("Keep").click()
        expect(self.button("Keep")).to_be_hidden()

    def picture(self) -> NDArray[np.uint8]:
        """Return the middle of what the canvas shows once that is at rest, (H, W, 3)."""
        self.page.mouse.move(2, 2)  # no name of a region in it
        last, now = b"", self.canvas.screenshot()
        while now != last:
            last, now = now, self.canvas.screenshot()
        pixels = np.asarray(Image.open(io.BytesIO(now)).convert("RGB"))
        height, width = pixels.shape[:2]
        # Messages come and go at the rim, where the focus is shown, too.
        return pixels[height // 6 : -height // 6, width // 4 : -width // 4]

    def download(self, name: str) -> bytes:
        """Open the downloads, take one by its button's name, and close them."""
        self.button("Download").click()
        dialog = self.page.get_by_role("dialog", name="Download")
        with self.page.expect_download() as started:
            dialog.get_by_role("button", name=name, exact=True).click()
        if dialog.is_visible():
            dialog.get_by_role("button", name="Close", exact=True).click()
        return started.value.path().read_bytes()

    def until_saved(self, position: int) -> None:
        """Wait until what would survive a reload is at this place of the history."""
        self.page.evaluate(_UNTIL_SAVED, position)

    def shoot(self, name: str) -> None:
        """Write a picture of the window, to be looked at by people."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def serious_findings(self) -> list[str]:
        """Return what axe-core has to say of the page as it is, if it is serious."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {', '.join(str(node['target']) for node in one['nodes'])}"
            for one in found
            if one["impact"] in _SERIOUS
        ]


@contextmanager
def opened_editor(
    browser: Browser,
    gateway: KeyedGateway,
    *,
    size: tuple[int, int] = DESKTOP,
    with_key: bool = True,
    **options: Any,
) -> Iterator[EditorPage]:
    """Open the editor in a new profile; at the end nothing may have happened that must not."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", **options
    )
    context.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    try:
        editor = EditorPage(context.new_page(), gateway)
        editor.watch()
        editor.open(with_key=with_key)
        yield editor
        assert not editor.executed, editor.executed
        assert not editor.troubles, editor.troubles
    finally:
        context.close()
