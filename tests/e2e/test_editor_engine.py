"""The editor's engine in a real browser: what is painted, sent, kept, undone and shown."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.imaging.recoloring import recolor
from tests.e2e.browser import running_browser
from tests.e2e.engine_page import (
    EnginePage,
    Pixels,
    engine_page,
    pixels_of,
    png_of,
    serving_engine,
)

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 700, 500
HALF = 0.5
NAMES = ("background", "hair", "skin")


@pytest.fixture(scope="module")
def window() -> Iterator[EnginePage]:
    with (
        running_browser() as browser,
        serving_engine() as server,
        engine_page(browser, server) as page,
    ):
        yield page


@pytest.fixture
def engine(window: EnginePage) -> Iterator[EnginePage]:
    """Return the module's page, loaded anew and with nothing saved. Its errors fail the test."""
    window.load()
    window.run("await engine.EditorDocument.forget()")
    yield window
    assert window.troubles == []


@pytest.fixture(scope="module")
def photo() -> Pixels:
    blocks = np.random.default_rng(0).integers(0, 256, (10, 14, 3))
    return np.kron(blocks, np.ones((50, 50, 1))).astype(np.uint8)


@pytest.fixture
def opened(engine: EnginePage, photo: Pixels) -> EnginePage:
    engine.open(png_of(photo))
    return engine


def label_map() -> Pixels:
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    ids[100:400, 200:500] = 1
    ids[200:400, 300:400] = 2
    return ids


def with_labels(engine: EnginePage) -> None:
    engine.server.files["labels"] = png_of(label_map())
    names = list(NAMES)
    engine.run(
        f"doc.setLabels(await engine.readLabels(await read('labels'), {names})); await settled()"
    )


