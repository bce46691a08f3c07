"""Bodies to requests: whatever clients write is read back, and nonsense is refused."""

import contextlib
import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_photo_editor.api.envelope import to_form
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits
from neural_photo_editor.api.schema import REGION_NAMES, EditRequest, Request
from serve.gateway.forms import MAX_JSON_MARKS, MAX_PARTS, parse_request
from serve.gateway.kserve_tensors import read_infer_request
from tests.unit.gateway.small_gateway import MASK, PHOTO

LIMITS = ImageLimits()
requests = st.builds(
    EditRequest,
    photo=st.just(PHOTO),
    regions=st.lists(st.sampled_from(REGION_NAMES), min_size=1, unique=True).map(tuple),
    color=st.none() | st.from_regex(r"\A#[0-9a-f]{6}\Z"),
    strength=st.none() | st.floats(0, 1),
    steps=st.none() | st.integers(1, 1000),
    seed=st.none() | st.integers(0, 2**63 - 1),
    variations=st.integers(1, 8),
    receipt=st.booleans(),
    response=st.just("json"),
    format=st.none() | st.sampled_from(["png", "webp", "jpeg"]),
)


@settings(max_examples=60, deadline=None)
@given(requests)
def test_what_a_client_writes_is_read_back(request: EditRequest) -> None:
    texts, files = to_form(request)
    del texts["operation"]  # The path says it.
    written = httpx.Request("POST", "http://gateway", data=texts, files=files)
    content_type = written.headers["content-type"]
    assert parse("edit", written.read(), content_type) == request


def parse(operation: str, body: bytes, content_type: str) -> Request:
    return parse_request(operation, body, content_type=content_type, limits=LIMITS)


def part(name: str, data: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = b"--b--\r\n"
FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (END, 422, "photo"),
        (part("photo", PHOTO), 400, "no end"),
        (b"no part at all", 400, "told apart"),
        (part("photo", PHOTO) * 2 + END, 422, "sent twice"),
        (b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n" + END, 400, "no name"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, 400, "no name"),
        (part("color", b"\xff\xfe") + END, 422, "not UTF-8"),
        (part("zoom", b"x" * 5000) + END, 422, "too long"),
        (b"".join(part(f"f{n}", b"") for n in range(MAX_PARTS + 1)) + END, 400, "parts"),
        (b"--b\r\nContent-Disposition: " + b"x" * 100_000, 400, "told apart"),
    ],
)
def test_broken_forms_are_refused(body: bytes, status: int, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refusal:
        parse("edit", body, FORM)
    assert refusal.value.status == status


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([FORM, "application/json"]))
def test_nonsense_raises_nothing_else(noise: bytes, content_type: str) -> None:
    for body in (noise, part("photo", PHOTO) + part("mask", MASK) + noise, b"--b\r\n" + noise):
        with contextlib.suppress(RequestError):
            parse("edit", body, content_type)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(list(EditRequest.model_fields)), json_values))
def test_documents_of_any_values_raise_nothing_else(document: dict[str, object]) -> None:
    with pytest.raises(RequestError) as refusal:
        parse("edit", json.dumps(document).encode(), "application/json")
    assert refusal.value.status in (413, 415, 422)


@pytest.mark.parametrize("value", ["[]", "{}", "0", '{"a": []}'])
def test_documents_of_many_values_are_not_parsed(value: str) -> None:
    many = ", ".join([value] * (MAX_JSON_MARKS + 1))
    # It is no JSON, and told to be too long: nothing has parsed it.
    body = f'{{"regions": [{many}'.encode()
    with pytest.raises(RequestError, match="too many values") as refusal:
        parse("edit", body, "application/json")
    assert refusal.value.status == 400
    with pytest.raises(RequestError, match="too many values") as refusal:
        read_infer_request(body, limits=LIMITS)
    assert refusal.value.status == 400
