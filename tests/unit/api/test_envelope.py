"""TorchServe rows to requests and results to replies, both ways."""

import base64
import json
from typing import Any

import pytest

from neural_photo_editor.api.envelope import (
    METADATA_HEADER,
    parse_row,
    read_result,
    render,
    render_error,
    to_form,
)
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditRequest,
    EditResult,
    Request,
    SegmentRequest,
    UpscaleRequest,
)

EDIT = EditRequest(
    photo=b"\x89photo", regions=("hair", "lip"), color="#aabbcc", strength=0.25, steps=7,
    sampler="ddpm", seed=0, response="json",
)  # fmt: skip
FORM = {"operation": "edit", "photo": b"p", "mask": b"m"}


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "request_",
    [
        EDIT,
        EditRequest(photo=b"p", mask=b"m", strokes=b"\xffs", timestep=450),
        EditRequest(photo=b"p", mask=b"m", variations=3, response="json", strength_map=b"\xff"),
        EditRequest(photo=b"p", mask=b"m", receipt=True, response="json"),
        EditRequest(
            photo=b"p",
            mask=b"m",
            sampler="dpmpp_2m",
            detail="mixed",
            blend="gradient",
            format="jpeg",
        ),
        SegmentRequest(photo=b"p"),
        UpscaleRequest(photo=b"p", response="json"),
    ],
)
def test_a_form_reads_back_as_the_request_it_was_made_from(request_: Request) -> None:
    texts, files = to_form(request_)
    row = {name: bytearray(data) for name, data in files.items()}
    as_text = {**row, **texts}
    as_bytes = {**row, **{name: bytearray(text.encode()) for name, text in texts.items()}}
    assert parse_row(as_text) == request_
    assert parse_row(as_bytes) == request_


@pytest.mark.parametrize("key", ["body", "data"])
def test_json_bodies_parsed_or_raw(key: str) -> None:
    document = {
        "operation": "edit", "photo": base64_text(b"\x89photo"), "regions": ["hair", "lip"],
        "color": "#aabbcc", "strength": 0.25, "steps": 7, "sampler": "ddpm", "seed": 0,
        "mask": None, "response": "json",
    }  # fmt: skip
    assert parse_row({key: document}) == EDIT
    # With a charset in its content type TorchServe does not parse the body.
    raw = bytearray(json.dumps(document).encode())
    assert parse_row({key: raw}, content_type="application/json; charset=utf-8") == EDIT


@pytest.mark.parametrize(
    ("row", "content_type", "status", "field"),
    [
        ({}, "", 400, None),
        ({"body": bytearray()}, "application/json", 400, None),
        ({"body": bytearray(b"{not json")}, "application/json", 400, None),
        ({"body": bytearray(b"[" * 100_000)}, "application/json", 400, None),
        ({"body": [1, 2]}, "application/json", 400, None),
        ({"body": 3}, "application/json", 400, None),
        ({"body": bytearray(b"\x89PNG\r\n\x1a\n")}, "image/png", 415, None),
        ({"body": "hello"}, "text/plain", 415, None),
        ({"body": {"photo": "cA=="}}, "application/json", 422, "operation"),
        ({"body": {"operation": ["edit"]}}, "application/json", 422, "operation"),
        ({"body": {"operation": "paint", "photo": "cA=="}}, "application/json", 422, "operation"),
        ({"body": {"operation": "segment", "photo": "%%%"}}, "application/json", 422, "photo"),
        ({"body": {"operation": "segment", "photo": "ü"}}, "application/json", 422, "photo"),
        ({"body": {"operation": "segment", "photo": 10**12}}, "application/json", 422, "photo"),
        ({"operation": "segment", "photo": 10**12}, "multipart/form-data", 415, "photo"),
        ({"operation": "segment", "photo": {"a": 1}}, "multipart/form-data", 415, "photo"),
        ({"operation": "segment"}, "multipart/form-data", 422, "photo"),
        ({"operation": b"\xff", "photo": b"p"}, "multipart/form-data", 422, "operation"),
        ({"operation": "upscale", "photo": b"p", "zoom": "9"}, "", 422, "zoom"),
        ({"operation": "upscale", "photo": b"p", "zoom": ""}, "", 422, "zoom"),
        ({"body": {"operation": "upscale", "photo": "cA==", "zoom": None}}, "", 422, "zoom"),
        ({"body": {"operation": "upscale", "photo": "cA==", "mask": None}}, "", 422, "mask"),
        ({**FORM, "strength": "much"}, "", 422, "strength"),
        ({**FORM, "strength": "inf"}, "", 422, "strength"),
        ({**FORM, "steps": "2.5"}, "", 422, "steps"),
        ({**FORM, "seed": "9" * 5000}, "", 422, "seed"),
        ({**FORM, "variations": "four", "response": "json"}, "", 422, "variations"),
        ({**FORM, "variations": "4"}, "", 422, "variations"),
        ({**FORM, "receipt": "maybe", "response": "json"}, "", 422, "receipt"),
        ({**FORM, "receipt": "true"}, "", 422, "receipt"),
        ({"body": {"operation": "edit", "photo": "cA==", "mask": "cA==", "receipt": "true",
                   "response": "json"}}, "application/json", 422, "receipt"),
        ({**FORM, "strength_map": ["x"]}, "", 415, "strength_map"),
        ({"operation": "edit", "photo": b"p", "regions": "hair,beard"}, "", 422, "regions"),
    ],
)  # fmt: skip
def test_rows_that_are_no_request(
    row: dict[str, Any], content_type: str, status: int, field: str | None
) -> None:
    with pytest.raises(RequestError) as caught:
        parse_row(row, content_type=content_type)
    assert (caught.value.status, caught.value.field) == (status, field)
    assert caught.value.remedy


