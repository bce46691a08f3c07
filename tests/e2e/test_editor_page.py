"""The editor's page as such: size, keys, text from outside, widths, colors, accessibility."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from tests.e2e.browser import running_browser, wait_until
from tests.e2e.editor_page import DESKTOP, EditorPage, opened_editor
from tests.e2e.gateway_process import KeyedGateway

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=executed('code')><script>executed('code')</script>"
PORTRAIT = generate_portrait(seed=5, index=2, resolution=160).photo
PNG = {"name": "portrait.png", "mimeType": "image/png", "buffer": encode_png(PORTRAIT)}
FIRST_LOAD_BYTES = 300_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def editor(browser: Browser, editor_gateway: KeyedGateway) -> Iterator[EditorPage]:
    with opened_editor(browser, editor_gateway) as editor:
        yield editor


def test_the_first_load_is_small_and_from_one_server(editor: EditorPage) -> None:
    expect(editor.button("Open a photo")).to_be_visible()
    editor.page.wait_for_load_state("networkidle")
    sizes: dict[str, int] = editor.page.evaluate(
        "Object.fromEntries([...performance.getEntriesByType('navigation'),"
        " ...performance.getEntriesByType('resource')]"
        ".map((entry) => [new URL(entry.name).pathname, entry.transferSize]))"
    )
    assert {"/editor/", "/editor/main.js", "/editor/style.css"} <= set(sizes)
    assert min(sizes.values()) > 0, "each was sent, none came from the cache"
    first = [size for path, size in sizes.items() if not path.startswith("/editor/samples/")]
    assert sum(first) <= FIRST_LOAD_BYTES


def test_the_key_leaves_the_address_and_is_asked_for_where_it_is_missing(
    browser: Browser, editor_gateway: KeyedGateway, editor: EditorPage
) -> None:
    expect(editor.button("Open a photo")).to_be_visible()
    assert editor.page.url == f"{editor_gateway.url}/editor/"
    with opened_editor(browser, editor_gateway, with_key=False) as other:
        dialog = other.page.get_by_role("dialog", name="This server asks for a key")
        other.shoot("key")
        assert other.serious_findings() == []
        for wrong, said in (("nonsense", "starts with npe_"), ("npe_nonsense", "did not accept")):
            dialog.get_by_label("API key").fill(wrong)
            dialog.get_by_role("button", name="Continue").click()
            expect(dialog.get_by_text(said)).to_be_visible()
        dialog.get_by_label("API key").fill(editor_gateway.key)
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog).to_be_hidden()
        other.page.goto(f"{other.page.url}#key=npe_of-somebody-else")
        asked = other.page.get_by_role("dialog", name="Use another key?")
        assert other.serious_findings() == []
        asked.get_by_role("button", name="Keep the present key").click()
        expect(asked).to_be_hidden()
        assert "key" not in other.page.url
        other.choose_file(PNG)
        other.until_regions_are_known()
        other.page.goto(f"{other.page.url}#key=npe_of-somebody-else")
        asked.get_by_role("button", name="Use the other key").click()
        other.button("All").click()
        other.button("Enhance").click()
        expect(dialog.get_by_text("did not accept")).to_be_visible()


def test_a_generated_portrait_is_there_to_start_with(editor: EditorPage) -> None:
    editor.button("Generated portrait 1").click()
    editor.until_regions_are_known()
    expect(editor.page.get_by_text("512 × 512")).to_be_visible()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_photos_are_opened_by_dropping_and_pasting(editor: EditorPage, event: str) -> None:
    expect(editor.button("Open a photo")).to_be_visible()
    editor.page.evaluate(
        """([event, bytes]) => {
            const files = new DataTransfer()
            files.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }))
            const options = { bubbles: true, cancelable: true }
            document.querySelector("main").dispatchEvent(event === "drop"
                ? new DragEvent(event, { dataTransfer: files, ...options })
                : new ClipboardEvent(event, { clipboardData: files, ...options }))
        }""",
        [event, list(PNG["buffer"])],
    )
    editor.until_regions_are_known()
    expect(editor.page.get_by_text("given.png", exact=True)).to_be_visible()


def test_names_and_notes_in_photos_are_text(editor: EditorPage, tmp_path: Path) -> None:
    exif = Image.Exif()
    for tag in (0x010E, 0x013B, 0x8298, 0x9286):  # description, artist, copyright, comment
        exif[tag] = HOSTILE
    path = tmp_path / "photo.jpg"
    Image.fromarray(PORTRAIT).save(path, exif=exif, comment=HOSTILE.encode())
    hostile = {"name": f"{HOSTILE}.jpg", "mimeType": "image/jpeg", "buffer": path.read_bytes()}
    editor.choose_file(hostile)
    editor.until_regions_are_known()
    expect(editor.page.get_by_text(HOSTILE).first).to_be_visible()
    assert editor.page.locator("img[src=x]").count() == 0


def test_text_that_became_elements_would_be_noticed(editor: EditorPage) -> None:
    editor.page.evaluate("(text) => document.body.insertAdjacentHTML('beforeend', text)", HOSTILE)
    assert editor.page.locator("img[src=x]").count() == 1
    wait_until(
        editor.page,
        lambda: any(text.startswith("policy: script-src-attr") for text in editor.troubles),
        "the policy has stopped the code",
    )
    editor.page.close()
    editor.troubles.clear()


def test_recipes_that_are_none_are_refused(editor: EditorPage) -> None:
    recipes: list[Any] = [
        {HOSTILE: 1},
        {"schema_version": 1, "name": "a", "request": {HOSTILE: HOSTILE}},
        {"schema_version": HOSTILE, "name": HOSTILE, "request": {}},
        {"schema_version": 1, "name": "a", "request": {"photo": HOSTILE, "seed": 1}},
        {"schema_version": 1, "name": "a", "__proto__": {"x": 1}, "request": {}},
    ]
    alert = editor.page.get_by_role("alert")
    for recipe in recipes:
        content = json.dumps(recipe).encode()
        editor.choose_file({"name": "r.json", "mimeType": "application/json", "buffer": content})
        expect(alert).to_contain_text("recipe cannot be used")
        assert editor.page.locator("img[src=x]").count() == 0
        alert.get_by_role("button", name="Dismiss").click()
        expect(alert).to_be_hidden()


def test_limits_of_photos_are_those_of_the_server(editor: EditorPage) -> None:
    def with_less(route: Route) -> None:
        answer = route.fetch()
        info = answer.json()
        info["limits"]["max_image_pixels"] = 20_000
        route.fulfill(response=answer, json=info)

    editor.page.route("**/v1/info", with_less)
    editor.page.reload()
    expect(editor.page.get_by_text("up to 0 megapixels")).to_be_visible()
    editor.choose_file(PNG)
    expect(editor.page.get_by_role("alert")).to_contain_text("too many pixels")


def test_what_is_said_twice_is_heard_twice(editor: EditorPage) -> None:
    expect(editor.button("Open a photo")).to_be_visible()
    say = "async () => (await import('/editor/ui/state.js')).announce('Undone: brush stroke')"
    heard = set()
    for _ in range(3):
        editor.page.evaluate(say)
        editor.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        heard.add(editor.page.locator("[aria-live=polite]").text_content())
    assert heard == {"Undone: brush stroke", "Undone: brush stroke\N{NO-BREAK SPACE}"}


def test_recipes_wait_for_regions_that_the_server_is_too_busy_to_find(editor: EditorPage) -> None:
    problem = {"type": "about:blank", "title": "Busy", "status": 503, "detail": "later"}
    editor.page.route(
        "**/v1/segment",
        lambda route: route.fulfill(
            status=503, body=json.dumps(problem), content_type="application/problem+json"
        ),
    )
    photo = base64.b64encode(PNG["buffer"]).decode()
    recipe = {"photo": photo, "regions": ["hair"], "color": "#8a3ffc", "seed": 1}
    content = json.dumps({"schema_version": 1, "name": "a", "request": recipe}).encode()
    editor.choose_file({"name": "r.json", "mimeType": "application/json", "buffer": content})
    alert = editor.page.get_by_role("alert")
    expect(alert).to_contain_text("The server is busy")
    editor.page.unroute("**/v1/segment")
    alert.get_by_role("button", name="Try again").click()
    expect(editor.region("Hair")).to_have_attribute("aria-pressed", "true")


def test_events_are_read_from_pieces_of_any_size(editor: EditorPage) -> None:
    stream = "event: a\ndata: 1\n\n: still here\n\n\n\nevent: b\ndata: 2\ndata: 3\n\ndata: cut"
    read = editor.page.evaluate(
        """async (stream) => {
            const { EventParser } = await import("/editor/api/events.js")
            const sizes = Array.from({ length: stream.length }, (_, index) => index + 1)
            return sizes.map((size) => {
                const parser = new EventParser()
                const events = []
                for (let at = 0; at < stream.length; at += size) {
                    events.push(...parser.feed(stream.slice(at, at + size)), ...parser.feed(""))
                }
                return events
            })
        }""",
        stream,
    )
    assert len(read) == len(stream)
    for events in read:
        assert events == [{"name": "a", "data": "1"}, {"name": "b", "data": "2\n3"}]


def test_uploads_show_how_far_they_are(editor: EditorPage) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    editor.choose_file({**PNG, "buffer": encode_png(noise)})  # 1.5 MB
    editor.until_regions_are_known()
    editor.button("All").click()
    devtools = editor.page.context.new_cdp_session(editor.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 750_000}
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", slow)
    editor.button("Enhance").click()
    seen: list[str] = editor.page.evaluate(
        """async () => {
            const seen = new Set()
            const deadline = performance.now() + 60000
            while (document.querySelector(".job-card")) {
                if (performance.now() > deadline) throw new Error("the request did not end")
                const { textContent } = document.querySelector(".job-phase")
                if (textContent.startsWith("Uploading")) seen.add(textContent)
                await new Promise(requestAnimationFrame)
            }
            return [...seen]
        }"""
    )
    expect(editor.button("Keep")).to_be_visible()
    assert len(seen) >= 2, seen


@pytest.mark.parametrize(
    ("size", "colors"),
    [
        ((320, 568), "light"),
        ((390, 844), "dark"),
        ((844, 390), "light"),
        (DESKTOP, "dark"),
        ((2560, 1440), "light"),
    ],
)
def test_every_width_in_both_colors_is_accessible(
    browser: Browser, editor_gateway: KeyedGateway, size: tuple[int, int], colors: Any
) -> None:
    name = f"{size[0]}-{colors}"
    is_phone = min(size) < 500
    options = {"has_touch": is_phone, "is_mobile": is_phone, "color_scheme": colors}
    with opened_editor(browser, editor_gateway, size=size, **options) as editor:
        expect(editor.button("Open a photo")).to_be_visible()
        editor.page.wait_for_load_state("networkidle")
        editor.shoot(f"start-{name}")
        assert editor.serious_findings() == []
        editor.choose_file(PNG)
        editor.until_regions_are_known()
        editor.region("Hair").click()
        editor.shoot(f"selected-{name}")
        assert editor.serious_findings() == []
        assert editor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if is_phone:
            check_brush_and_choice(editor, name, size)
        editor.button("Shortcuts and help").click()
        editor.shoot(f"help-{name}")
        assert editor.serious_findings() == []


def check_brush_and_choice(editor: EditorPage, name: str, size: tuple[int, int]) -> None:
    """Fail where the brush's options or a result's buttons do not fit a small window."""
    editor.button("Brush").click()
    editor.shoot(f"brush-{name}")
    assert editor.serious_findings() == []
    editor.enhance()
    editor.shoot(f"result-{name}")
    for choice in ("Keep", "Another one", "Discard"):
        box = editor.button(choice).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["y"] + box["height"] <= size[1]
    editor.keep()


def test_findings_would_be_found(editor: EditorPage) -> None:
    expect(editor.button("Open a photo")).to_be_visible()
    editor.page.evaluate(
        """() => {
            const button = document.createElement("button")
            button.id = "nameless"
            document.body.append(button)
            const text = document.createElement("p")
            text.textContent = "hard to read"
            text.style.color = "#ccc"
            text.style.background = "#fff"
            document.querySelector("main").append(text)
        }"""
    )
    findings = " ".join(editor.serious_findings())
    assert "button-name" in findings
    assert "color-contrast" in findings