def distances(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """From the center of every pixel to a line."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + HALF
    (ax, ay), (bx, by) = start, end
    along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
    along = np.clip(along, 0, 1)
    distance: np.ndarray = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
    return distance


# Opening.


def turned(photo: Pixels, orientation: int, file_type: str) -> bytes:
    """Return a file that is upright once its orientation is heeded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(photo)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    buffer = io.BytesIO()
    options = {"lossless": True} if file_type == "WEBP" else {}
    upright.transpose(turns[orientation]).save(buffer, file_type, exif=exif, **options)
    return buffer.getvalue()


def test_photo_is_upright_and_its_bytes_are_kept(engine: EnginePage, photo: Pixels) -> None:
    square = photo[:HEIGHT, :HEIGHT]  # its size does not give away how it was turned
    kinds = [("JPEG", 6), ("PNG", 6), *(("WEBP", number) for number in range(2, 9))]
    for file_type, orientation in kinds:
        file = turned(square, orientation, file_type)
        engine.open(file, name='<b onmouseover="x">.gif')
        name, found = engine.get("[doc.name, doc.upload.type]")
        assert (name, found) == ('<b onmouseover="x">.gif', f"image/{file_type.lower()}")
        assert engine.exported()["photo"] == file
        engine.run("doc.view.actual()")
        seen = engine.shown()
        for at in ((125, 75), (425, 75), (125, 425)):
            x, y = (round(place) for place in engine.place(*at))
            difference = seen[y, x, :3].astype(int) - square[at[1], at[0]]
            assert np.abs(difference).max() < 12, (file_type, orientation)
    engine.open(turned(photo, 6, "WEBP"))
    assert engine.get("[doc.width, doc.height]") == [WIDTH, HEIGHT]


def _png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


REFUSED = (
    (_png_header(7000, 6000), "too-many-pixels"),
    (_png_header(20000, 20), "too-long"),
    (_png_header(15, 400), "too-small"),
    (_png_header(100, 100), "broken-image"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "broken-image"),
    (b"GIF89a" + bytes(20), "unsupported-type"),
    (b"\x00\x00\x00\x18ftypheic" + bytes(20), "unsupported-type"),
    (b"<svg onload=alert(1)>" + bytes(20), "not-an-image"),
    (b"", "not-an-image"),
    (b"\xff\xd8" + bytes(32505856), "too-many-bytes"),
)


def test_refused_files_say_why(engine: EnginePage) -> None:
    for content, code in REFUSED:
        engine.server.files["refused"] = content
        found = engine.run(
            "try { await engine.openPhoto(await read('refused')); return null }"
            "catch (error) { return [error instanceof engine.EditorError, error.code] }"
        )
        assert found == [True, code]


# Painting.


def test_hard_stroke_covers_its_radius_and_nothing_else(opened: EnginePage) -> None:
    opened.run('doc.brush = {size: 40, hardness: 1, opacity: 1, color: "#123456"}')
    start, end = (100.0, 100.0), (600.0, 380.0)
    opened.drag(start, end)
    strokes = pixels_of(opened.exported()["strokes"])
    distance = distances(start, end)
    assert (strokes[distance < 19.4] == (0x12, 0x34, 0x56, 255)).all()
    assert not strokes[distance > 20.6].any()
    assert opened.exported()["mask"] is None  # strokes are their own
    assert opened.get("[doc.undoLabel, doc.paintEmpty, doc.maskEmpty]") == ["brush", False, True]


def test_opacity_is_reached_once_per_stroke_and_soft_edges_keep_their_color(
    opened: EnginePage,
) -> None:
    opened.run('doc.brush = {size: 80, hardness: 0.2, opacity: 0.5, color: "#c81e64"}')
    opened.drag((100, 250), (600, 250), (350, 100), (350, 400))
    strokes = pixels_of(opened.exported()["strokes"])
    assert strokes[250, 350].tolist() == [200, 30, 100, 128]
    assert strokes[..., 3].max() == 128
    assert (strokes[strokes[..., 3] > 0][:, :3] == (200, 30, 100)).all()
    profile = strokes[210:251, 200, 3].astype(int)
    assert (np.diff(profile) >= 0).all()
    assert len(set(profile.tolist())) > 20  # it fades
    opened.drag((100, 250), (600, 250))
    assert pixels_of(opened.exported()["strokes"])[250, 200, 3] == 192  # a second stroke adds


def test_pen_pressure_sets_what_is_chosen(opened: EnginePage) -> None:
    line = [(100.0, 100.0), (300.0, 100.0), (500.0, 100.0), (500.0, 100.0)]
    opened.run('doc.brush = {size: 60, hardness: 1, opacity: 1, pressure: "size"}')
    opened.pen(line, force=0.5)
    alpha = pixels_of(opened.exported()["strokes"])[..., 3]
    assert 29 <= np.count_nonzero(alpha[:, 300]) <= 32
    opened.run('doc.undo(); doc.brush = {pressure: "opacity"}')
    opened.pen(line, force=0.5)
    alpha = pixels_of(opened.exported()["strokes"])[..., 3]
    assert alpha[100, 300] == pytest.approx(128, abs=1)
    assert 59 <= np.count_nonzero(alpha[:, 300]) <= 62
    assert opened.exported()["strengthMap"] is None
    opened.run('doc.undo(); doc.brush = {pressure: "strength"}')
    opened.pen(line, force=0.25)
    edit = opened.exported()
    strength = pixels_of(edit["strengthMap"])
    assert strength[100, 300] == pytest.approx(64, abs=1)
    assert strength[300, 300] == 255
    assert pixels_of(edit["strokes"])[100, 300, 3] == 255
    opened.run("doc.brush = {size: 70}")
    opened.drag((100, 100), (500, 100))  # a mouse presses fully
    assert opened.exported()["strengthMap"] is None


def test_eraser_leaves_nothing_behind(opened: EnginePage) -> None:
    opened.run('doc.brush = {size: 60, hardness: 0.5, opacity: 1, pressure: "strength"}')
    before = opened.shown()
    opened.pen([(100.0, 100.0), (300.0, 200.0), (300.0, 200.0)], force=0.5)
    opened.run('doc.tool = "mask"')
    opened.drag((100, 300), (300, 300))
    opened.run('doc.tool = "erase"; doc.brush = {size: 500, hardness: 1}')
    opened.drag((100, 100), (400, 300))
    edit = opened.exported()
    assert (edit["empty"], edit["strokes"], edit["mask"], edit["strengthMap"]) == (
        True,
        None,
        None,
        None,
    )
    opened.page.mouse.move(5, 5)
    opened.run('doc.tool = "pan"')
    assert (opened.shown() == before).all()


def test_mask_is_black_and_white_and_takes_in_what_is_painted(opened: EnginePage) -> None:
    opened.run('doc.tool = "mask"; doc.brush = {size: 60, hardness: 0, opacity: 0.1}')
    opened.drag((100, 250), (600, 250))
    mask = pixels_of(opened.exported()["mask"])
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}
    distance = distances((100, 250), (600, 250))
    assert (mask[distance < 29] == 255).all()
    assert not mask[distance > 31].any()
    assert opened.exported()["strokes"] is None
    opened.run('doc.tool = "unmask"')
    opened.drag((350, 100), (350, 400))
    opened.run('doc.tool = "brush"; doc.brush = {hardness: 1, opacity: 1}')
    opened.drag((100, 400), (200, 400))
    edit = opened.exported()
    mask, alpha = pixels_of(edit["mask"]), pixels_of(edit["strokes"])[..., 3]
    assert mask[250, 350] == 0
    assert mask[250, 200] == 255
    assert (mask[alpha > 0] == 255).all()


