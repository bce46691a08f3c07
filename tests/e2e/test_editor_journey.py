"""The editor in a real browser before a real gateway and TorchServe: what people do with it."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.receipt import canonical_json, decode_content, read_receipt
from neural_photo_editor.cli import main as npe
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from tests.e2e.browser import running_browser, wait_until
from tests.e2e.editor_page import EditorPage, opened_editor
from tests.e2e.gateway_process import KeyedGateway

pytestmark = pytest.mark.slow

PORTRAIT = generate_portrait(seed=5, index=2, resolution=320).photo
ORIENTATION = 0x0112
HOSTILE = "<img src=x onerror=executed('code')><script>executed('code')</script>"

_NUM_STORED = """async () => {
    const asDone = (request) => new Promise((done, failed) => {
        request.onsuccess = () => done(request.result)
        request.onerror = () => failed(request.error)
    })
    const database = await asDone(indexedDB.open("neural-photo-editor"))
    const count = await asDone(database.transaction("editor").objectStore("editor").count())
    database.close()
    return count
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def editor(browser: Browser, editor_gateway: KeyedGateway) -> Iterator[EditorPage]:
    with opened_editor(browser, editor_gateway) as editor:
        yield editor


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a JPEG as phones write them: lying on its side, with a note to turn it."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn it clockwise
    path = tmp_path_factory.mktemp("photo") / "portrait.jpg"
    lying = Image.fromarray(PORTRAIT).transpose(Image.Transpose.ROTATE_90)
    lying.save(path, quality=95, exif=exif)
    return path


def pixels_of(image: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def mask_of(receipt: bytes) -> NDArray[np.bool_]:
    """Return what a receipt says was allowed to change."""
    png = read_receipt(receipt).mask.png
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(decode_content(png))).convert("L")) > 0