def test_results_read_back_from_both_formats() -> None:
    metadata = EditMetadata(
        width=5, height=6, bundle_digest="ab", seed=3, sampler="ddim", steps=4, timestep=100,
        strength=0.2, timings_ms={"diffuse": 1.5}, crop=(0, 1, 5, 6),
    )  # fmt: skip
    result = EditResult(image=b"\x89png\xff", metadata=metadata)
    for response, content_type in (("image", "image/png"), ("json", "application/json")):
        reply = render(result, response=response)
        assert reply.headers["Content-Type"] == content_type
        headers = {name.lower(): value for name, value in reply.headers.items()}
        assert read_result("edit", headers, reply.body) == result
    assert render(result).body == result.image
    assert render(result).headers[METADATA_HEADER].isascii()


def test_variations_travel_as_a_list() -> None:
    metadata = EditMetadata(
        width=5, height=6, bundle_digest="ab", seed=3, sampler="ddim", steps=4, timestep=100,
        strength=0.2, variations=3, seeds=(3, 4, 5), format="webp",
    )  # fmt: skip
    result = EditResult(image=b"a", more_images=(b"b", b"\xff"), metadata=metadata)
    reply = render(result, response="json")
    document = json.loads(reply.body)
    assert [base64.b64decode(text) for text in document["images"]] == [b"a", b"b", b"\xff"]
    assert "image" not in document
    assert read_result("edit", {"content-type": "application/json"}, reply.body) == result


@pytest.mark.parametrize("receipts", [({"key_id": "k"},), ({"key_id": "k"}, {"key_id": "l"})])
def test_receipts_travel_beside_their_images(receipts: tuple[dict[str, Any], ...]) -> None:
    metadata = EditMetadata(
        width=5, height=6, bundle_digest="ab", seed=3, sampler="ddim", steps=4, timestep=100,
        strength=0.2, variations=len(receipts),
    )  # fmt: skip
    result = EditResult(
        image=b"a", more_images=(b"b",) * (len(receipts) - 1), metadata=metadata, receipts=receipts
    )
    reply = render(result, response="json")
    document = json.loads(reply.body)
    assert ("receipt" if len(receipts) == 1 else "receipts") in document
    read = read_result("edit", {"content-type": "application/json"}, reply.body)
    assert read == result
    assert isinstance(read, EditResult)
    assert read.receipt == receipts[0]


def test_the_content_type_is_that_of_the_file() -> None:
    metadata = EditMetadata(
        width=5, height=6, bundle_digest="ab", seed=3, sampler="ddim", steps=4, timestep=100,
        strength=0.2, format="jpeg", exact=False,
    )  # fmt: skip
    result = EditResult(image=b"jpeg", metadata=metadata)
    assert render(result).headers["Content-Type"] == "image/jpeg"


def test_a_reply_of_another_server_is_not_taken_for_a_result() -> None:
    with pytest.raises(ValueError, match="metadata"):
        read_result("edit", {"content-type": "image/png"}, b"png")


def test_errors_become_ascii_problem_documents() -> None:
    error = RequestError(422, "unknown region 'Bärt'", field="regions", remedy="choose another")
    reply = render_error(error)
    assert (reply.status, reply.phrase) == (422, "Unprocessable Entity")
    assert reply.headers == {"Content-Type": "application/problem+json"}
    assert json.loads(reply.body)["detail"] == "unknown region 'Bärt'"
    assert reply.body.isascii()