def test_cancelled_stroke_leaves_no_trace(opened: EnginePage) -> None:
    before = opened.shown()
    opened.page.mouse.move(300, 300)
    opened.page.mouse.down()
    opened.page.mouse.move(400, 350)
    opened.run("await settled(); doc.cancelStroke()")
    opened.page.mouse.move(5, 5)
    opened.page.mouse.up()
    opened.run('doc.tool = "pan"')
    assert (opened.shown() == before).all()
    assert opened.get("[doc.canUndo, doc.painting, doc.paintEmpty]") == [False, False, True]


# Regions.


def test_regions_are_named_selected_added_and_sent(opened: EnginePage) -> None:
    with_labels(opened)
    opened.run(
        'doc.tool = "region"; window.hovered = [];'
        'doc.addEventListener("hover", ({detail}) => hovered.push(detail.region))'
    )
    opened.page.mouse.move(*opened.place(220, 120))
    opened.page.mouse.move(*opened.place(350, 300))
    assert opened.get("hovered.at(-1)") == "skin"
    assert "hair" in opened.get("hovered")
    opened.page.mouse.click(*opened.place(220, 120))
    assert opened.get("doc.selectedRegions") == ["hair"]
    edit = opened.exported()
    assert (edit["regions"], edit["mask"]) == (["hair"], None)
    opened.page.keyboard.down("Shift")
    opened.page.mouse.click(*opened.place(350, 300))
    opened.page.keyboard.up("Shift")
    assert sorted(opened.get("doc.selectedRegions")) == ["hair", "skin"]
    opened.run('doc.setMaskColor("#00ff00")')
    assert opened.exported()["color"] == "#00ff00"
    # With a brush's mark the mask is no longer made of regions alone.
    opened.run('doc.tool = "mask"; doc.brush = {size: 20}')
    opened.drag((50, 50), (100, 50))
    edit = opened.exported()
    mask, labels = pixels_of(edit["mask"]), label_map()
    assert edit["regions"] == []
    assert (mask[labels > 0] == 255).all()
    assert mask[50, 75] == 255
    assert mask[450, 650] == 0
    opened.run("doc.undo(); doc.undo(); doc.undo(); doc.undo()")
    assert opened.get("[doc.selectedRegions, doc.maskEmpty, doc.maskColor]") == [[], True, None]


