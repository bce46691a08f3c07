"""The public application: answers, refusals with their statuses and headers, health."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.envelope import read_result
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, SegmentRequest
from serve.gateway.access import ANONYMOUS, NoLimits, Principal
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import (
    FILES,
    MASK,
    PHOTO,
    SmallGateway,
    small_gateway,
    until,
)

Case = Callable[[SmallGateway, SmallBackend], Awaitable[None]]


def run(folder: Path, case: Case, **options: Any) -> None:
    async def with_gateway() -> None:
        with SmallBackend() as backend:
            async with small_gateway(folder, backend, **options) as gateway:
                await case(gateway, backend)

    asyncio.run(with_gateway())


def problem_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(reply.headers["x-npe-request-id"]) == 32
    problem: dict[str, Any] = reply.json()
    assert problem["status"] == status
    assert problem["detail"]
    return problem


def test_a_form_and_a_document_ask_for_the_same(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        form = await gateway.edit(seed="7", regions="", color="#8a3ffc", strength="0.5")
        document = {
            "photo": base64.b64encode(PHOTO).decode(), "mask": base64.b64encode(MASK).decode(),
            "seed": 7, "color": "#8a3ffc", "strength": 0.5, "steps": None,
        }  # fmt: skip
        as_json = await gateway.client.post("/v1/edit", json=document)
        assert form.content == as_json.content == PHOTO
        assert form.headers["content-type"] == "image/png"
        assert read_result("edit", form.headers, form.content).metadata["seed"] == 7
        first, second = backend.received
        assert (
            first
            == second
            == EditRequest(photo=PHOTO, mask=MASK, seed=7, color="#8a3ffc", strength=0.5)
        )

    run(tmp_path, case)


def test_each_path_is_its_operation(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await gateway.client.post(
            "/v1/segment", data={"response": "json"}, files={"photo": PHOTO}
        )
        assert reply.json()["metadata"]["operation"] == "segment"
        assert backend.received == [SegmentRequest(photo=PHOTO, response="json")]

    run(tmp_path, case)


def form(fields: dict[str, str], files: dict[str, bytes]) -> dict[str, Any]:
    return {"data": fields, "files": files}


def document(text: str | bytes) -> dict[str, Any]:
    return {"content": text, "headers": {"content-type": "application/json"}}


TINY = encode_png(np.zeros((8, 8), dtype=np.uint8))
HUGE = encode_png(np.zeros((6001, 6000), dtype=np.uint8))
REFUSED: dict[str, tuple[dict[str, Any], int, str | None]] = {
    "no body": ({}, 415, None),
    "an image as the body": (
        {"content": PHOTO, "headers": {"content-type": "image/png"}}, 415, None,
    ),
    "malformed JSON": (document("{'a'"), 400, None),
    "deep JSON": (document("[" * 100_000), 400, None),
    "a JSON list": (document("[1]"), 400, None),
    "an empty JSON body": (document(b""), 400, None),
    "bad base64": (document('{"photo": "%%%"}'), 422, "photo"),
    "a form without boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, None,
    ),
    "a form that ends early": (
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="photo"\r\n\r\nx',
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
        400, None,
    ),
    "an operation": (form({"operation": "edit"}, FILES), 422, "operation"),
    "an unknown field": (form({"zoom": "2"}, FILES), 422, "zoom"),
    "no photo": (form({}, {"mask": MASK}), 422, "photo"),
    "no mask": (form({}, {"photo": PHOTO}), 422, "mask"),
    "long text": (form({"color": "#" * 5000}, FILES), 422, "color"),
    "another file type": (form({}, {**FILES, "photo": b"GIF89a" * 9}), 415, "photo"),
    "too small": (form({}, {**FILES, "photo": TINY}), 422, "photo"),
    "too many pixels": (form({}, {**FILES, "mask": HUGE}), 413, "mask"),
    "no number": (form({"steps": "many"}, FILES), 422, "steps"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_before_any_backend_sees_it(tmp_path: Path, name: str) -> None:
    sent, status, field = REFUSED[name]

    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await gateway.client.post("/v1/edit", **sent)
        assert problem_of(reply, status)["field"] == field
        assert backend.received == []
        good = await gateway.edit()
        assert good.status_code == 200

    run(tmp_path, case)


def test_the_frameworks_own_refusals_are_problem_documents(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        problem_of(await gateway.client.get("/predictions/neural_photo_editor"), 404)
        wrong_method = await gateway.client.get("/v1/edit")
        problem_of(wrong_method, 405)
        assert wrong_method.headers["allow"] == "POST"

    run(tmp_path, case)


def test_a_bug_is_a_problem_document_without_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        def fail(*_: object, **__: object) -> None:
            raise KeyError("a secret")

        monkeypatch.setattr("serve.gateway.edits.parse_request", fail)
        reply = await gateway.edit()
        problem_of(reply, 500)
        assert "secret" not in reply.text

    run(tmp_path, case)


class OneKey:
    """Knows one key, which may only segment."""

    def authenticate(self, secret: str | None) -> Principal:
        if secret != "npe_right":
            raise RequestError(401, "no", field=None, remedy="send a key")
        return Principal("k1", frozenset({"segment"}))


def test_keys_are_asked_for_first(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        post = gateway.client.post
        for headers in ({}, {"X-API-Key": "npe_wrong"}, {"Authorization": "Basic npe_right"}):
            refused = await post("/v1/edit", headers=headers, content=b"never read")
            problem_of(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": "npe_right"}, {"Authorization": "Bearer npe_right"}):
            problem_of(await post("/v1/edit", headers=headers, files=FILES), 403)
            allowed = await post("/v1/segment", headers=headers, files={"photo": PHOTO})
            assert allowed.status_code == 200
        problem_of(await gateway.client.get("/v1/info"), 401)
        assert (await gateway.client.get("/readyz")).status_code == 200
        assert len(backend.received) == 2

    run(tmp_path, case, keys=OneKey())


def test_limits_of_a_key_are_429_with_retry_after(tmp_path: Path) -> None:
    class NoMore(NoLimits):
        def admit(self, principal: Principal) -> AbstractContextManager[None]:
            assert principal == ANONYMOUS
            raise RequestError(429, "enough", field=None, remedy="wait", retry_after_s=7.2)

    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await gateway.edit()
        problem_of(reply, 429)
        assert reply.headers["retry-after"] == "8"

    run(tmp_path, case, limits=NoMore())


def test_large_requests_are_refused_by_their_head(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await gateway.client.post("/v1/edit", files={**FILES, "strokes": b"x" * 20_000})
        assert "20,000 bytes" in problem_of(reply, 413)["detail"]
        assert gateway.count("upload_bytes") == 0

    run(tmp_path, case, max_request_bytes=20_000)


def test_large_requests_that_hide_their_size_are_cut(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        async def body() -> Any:
            for _ in range(1000):
                yield b"x" * 1000

        headers = {"content-type": "application/json"}
        reply = await gateway.client.post("/v1/edit", content=body(), headers=headers)
        problem_of(reply, 413)
        assert gateway.count("upload_bytes") <= 21_000

    run(tmp_path, case, max_request_bytes=20_000)


def test_uploads_together_are_bounded(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        go_on = asyncio.Event()

        async def slow() -> Any:
            yield b"x" * 8000
            await go_on.wait()

        headers = {"content-type": "application/json"}
        first = asyncio.create_task(
            gateway.client.post("/v1/edit", content=slow(), headers=headers)
        )
        while gateway.count("upload_bytes") < 8000:
            await asyncio.sleep(0)
        second = await gateway.client.post("/v1/edit", content=b"x" * 3000, headers=headers)
        problem_of(second, 503)
        assert int(second.headers["retry-after"]) > 0
        go_on.set()
        assert (await first).status_code == 400
        # What was held is free again.
        third = await gateway.client.post("/v1/edit", content=b"x" * 3000, headers=headers)
        assert third.status_code == 400

    run(tmp_path, case, max_upload_bytes_total=10_000)


def test_an_upload_that_pauses_is_cut_however_fast_it_was(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        async def pausing() -> Any:
            yield b"x" * 100_000
            await asyncio.Event().wait()

        headers = {"content-type": "application/json"}
        async with asyncio.timeout(10):
            reply = await gateway.client.post("/v1/edit", content=pausing(), headers=headers)
        problem_of(reply, 408)

    run(tmp_path, case, rate_grace_s=0.1, min_bytes_per_s=1)


def test_headers_of_every_answer(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        ids = set()
        for path in ("/healthz", "/nothing", "/docs", "/v1/info"):
            headers = (await gateway.client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers
            assert "access-control-allow-origin" not in headers
            ids.add(headers["x-npe-request-id"])
        assert len(ids) == 4

    run(tmp_path, case)


def test_other_origins_may_call_only_where_they_are_named(tmp_path: Path) -> None:
    friend, stranger = {"Origin": "https://a.example"}, {"Origin": "https://b.example"}

    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        allowed = await gateway.client.get("/healthz", headers=friend)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        refused = await gateway.client.get("/healthz", headers=stranger)
        assert "access-control-allow-origin" not in refused.headers

    run(tmp_path, case, cors_origins=("https://a.example",))


def test_ready_means_that_production_is(tmp_path: Path) -> None:
    async def with_gateway() -> None:
        with SmallBackend() as away, SmallBackend() as canary:
            away.ready = False
            async with small_gateway(tmp_path, away, canary=[canary]) as gateway:
                assert (await gateway.client.get("/healthz")).status_code == 200
                not_ready = await gateway.client.get("/readyz")
                assert "no production backend" in problem_of(not_ready, 503)["detail"]
                problem_of(await gateway.edit(), 503)

    asyncio.run(with_gateway())


def test_a_worker_that_is_waited_for_does_not_make_the_gateway_unready(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.ready = False
        await until(lambda: not gateway.pool.states()[0].ready)
        assert (await gateway.client.get("/readyz")).status_code == 200
        assert (await gateway.client.get("/v1/info")).json()["bundles"]

    run(tmp_path, case)


def test_a_worker_that_stays_away_makes_the_gateway_unready(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.ready = False
        await until(lambda: not gateway.pool.production())
        problem_of(await gateway.client.get("/readyz"), 503)

    run(tmp_path, case, recovery_s=0.05)


def test_a_draining_gateway_says_so_and_answers_on(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        assert (await gateway.client.get("/readyz")).status_code == 200
        gateway.service.draining = True
        not_ready = await gateway.client.get("/readyz")
        assert "shutting down" in problem_of(not_ready, 503)["detail"]
        answered = await gateway.edit()
        assert answered.status_code == 200
        assert answered.headers["connection"] == "close"

    run(tmp_path, case)


def test_info_tells_limits_and_bundles(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        info = (await gateway.client.get("/v1/info")).json()
        assert info["limits"]["max_request_bytes"] == 32 * 2**20 - 2**16
        assert "hair" in info["regions"]
        assert info["bundles"] == [
            {
                "bundle_digest": backend.digest, "resolution": 64, "licenses": ["MIT"],
                "defaults": {"steps": 50},
            }
        ]  # fmt: skip
        assert info["receipt_keys"] == [{"key_id": "k", "public_key": "p"}]

    run(tmp_path, case)


def test_the_internal_port_tells_life_metrics_and_backends(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        await gateway.edit()
        await gateway.client.post("/v1/segment", files={"photo": b"no image"})
        metrics = (await gateway.internal.get("/metrics")).text
        for line in (
            'npe_gateway_requests_total{channel="production",operation="edit",status="200"} 1.0',
            'npe_gateway_requests_total{channel="",operation="segment",status="415"} 1.0',
            'npe_gateway_request_seconds_count{operation="edit"} 1.0',
            f'npe_gateway_backend_ready{{channel="production",url="{backend.url}"}} 1.0',
            f'npe_gateway_bundle_info{{bundle_digest="{backend.digest}",channel="production",'
            f'url="{backend.url}"}} 1.0',
            "npe_gateway_in_flight 0.0",
        ):
            assert line in metrics
        assert (await gateway.internal.get("/backends")).json() == [
            {
                "url": backend.url, "channel": "production", "ready": True, "in_flight": 0,
                "bundle_digest": backend.digest,
            }
        ]  # fmt: skip
        assert (await gateway.internal.get("/healthz")).json() == {"status": "alive"}
        for path in ("/metrics", "/backends"):
            problem_of(await gateway.client.get(path), 404)

    run(tmp_path, case)


def test_the_documentation_names_every_field_and_status(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        paths = (await gateway.client.get("/openapi.json")).json()["paths"]
        edit = paths["/v1/edit"]["post"]
        content = edit["requestBody"]["content"]
        for kind in ("multipart/form-data", "application/json"):
            assert set(content[kind]["schema"]["properties"]) == set(EditRequest.model_fields)
            described = content[kind]["schema"]["properties"].values()
            assert all(field.get("description") for field in described)
        assert content["multipart/form-data"]["schema"]["properties"]["mask"]["format"] == "binary"
        statuses = {"200", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503"}
        assert statuses <= set(edit["responses"])
        assert "image/png" in edit["responses"]["200"]["content"]
        example = content["application/json"]["example"]
        assert (await gateway.client.post("/v1/edit", json=example)).status_code == 200

    run(tmp_path, case)
