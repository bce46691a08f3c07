"""Both clients against a transport that plays the server: retries, errors, inputs and results."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api import AsyncEditClient, EditClient, EditError
from neural_photo_editor.api import client as blocking_module
from neural_photo_editor.api import client_async as async_module
from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.envelope import render, render_error
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_input import encode_image
from neural_photo_editor.api.schema import EditMetadata, EditResult

METADATA = EditMetadata(
    width=4, height=4, bundle_digest="d", seed=1, sampler="ddim", steps=4, timestep=9, strength=0.1
)
REPLY = render(EditResult(image=b"png", metadata=METADATA))
OK = httpx.Response(200, headers=REPLY.headers, content=REPLY.body)
Outcome = httpx.Response | httpx.TransportError


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses instead of sleeping."""
    seconds: list[float] = []

    async def sleep(duration: float) -> None:
        seconds.append(duration)

    monkeypatch.setattr(blocking_module.time, "sleep", seconds.append)
    monkeypatch.setattr(async_module.asyncio, "sleep", sleep)
    return seconds


def play(outcomes: list[Outcome]) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        outcome = outcomes[len(seen) - 1]
        if isinstance(outcome, httpx.TransportError):
            raise outcome
        # A copy: a response belongs to the client, blocking or not, that has read it.
        return httpx.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)

    return httpx.MockTransport(answer), seen


def edit_blocking(transport: httpx.MockTransport) -> EditResult:
    with EditClient("http://server/", transport=transport) as client:
        return client.edit(b"photo", regions=["hair"], seed=1)


def edit_async(transport: httpx.MockTransport) -> EditResult:
    async def edit() -> EditResult:
        async with AsyncEditClient("http://server", transport=transport) as client:
            return await client.edit(b"photo", regions=["hair"], seed=1)

    return asyncio.run(edit())


both = pytest.mark.parametrize("edit", [edit_blocking, edit_async])
Edit = Callable[[httpx.MockTransport], EditResult]


@both
def test_a_request_is_a_form_and_the_answer_a_typed_result(edit: Edit, tmp_path: Path) -> None:
    transport, seen = play([OK])
    result = edit(transport)
    assert result.image == b"png"
    assert result.metadata == METADATA
    assert result.save(tmp_path / "edit.png").read_bytes() == b"png"
    assert str(seen[0].url) == "http://server/v1/edit"
    body = seen[0].read()
    assert b"operation" not in body
    for part in (b'name="regions"\r\n\r\nhair', b"photo"):
        assert part in body


@both
@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.Response(503),
        httpx.Response(429, headers={"retry-after": "2"}),
    ],
)
def test_what_was_never_started_is_sent_again(
    edit: Edit, failure: Outcome, waits: list[float]
) -> None:
    transport, seen = play([failure, OK])
    assert edit(transport).image == b"png"
    assert len(seen) == 2
    assert seen[0].read().count(b"photo") == seen[1].read().count(b"photo")
    asked_s = 2 if isinstance(failure, httpx.Response) and failure.status_code == 429 else 0
    assert asked_s < waits[0] < asked_s + 1


@both
@pytest.mark.parametrize(
    "failure",
    [
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("cut"),
        httpx.Response(422),
        httpx.Response(500),
        httpx.Response(507),
        httpx.Response(503, headers={"retry-after": "3600"}),
    ],
)
def test_everything_else_is_final(edit: Edit, failure: Outcome, waits: list[float]) -> None:
    transport, seen = play([failure, OK])
    with pytest.raises(EditError):
        edit(transport)
    assert len(seen) == 1
    assert waits == []


def test_retries_end_with_the_last_error_after_growing_pauses(waits: list[float]) -> None:
    transport, seen = play([httpx.Response(503) for _ in range(9)])
    with (
        EditClient("http://server", transport=transport, max_retries=3) as client,
        pytest.raises(EditError) as caught,
    ):
        client.segment(b"photo")
    assert caught.value.status == 503
    assert len(seen) == 4
    for attempt, wait_s in enumerate(waits):
        assert 0.25 * 2**attempt <= wait_s <= 0.75 * 2**attempt