def test_regions_of_another_base_are_sent_as_the_mask_that_is_shown(
    opened: EnginePage, photo: Pixels
) -> None:
    with_labels(opened)
    opened.server.files["result"] = _result(photo, 50)
    opened.run('doc.selectRegions(["skin"]); doc.tool = "region"')
    assert opened.exported()["regions"] == ["skin"]
    opened.run('await doc.acceptResult(await read("result"), {exact: true})')
    opened.page.mouse.click(*opened.place(220, 120))
    edit = opened.exported()
    assert edit["photo"] == _result(photo, 50)
    assert edit["regions"] == []
    assert ((pixels_of(edit["mask"]) == 255) == (label_map() == 1)).all()
    opened.run("await doc.save()")
    opened.load()
    opened.run("show(await engine.EditorDocument.restore())")
    assert opened.get("[doc.labels.image === doc.upload, doc.base === doc.upload]") == [True, False]
    with_labels(opened)  # as they are found in the result
    opened.run('doc.selectRegions(["skin"])')
    assert opened.exported()["regions"] == ["skin"]


def test_strokes_lie_on_what_the_color_of_the_mask_makes_of_the_photo(
    engine: EnginePage,
) -> None:
    shade = np.linspace(30, 220, WIDTH) + 30 * np.sin(np.arange(HEIGHT) / 9)[:, None]
    photo = np.rint(np.clip(shade[..., None] * (1, 0.8, 0.6), 0, 255)).astype(np.uint8)
    engine.open(png_of(photo))
    with_labels(engine)
    engine.run('doc.selectRegions(["hair"]); doc.setMaskColor("#b3542e")')
    engine.run('doc.brush = {size: 40, hardness: 1, opacity: 0.5, color: "#ff0000"}')
    engine.drag((50, 150), (450, 150))
    edit = engine.exported()
    strokes = pixels_of(edit["strokes"])
    assert edit["color"] is None
    hair = label_map() == 1
    recolored = recolor(photo, hair, (0xB3, 0x54, 0x2E)).astype(int)
    without_stroke = hair & (distances((50, 150), (450, 150)) > 21)
    assert np.abs(strokes[without_stroke][:, :3] - recolored[without_stroke]).max() <= 1
    assert (strokes[hair][:, 3] == 255).all()
    half = (np.array([255, 0, 0]) + recolored[150, 250]) / 2
    assert strokes[150, 250, :3] == pytest.approx(half, abs=2)
    assert strokes[150, 100].tolist() == [255, 0, 0, 128]
    engine.run('doc.brush = {size: 40, opacity: 1, color: "#0000ff"}; doc.view.actual()')
    engine.drag((210, 350), (290, 350))
    engine.page.mouse.move(5, 5)
    x, y = (round(at) for at in engine.place(250, 350))
    assert engine.shown()[y, x, :3].tolist() == [0, 0, 255]


def test_mask_can_be_everything_inverted_and_nothing(opened: EnginePage) -> None:
    opened.run("doc.selectAll()")
    assert (pixels_of(opened.exported()["mask"]) == 255).all()
    opened.run("doc.invertMask()")
    assert opened.get("doc.maskEmpty")
    opened.run('doc.tool = "mask"')
    opened.drag((100, 100), (200, 100))
    drawn = pixels_of(opened.exported()["mask"])
    opened.run("doc.invertMask()")
    assert (pixels_of(opened.exported()["mask"]) == 255 - drawn).all()
    opened.run("doc.clearMask()")
    assert opened.exported()["empty"]


def test_marks_without_a_color_are_striped(engine: EnginePage) -> None:
    engine.open(png_of(np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)))
    engine.run('doc.tool = "pan"; doc.view.actual(); doc.selectAll()')
    x, y = (round(at) for at in engine.place(100, 100))
    inside = slice(y, y + 300), slice(x, x + 500)
    assert len(np.unique(engine.shown()[inside].reshape(-1, 4), axis=0)) == 2
    engine.run('doc.setMaskColor("#b3542e")')
    assert len(np.unique(engine.shown()[inside].reshape(-1, 4), axis=0)) == 1


# History.