def is_close(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    return float(np.abs(first.astype(int) - second.astype(int)).mean()) < 0.5


def test_from_a_photo_to_its_download(
    editor: EditorPage, photo: Path, tmp_path: Path, editor_gateway: KeyedGateway
) -> None:
    expect(editor.button("Open a photo")).to_be_visible()
    editor.shoot("1-start")
    editor.choose_file(photo)
    editor.until_regions_are_known()
    expect(editor.page.get_by_text("320 × 320")).to_be_visible()
    editor.shoot("2-regions")
    editor.click_in_photo("Hair")
    expect(editor.region("Hair")).to_have_attribute("aria-pressed", "true")
    expect(editor.region("Skin")).to_have_attribute("aria-pressed", "false")
    editor.button("Use violet").click()
    editor.shoot("3-selected")
    before = editor.picture()
    editor.set_number("Steps", 60)
    assert editor.enhance() >= 2, "a preview is seen between the paint and the result"
    previews = [event for event in editor.events("progress") if event["preview"]]
    assert len(previews) >= 3
    editor.shoot("4-result")
    assert editor.serious_findings() == []
    editor.keep()
    after = editor.picture()
    editor.shoot("5-kept")
    assert not is_close(before, after)
    editor.button("Undo: edit").click()
    assert is_close(editor.picture(), before)
    editor.button("Redo: edit").click()
    assert is_close(editor.picture(), after)

    edited = editor.download("Download: PNG, exact")
    receipt = editor.download("Receipt")
    upload, result, mask = decode_photo(photo.read_bytes()).rgb, pixels_of(edited), mask_of(receipt)
    assert 0.02 < mask.mean() < 0.6
    assert np.array_equal(result[~mask], upload[~mask])
    assert not np.array_equal(result[mask], upload[mask])
    jpeg = download_jpeg_at_second_try(editor)
    assert jpeg.startswith(b"\xff\xd8")
    assert np.abs(pixels_of(jpeg).astype(int) - result).mean() < 4
    (tmp_path / "edited.png").write_bytes(edited)
    (tmp_path / "receipt.json").write_bytes(receipt)
    headers = {"X-API-Key": editor_gateway.key}
    info = httpx.get(f"{editor_gateway.url}/v1/info", headers=headers).json()
    files = [str(photo), str(tmp_path / "edited.png"), str(tmp_path / "receipt.json")]
    assert npe(["verify", *files, "--public-key", info["receipt_keys"][0]["public_key"]]) == 0


def download_jpeg_at_second_try(editor: EditorPage) -> bytes:
    """Undo the edit before trying again: the file is of the edit that was asked for."""
    editor.page.route("**/v1/edit", lambda route: route.abort())
    editor.button("Download").click()
    editor.button("Download: JPEG, like your upload").click()
    expect(editor.page.get_by_role("alert")).to_contain_text("cannot be reached")
    editor.page.unroute("**/v1/edit")
    editor.button("Undo: edit").click()
    with editor.page.expect_download() as started:
        editor.button("Try again").click()
    editor.button("Redo: edit").click()
    return started.value.path().read_bytes()


def test_ten_edits_in_a_row_leave_the_rest_of_the_photo_alone(
    editor: EditorPage, tmp_path: Path
) -> None:
    path = tmp_path / "portrait.png"
    path.write_bytes(encode_png(PORTRAIT))
    editor.choose_file(path)
    editor.until_regions_are_known()
    editor.button("Brush").click()
    changed = np.zeros(PORTRAIT.shape[:2], np.bool_)
    for number in range(10):
        across = 0.42 + 0.016 * number  # of the canvas, which is wider than the photo
        editor.paint((across, 0.3 + 0.02 * number), (across + 0.05, 0.5))
        editor.enhance()
        editor.keep()
    assert len(editor.events("result")) == 10
    for answer in editor.events("result"):
        changed |= mask_of(canonical_json(answer["receipt"]))
    with zipfile.ZipFile(io.BytesIO(editor.download("All of them as ZIP"))) as archive:
        receipts = [json.loads(archive.read(name)) for name in archive.namelist()]
    assert receipts == [answer["receipt"] for answer in editor.events("result")]
    result = pixels_of(editor.download("Download: PNG, exact"))
    assert 0.02 < changed.mean() < 0.5
    assert np.array_equal(result[~changed], PORTRAIT[~changed])
    assert not np.array_equal(result[changed], PORTRAIT[changed])


def test_cancel_stops_the_work_and_leaves_the_paint(
    editor: EditorPage, photo: Path, editor_gateway: KeyedGateway
) -> None:
    editor.choose_file(photo)
    editor.until_regions_are_known()
    editor.region("Hair").click()
    editor.button(re.compile("^Color #")).click()
    picker = editor.page.get_by_role("dialog", name="Color")
    expect(picker).to_be_visible()
    editor.page.keyboard.press("Escape")
    expect(picker).to_be_hidden()
    for name, value in (("Timestep", 500), ("Steps", 300), ("Resamples", 3)):  # 900 network calls
        editor.set_number(name, value)
    canceled_before = canceled(editor_gateway)
    editor.button("Enhance").click()
    expect(editor.page.locator(".job-phase")).to_contain_text("Step ")
    editor.shoot("6-working")
    editor.button("Cancel").click()
    expect(editor.page.get_by_text("Your work is as it was").first).to_be_visible()
    expect(editor.region("Hair")).to_have_attribute("aria-pressed", "true")
    expect(editor.page.locator(".job-card")).to_be_hidden()
    wait_until(editor.page, lambda: is_idle(editor_gateway), "the server has stopped its work")
    assert canceled(editor_gateway) > canceled_before
    editor.button("Reset to automatic").click()
    editor.enhance()


def test_a_cancel_as_the_result_arrives_is_one(editor: EditorPage, photo: Path) -> None:
    editor.choose_file(photo)
    editor.until_regions_are_known()
    editor.region("Hair").click()
    editor.button("More variations").click()
    # Thumbnails are made when all of the answer is there.
    editor.page.evaluate(
        """() => {
            window.urls = new Set()
            const { createObjectURL, revokeObjectURL } = URL
            URL.createObjectURL = (blob) => {
                const url = createObjectURL.call(URL, blob)
                urls.add(url)
                return url
            }
            URL.revokeObjectURL = (url) => {
                urls.delete(url)
                revokeObjectURL.call(URL, url)
            }
            const encode = OffscreenCanvas.prototype.convertToBlob
            OffscreenCanvas.prototype.convertToBlob = function (options) {
                document.querySelector(".job-card button")?.click()
                return encode.call(this, options)
            }
        }"""
    )
    editor.button("Enhance").click()
    expect(editor.page.get_by_text("Your work is as it was").first).to_be_visible()
    expect(editor.button("Enhance")).to_be_visible()
    assert editor.page.evaluate("urls.size") == 0


def is_idle(gateway: KeyedGateway) -> bool:
    (backend,) = httpx.get(f"{gateway.process.internal_url}/backends").json()
    return not backend["in_flight"]


def canceled(gateway: KeyedGateway) -> float:
    lines = httpx.get(f"{gateway.process.internal_url}/metrics").text.splitlines()
    (line,) = (line for line in lines if line.startswith("npe_gateway_canceled_total "))
    return float(line.split()[1])


def test_a_failure_is_told_with_its_remedy_and_tried_again(editor: EditorPage, photo: Path) -> None:
    problem = {
        "type": "about:blank", "title": "No", "status": 422, "field": HOSTILE, "detail": HOSTILE,
        "remedy": f"look elsewhere {HOSTILE}",
    }  # fmt: skip

    def refuse(route: Route) -> None:
        body = json.dumps(problem)
        route.fulfill(status=422, body=body, content_type="application/problem+json")

    editor.choose_file(photo)
    editor.until_regions_are_known()
    editor.region("Hair").click()
    editor.page.route("**/v1/edit", refuse)
    editor.button("Enhance").click()
    alert = editor.page.get_by_role("alert").filter(has_text="look elsewhere")
    expect(alert).to_contain_text(HOSTILE)
    editor.shoot("7-refused")
    assert editor.serious_findings() == []
    editor.page.unroute("**/v1/edit")
    editor.button("Try again").click()
    expect(editor.button("Keep")).to_be_visible()
    expect(alert).to_be_hidden()
    click_keep_above_a_region(editor)
    hovered = "(await import('/editor/ui/state.js')).currentDocument.value.hoveredRegion"
    assert editor.page.evaluate(f"async () => {hovered}") is None, "the result is shown as it is"


def click_keep_above_a_region(editor: EditorPage) -> None:
    """Press Keep where a region's name will be when the panel is back."""
    page = editor.page
    box = editor.button("Keep").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    expect(page.locator(".region:hover")).to_be_visible()


def test_work_survives_a_reload_with_its_history(editor: EditorPage, photo: Path) -> None:
    editor.choose_file(photo)
    editor.until_regions_are_known()
    editor.button("Brush").click()
    editor.paint((0.45, 0.4), (0.55, 0.5))
    painted = editor.picture()
    editor.enhance()
    editor.keep()
    kept, edited = editor.picture(), editor.download("Download: PNG, exact")
    editor.until_saved(2)
    editor.page.route("**/v1/segment", lambda route: route.abort())  # they are known already
    editor.page.reload()
    editor.until_regions_are_known()
    expect(editor.button("Brush")).to_have_attribute("aria-pressed", "true")
    assert is_close(editor.picture(), kept)
    editor.button("Dismiss").click()
    assert editor.download("Download: PNG, exact") == edited
    editor.button("Undo: edit").click()
    assert is_close(editor.picture(), painted)
    editor.button("Undo: brush stroke").click()
    assert editor.download("Download: JPEG, exact") == photo.read_bytes()

    dialog = editor.page.get_by_role("dialog", name="Close this photo?")
    editor.button("Close and forget").click()
    dialog.get_by_role("button", name="Go back").click()
    editor.button("Shortcuts and help").click()
    editor.page.get_by_role("dialog").get_by_role("button", name="Close and forget").click()
    dialog.get_by_role("button", name="Close and forget").click()
    expect(editor.button("Open a photo")).to_be_visible()
    editor.page.reload()
    expect(editor.button("Open a photo")).to_be_visible()
    assert editor.page.evaluate(_NUM_STORED) == 0


def test_a_recipe_makes_the_chosen_variation_again(
    browser: Browser,
    editor_gateway: KeyedGateway,
    editor: EditorPage,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    editor.choose_file(photo)
    editor.until_regions_are_known()
    editor.region("Hair").click()
    editor.button("Use copper").click()
    editor.button("More variations").click()
    editor.enhance()
    editor.page.get_by_role("radio", name=re.compile("^Variation 2 of 2")).click()
    editor.shoot("8-variations")
    editor.keep()
    edited = editor.download("Download: PNG, exact")
    recipe = json.loads(editor.download("Download: Recipe of the last edit"))
    recipe["name"] = HOSTILE
    path, again = tmp_path / "recipe.json", tmp_path / "again.png"
    path.write_text(json.dumps(recipe))
    monkeypatch.setenv("NPE_API_KEY", editor_gateway.key)
    assert npe(["replay", str(path), "--server", editor_gateway.url, "-o", str(again)]) == 0
    assert again.read_bytes() == edited
    with opened_editor(browser, editor_gateway) as other:
        other.choose_file(path)
        expect(other.page.get_by_text(HOSTILE).first).to_be_visible()
        expect(other.region("Hair")).to_have_attribute("aria-pressed", "true")
        other.enhance()
        other.keep()
        assert other.download("Download: PNG, exact") == edited


def test_all_of_it_goes_by_keyboard(editor: EditorPage, photo: Path) -> None:
    editor.choose_file(photo)
    editor.until_regions_are_known()
    press = editor.page.keyboard.press
    editor.region("Hair").focus()
    press("Space")
    expect(editor.region("Hair")).to_have_attribute("aria-pressed", "true")
    press("Control+Enter")
    expect(editor.button("Keep")).to_be_visible()
    press("k")
    expect(editor.button("Undo: edit")).to_be_enabled()
    press("Control+z")
    expect(editor.button("Redo: edit")).to_be_enabled()
    press("Control+Shift+Z")
    press("Control+s")
    dialog = editor.page.get_by_role("dialog", name="Download")
    expect(dialog).to_be_visible()
    editor.shoot("9-download")
    assert editor.serious_findings() == []
    press("Escape")
    expect(dialog).to_be_hidden()