def test_retry_after_may_be_a_date(waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    edit_blocking(play([httpx.Response(503, headers={"retry-after": later}), OK])[0])
    assert 15 < waits[0] < 22


@pytest.mark.parametrize("value", ["soon", "²", "-3", "Sun, 06 Nov 1994 08:49:37 -0000", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(value: str, waits: list[float]) -> None:
    headers = {"retry-after": value.encode()}
    edit_blocking(play([httpx.Response(503, headers=headers), OK])[0])  # type: ignore[arg-type]
    assert 0.25 <= waits[0] <= 0.75


@pytest.mark.parametrize("value", ["31", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_nobody_waits_for_long(value: str, waits: list[float]) -> None:
    transport, seen = play([httpx.Response(503, headers={"retry-after": value}), OK])
    with pytest.raises(EditError) as caught:
        edit_blocking(transport)
    assert caught.value.retryable
    assert (caught.value.retry_after_s or 0) > 30
    assert (len(seen), waits) == (1, [])


@both
def test_problem_documents_become_errors_with_field_and_remedy(edit: Edit) -> None:
    problem = render_error(RequestError(422, "no hair", field="regions", remedy="send a mask"))
    headers = {**problem.headers, "X-NPE-Request-Id": "a1b2"}
    transport, _ = play([httpx.Response(422, headers=headers, content=problem.body)])
    with pytest.raises(EditError, match="no hair") as caught:
        edit(transport)
    error = caught.value
    assert (error.status, error.field, error.remedy) == (422, "regions", "send a mask")
    assert (error.request_id, error.retryable) == ("a1b2", False)


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (httpx.Response(413), "Request Entity Too Large"),
        (httpx.Response(404, json={"code": 404, "message": "Model not found"}), "Model not found"),
        (httpx.Response(502, html="<h1>Bad</h1>"), "Bad Gateway"),
        (httpx.Response(500, json=["odd"]), "Internal Server Error"),
        (httpx.Response(500, json={"detail": "\x1b[31mred", "field": 7}), r"^\[500\] \[31mred$"),
        (httpx.Response(500, text="[" * 100_000), "Internal Server Error"),
        (httpx.Response(599), "status 599"),
        (httpx.Response(200, html="<h1>Welcome</h1>"), "not one of this program's"),
    ],
)
def test_answers_of_other_servers_are_errors_too(response: httpx.Response, detail: str) -> None:
    with pytest.raises(EditError, match=detail):
        edit_blocking(play([response])[0])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_variations_are_asked_for_and_read_as_json(asynchronous: bool) -> None:
    several = render(
        EditResult(image=b"a", more_images=(b"b",), metadata=METADATA), response="json"
    )
    transport, seen = play([httpx.Response(200, headers=several.headers, content=several.body)])
    fields = {"mask": b"m", "strength_map": b"gray", "blend": "gradient", "format": "webp"}

    async def edit() -> EditResult:
        async with AsyncEditClient("http://server", transport=transport) as client:
            return await client.edit(b"photo", variations=2, **fields)

    if asynchronous:
        result = asyncio.run(edit())
    else:
        result = EditClient("http://server", transport=transport).edit(
            b"photo", variations=2, **fields
        )
    assert result.images == (b"a", b"b")
    body = seen[0].read()
    for part in (
        b'name="variations"\r\n\r\n2', b'name="response"\r\n\r\njson', b"gray",
        b'name="blend"\r\n\r\ngradient', b'name="format"\r\n\r\nwebp',
    ):  # fmt: skip
        assert part in body


def test_a_wrong_request_is_refused_before_it_is_sent() -> None:
    transport, seen = play([OK])
    with (
        EditClient("http://server", transport=transport) as client,
        pytest.raises(EditError) as caught,
    ):
        client.edit(b"photo", regions=["beard"])
    assert (caught.value.status, caught.value.field) == (422, "regions")
    assert seen == []


def test_photos_may_be_paths_bytes_pil_images_and_arrays(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    rgb = np.ascontiguousarray(pixels[..., :3])
    data = encode_png(rgb)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    assert encode_image(data) == encode_image(path) == encode_image(str(path)) == data
    np.testing.assert_array_equal(decode_photo(encode_image(rgb)).rgb, rgb)
    decoded = decode_photo(encode_image(Image.fromarray(pixels)))
    np.testing.assert_array_equal(decoded.rgb, rgb)
    np.testing.assert_array_equal(decoded.alpha, pixels[..., 3])
    np.testing.assert_array_equal(decode_photo(encode_image(pixels)).alpha, pixels[..., 3])
    mask = pixels[..., 0] > 99
    np.testing.assert_array_equal(decode_photo(encode_image(mask)).rgb[..., 0], mask * 255)
    with pytest.raises(ValueError, match="uint8"):
        encode_image(rgb.astype(np.float32))  # type: ignore[arg-type]


def test_answers_are_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_photo_editor.api.client_answers.MAX_ANSWER_BYTES", 4)
    large = httpx.Response(200, headers=REPLY.headers, content=b"12345")
    with pytest.raises(EditError, match="more than 4 bytes"):
        edit_blocking(play([large])[0])
    assert edit_blocking(play([OK])[0]).image == b"png"
    refused = httpx.Response(400, content=b" " * 2**20 + b"{}")
    with pytest.raises(EditError, match="Bad Request"):
        edit_blocking(play([refused])[0])


def test_torchserve_itself_is_asked_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPE_API_KEY", "npe_1_secret")
    transport, seen = play([OK])
    with EditClient("http://server", model="m", transport=transport) as client:
        client.edit(b"photo", regions=["hair"])
        with pytest.raises(ValueError, match="leave model out"):
            client.edit(b"photo", regions=["hair"], on_progress=print)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="leave model out"):
            client.info()
    assert str(seen[0].url) == "http://server/predictions/m"
    assert b'name="operation"\r\n\r\nedit' in seen[0].read()
    assert "authorization" not in seen[0].headers


class Proxy(BaseHTTPRequestHandler):
    """Answers whatever it is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"from": "proxy"}')

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()


def _info(url: str) -> object:
    with EditClient(url, max_retries=0) as client:
        return client.info()


def _info_async(url: str) -> object:
    async def ask() -> object:
        async with AsyncEditClient(url, max_retries=0) as client:
            return await client.info()

    return asyncio.run(ask())


@pytest.mark.parametrize("info", [_info, _info_async])
@pytest.mark.usefixtures("proxied")
def test_what_is_for_this_machine_is_not_sent_to_a_proxy(info: Callable[[str], object]) -> None:
    assert info("http://editor.invalid") == {"from": "proxy"}
    for host in ("127.0.0.1", "localhost", "[::1]"):
        with pytest.raises(EditError, match="no answer from the server"):
            info(f"http://{host}:1")  # Where nothing listens.


def test_info_is_a_document() -> None:
    transport, seen = play([httpx.Response(200, json={"regions": ["hair"]})] * 2)
    assert EditClient("http://server", transport=transport).info() == {"regions": ["hair"]}

    async def info() -> object:
        async with AsyncEditClient("http://server", transport=transport) as client:
            return await client.info()

    assert asyncio.run(info()) == {"regions": ["hair"]}
    assert (seen[0].method, seen[0].url.path) == ("GET", "/v1/info")
    for other in (httpx.Response(200, json=[]), httpx.Response(200, text="hi")):
        with pytest.raises(EditError, match="not one of this program's"):
            EditClient("http://server", transport=play([other])[0]).info()