def test_more_than_fifty_steps_go_back_and_forth_exactly(opened: EnginePage) -> None:
    rng = np.random.default_rng(1)
    states = [opened.exported()]
    opened.run("doc.brush = {size: 90, hardness: 0.3, opacity: 0.7}")
    for step in range(51):
        tool = ("brush", "brush", "mask", "erase")[step % 4]
        color = "#" + bytes(rng.integers(0, 256, 3, dtype=np.uint8)).hex()
        opened.run(f'doc.tool = "{tool}"; doc.brush = {{color: "{color}"}}')
        opened.drag(*[(rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)) for _ in range(2)])
        if step % 17 == 16:
            states.append(opened.exported())
    # Six squares of 256 KB change with most steps; what is not shown rests packed.
    opened.page.wait_for_function("doc.historyBytes < 10e6")
    for state in reversed(states):
        assert opened.exported() == state
        opened.run("for (let step = 0; step < 17; step++) doc.undo()")
    assert opened.get("[doc.canUndo, doc.canRedo]") == [False, True]
    opened.run("while (doc.canRedo) doc.redo()")
    assert opened.exported() == states[-1]


def test_drawing_only_what_changed_looks_like_drawing_everything(opened: EnginePage) -> None:
    with_labels(opened)
    rng = np.random.default_rng(2)
    opened.run('doc.selectRegions(["hair"]); doc.brush = {size: 70, hardness: 0.4, opacity: 0.8}')
    for scale in (0.37, 0.8, 1, 1.7, 5):
        opened.run(f"doc.view.fit(); doc.view.zoomAt({scale} / doc.view.scale, 500, 350)")
        for tool in ("brush", "mask", "erase"):
            opened.run(f'doc.tool = "{tool}"')
            opened.drag(*[(rng.uniform(250, 450), rng.uniform(150, 350)) for _ in range(4)])
        opened.page.mouse.move(5, 5)
        opened.run('doc.tool = "pan"')
        mended = opened.shown()
        opened.run("doc.detach(); doc.attach(document.querySelector('#stage'))")
        opened.run("await settled()")
        assert (opened.shown() == mended).all()


# Results.


def _result(photo: Pixels, shade: int) -> bytes:
    changed = photo.copy()
    changed[100:200, 100:200] = shade
    return png_of(changed)


def test_results_are_taken_back_built_on_and_downloaded_as_they_came(
    opened: EnginePage, photo: Pixels
) -> None:
    upload, files = png_of(photo), opened.server.files
    opened.drag((100, 100), (200, 200))
    painted = opened.exported()
    for number in range(3):
        files["result"] = _result(photo, 50 * number)
        opened.run('await doc.acceptResult(await read("result"), {exact: true, seed: 7})')
        opened.page.mouse.move(5, 5)
        opened.run("doc.view.actual()")
        x, y = (round(at) for at in opened.place(150.5, 150.5))
        assert (opened.shown()[y, x, :3] == 50 * number).all()
        assert opened.get("base64(doc.downloadBlob())") == opened.get(
            'base64(await read("result"))'
        )
        assert opened.exported()["photo"] == (
            upload if number == 0 else _result(photo, 50 * number - 50)
        )
        opened.drag((300, 300), (400, 300))  # goes on from the result
        assert opened.exported()["photo"] == _result(photo, 50 * number)
        assert opened.get("[doc.base.metadata.seed, doc.result]") == [7, None]
    opened.run("while (doc.canUndo && doc.undoLabel !== 'result') doc.undo(); doc.undo()")
    assert opened.exported()["photo"] == _result(photo, 50)
    opened.run("while (doc.undoLabel !== 'brush' || doc.base !== doc.upload) doc.undo()")
    assert opened.exported() == painted
    opened.run("while (doc.canUndo) doc.undo()")
    assert opened.get("doc.current === doc.upload")
    opened.run("while (doc.canRedo) doc.redo()")
    assert opened.exported()["photo"] == _result(photo, 100)


def test_result_can_be_refused_and_an_inexact_one_is_no_base(
    opened: EnginePage, photo: Pixels
) -> None:
    opened.server.files["result"] = _result(photo, 9)
    opened.server.files["other"] = png_of(photo[:-1])
    accept = 'doc.acceptResult(await read("{}"), {{exact: false}})'
    code = "then(() => null, (error) => error.code)"
    assert opened.get(f"{accept.format('other')}.{code}") == "wrong-size"
    opened.run(f"await {accept.format('result')}; doc.rejectResult()")
    assert opened.get("[doc.result, doc.undoLabel]") == [None, "reject-result"]
    opened.run("doc.undo()")
    refused = "try { doc.useResultAsBase() } catch (error) { return error.code }"
    assert opened.run(refused) == "inexact-base"
    opened.drag((100, 100), (200, 200))
    assert opened.exported()["photo"] == png_of(photo)


def test_preview_and_comparison_are_shown_and_change_nothing(
    opened: EnginePage, photo: Pixels
) -> None:
    opened.run("doc.view.actual()")
    opened.server.files["result"] = _result(photo, 0)
    before = opened.exported()
    opened.run("doc.showPreview(await createImageBitmap(new ImageData(8, 8)))")
    opened.run("doc.clearPreview()")
    assert opened.exported() == before
    opened.run('await doc.acceptResult(await read("result"), {}); doc.compare = 0.2')
    at_upload, at_result = opened.place(110.5, 150.5), opened.place(190.5, 150.5)
    shown = opened.shown()
    assert (shown[int(at_upload[1]), int(at_upload[0]), :3] == photo[150, 110]).all()
    assert (shown[int(at_result[1]), int(at_result[0]), :3] == 0).all()
    opened.drag((140, 300), (560, 300))
    assert opened.get("doc.compare") == pytest.approx(0.8, abs=0.01)
    assert opened.get("doc.undoLabel") == "result"


# View and input.


def test_photo_is_shown_pixel_by_pixel_and_picked_from(opened: EnginePage, photo: Pixels) -> None:
    opened.run('doc.view.actual(); doc.tool = "eyedropper"')
    left, top = (int(at) for at in opened.place(0, 0))
    shown = opened.shown()[max(0, top) : top + HEIGHT, max(0, left) : left + WIDTH, :3]
    assert (
        shown == photo[max(0, -top) :, max(0, -left) :][: shown.shape[0], : shown.shape[1]]
    ).all()
    opened.page.mouse.click(*opened.place(130.5, 180.5))
    assert opened.get("doc.brush.color") == "#" + bytes(photo[180, 130]).hex()
    opened.run("doc.view.zoomIn(); doc.view.zoomIn(); doc.view.fit()")
    assert opened.get("doc.view.fitted")


def test_wheel_zooms_where_it_points_and_the_middle_button_pans(opened: EnginePage) -> None:
    place = opened.place(200, 100)
    opened.page.mouse.move(*place)
    opened.page.mouse.wheel(0, -240)
    opened.run("await settled()")
    assert opened.get("doc.view.scale") > 1.2
    assert opened.place(200, 100) == pytest.approx(place, abs=1)
    opened.page.mouse.down(button="middle")
    opened.page.mouse.move(place[0] + 60, place[1] + 30)
    opened.page.mouse.up(button="middle")
    assert opened.place(200, 100) == pytest.approx((place[0] + 60, place[1] + 30), abs=1)
    assert not opened.get("doc.canUndo")


def test_tool_is_put_aside_while_a_key_is_held_or_the_document_is_locked(
    opened: EnginePage,
) -> None:
    view = "doc.view.toCanvas(0, 0)"
    opened.run('doc.tool = "brush"; doc.held = "pan"; doc.locked = true; doc.held = null')
    assert opened.get("[doc.tool, doc.activeTool]") == ["brush", "pan"]
    before = opened.get(view)
    opened.drag((100, 100), (200, 100))
    assert opened.get(view)[0] > before[0] + 50
    assert not opened.get("doc.canUndo")
    opened.run("await doc.save()")
    opened.load()
    opened.run("show(await engine.EditorDocument.restore()); await settled()")
    assert opened.get("[doc.activeTool, doc.locked]") == ["brush", False]
    opened.drag((100, 100), (200, 100))
    assert opened.get("doc.undoLabel") == "brush"


def test_two_fingers_zoom_and_one_paints(opened: EnginePage) -> None:
    devtools, before = opened.devtools(), opened.get("doc.view.scale")

    def touch(step: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": step, "touchPoints": fingers})

    touch("touchStart", (450, 350))
    touch("touchStart", (450, 350), (550, 350))
    for spread in (60, 80, 100):
        touch("touchMove", (500 - spread, 350), (500 + spread, 350))
    touch("touchEnd")
    assert opened.get("doc.view.scale") == pytest.approx(2 * before, rel=0.05)
    assert opened.get("[doc.canUndo, doc.paintEmpty]") == [False, True]
    touch("touchStart", (450, 350))
    touch("touchMove", (520, 380))
    touch("touchEnd")
    assert opened.get("[doc.undoLabel, doc.paintEmpty]") == ["brush", False]


# Storage.


def test_work_survives_a_reload_with_its_history(opened: EnginePage, photo: Pixels) -> None:
    with_labels(opened)
    opened.server.files["result"] = _result(photo, 77)
    opened.run('doc.brush = {size: 33, hardness: 0.1, opacity: 0.4, pressure: "strength"}')
    opened.pen([(100.0, 100.0), (300.0, 200.0), (300.0, 200.0)], force=0.5)
    first = opened.exported()
    opened.run('await doc.acceptResult(await read("result"), {seed: 5, exact: true})')
    opened.run('await doc.save({note: "first"})')
    opened.drag((300, 300), (400, 400))
    opened.run('doc.tool = "region"; doc.overlay = true; doc.selectRegions(["skin"])')
    opened.run("doc.undo(); await Promise.all([doc.save(), doc.save()])")
    last = opened.exported()
    opened.load()
    opened.run("show(await engine.EditorDocument.restore()); await settled()")
    assert opened.exported() == last
    assert opened.get("[doc.extra.note, doc.tool, doc.brush.size, doc.overlay, doc.name]") == [
        "first",
        "region",
        33,
        True,
        "photo.png",
    ]
    assert opened.get("[doc.canRedo, doc.base.metadata.seed, doc.labels.names]") == [
        True,
        5,
        list(NAMES),
    ]
    opened.run("doc.redo()")
    assert opened.get("doc.selectedRegions") == ["skin"]
    opened.run("while (doc.undoLabel !== 'brush' || doc.base !== doc.upload) doc.undo()")
    assert opened.exported() == first
    opened.run("await doc.save(); await engine.EditorDocument.forget()")
    assert opened.get("await engine.EditorDocument.restore()") is None


def test_images_in_the_state_of_the_interface_are_written_once(
    opened: EnginePage, photo: Pixels
) -> None:
    opened.server.files["result"] = _result(photo, 77)
    keys = opened.run(
        """
        const blob = await read("result")
        const items = [{blob, seed: 3, receipt: null, note: undefined}]
        const extra = {candidates: {items, index: 0}, fill: "redraw"}
        await doc.save(extra)
        const { put } = IDBObjectStore.prototype
        const keys = []
        IDBObjectStore.prototype.put = function (value, key) {
            keys.push(key)
            return put.call(this, value, key)
        }
        await doc.save(extra)
        IDBObjectStore.prototype.put = put
        return keys
        """
    )
    assert keys == ["document"]
    opened.run("show(await engine.EditorDocument.restore())")
    assert opened.run(
        """
        const { candidates: { items: [{ blob, note, ...item }], index }, fill } = doc.extra
        const result = await base64(await read("result"))
        return [await base64(blob) === result, item, index, fill]
        """
    ) == [True, {"seed": 3, "receipt": None}, 0, "redraw"]


def test_second_document_replaces_the_first_wherever_it_was_saved(
    opened: EnginePage, photo: Pixels
) -> None:
    opened.drag((100, 100), (300, 200))
    opened.run("await doc.save(); window.first = doc")
    opened.open(png_of(photo[:, ::-1].copy()))
    opened.run("await doc.save(); await first.save(); await doc.save()")
    assert opened.run(
        "const again = await engine.EditorDocument.restore();"
        "const uploads = [again, doc].map((each) => base64(each.upload.blob));"
        "const [there, here] = await Promise.all(uploads);"
        "return [again.paintEmpty, there === here]"
    ) == [True, True]


# Storage that takes so many bytes of images: a browser's own limit cannot be set.
_LIMIT_STORAGE = """(limit) => {
    const { put, delete: remove } = IDBObjectStore.prototype
    const sizes = new Map()
    IDBObjectStore.prototype.put = function (value, key) {
        sizes.set(key, value.blob?.size ?? 0)
        if ([...sizes.values()].reduce((sum, size) => sum + size) > limit) {
            sizes.delete(key)
            this.transaction.abort()
            throw new DOMException("full", "QuotaExceededError")
        }
        return put.call(this, value, key)
    }
    IDBObjectStore.prototype.delete = function (key) {
        sizes.delete(key)
        return remove.call(this, key)
    }
}"""


def test_new_photo_needs_no_room_beside_the_one_it_replaces(
    opened: EnginePage, photo: Pixels
) -> None:
    photos = [png_of(photo), png_of(photo[:, ::-1].copy())]
    opened.page.evaluate(_LIMIT_STORAGE, 1.5 * len(photos[0]))
    save = "await doc.save().then(() => null, (error) => error.code)"
    assert opened.get(save) is None
    opened.open(photos[1])
    assert opened.get(save) is None
    opened.server.files["result"] = _result(photo, 0)
    opened.run('await doc.acceptResult(await read("result"), {})')
    assert opened.get(save) == "storage-full"
    opened.load()
    opened.run("show(await engine.EditorDocument.restore())")
    assert opened.exported()["photo"] == photos[1]  # what was saved last stays
    assert opened.get("doc.result") is None


def test_two_pages_with_the_same_work_take_nothing_from_each_other(
    opened: EnginePage, window: EnginePage
) -> None:
    opened.drag((100, 100), (300, 200))
    opened.run("await doc.save()")
    other = EnginePage(window.page.context.new_page(), window.server)
    other.load()
    other.run("show(await engine.EditorDocument.restore()); await settled()")
    overtaken = []
    for step, page in enumerate((opened, other, opened)):
        page.drag((100, 300 + 50 * step), (600, 300 + 50 * step))
        overtaken.append(page.get("await doc.save()"))
    assert overtaken == [False, True, True]
    last = opened.exported()
    other.page.close()
    opened.load()
    opened.run("show(await engine.EditorDocument.restore()); await settled()")
    assert opened.exported() == last
    opened.run("while (doc.canUndo) doc.undo()")
    assert opened.exported()["empty"]


def test_exported_edit_can_be_imported(opened: EnginePage) -> None:
    with_labels(opened)
    opened.run('doc.brush = {size: 90, hardness: 0, opacity: 0.3, pressure: "strength"}')
    opened.pen([(100.0, 100.0), (300.0, 200.0), (300.0, 200.0)], force=0.5)
    opened.run('doc.tool = "mask"')
    opened.drag((100, 400), (300, 400))
    edit = opened.exported()
    opened.run(
        "const edit = await doc.exportEdit(); doc.clearMask(); doc.clearPaint();"
        "await doc.importEdit(edit)"
    )
    assert opened.exported() == edit
    assert opened.get("doc.undoLabel") == "import"
    wrong = "doc.importEdit({mask: await read('wrong'), regions: [], strokes: null})"
    opened.server.files["wrong"] = png_of(np.zeros((20, 20), dtype=np.uint8))
    assert opened.get(f"{wrong}.then(() => null, (error) => error.code)") == "wrong-size"
