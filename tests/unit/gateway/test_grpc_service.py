"""The gRPC service over small backends and real sockets."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.key_file import create_key
from neural_photo_editor.api.schema import EditRequest
from serve.gateway.access import ANONYMOUS, Principal
from serve.gateway.grpc_server import create_grpc_server, listen_for_grpc
from serve.gateway.grpc_service import SERVICE
from serve.gateway.grpc_status import code_of
from serve.gateway.protos import editor_pb2 as pb
from serve.gateway.protos import editor_pb2_grpc
from serve.gateway.quotas import DailyUsage, Limits
from serve.gateway.settings import GatewaySettings
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import MASK, PHOTO, SmallGateway, small_gateway, until

EDIT = pb.EditRequest(photo=PHOTO, mask=MASK, seed=5, strength=0.6)
PREVIEW = {
    "step": 1, "total_steps": 3, "crop": [-2, 0, 62, 64], "width": 64, "height": 64,
    "preview": base64.b64encode(b"RIFF....WEBP").decode(),
}  # fmt: skip


class Called:
    """A gateway with a gRPC port, and a channel to it."""

    def __init__(self, gateway: SmallGateway, channel: grpc.aio.Channel) -> None:
        self.gateway = gateway
        self.channel = channel
        self.stub: Any = editor_pb2_grpc.EditorStub(channel)  # type: ignore[no-untyped-call]

    async def refusal(self, call: Awaitable[Any]) -> tuple[grpc.StatusCode, dict[str, Any]]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        trailing = dict(caught.value.trailing_metadata())
        if "x-npe-problem" not in trailing:
            return caught.value.code(), {}
        assert len(trailing["x-npe-request-id"]) == 32
        problem: dict[str, Any] = json.loads(trailing["x-npe-problem"])
        assert problem["detail"] in (caught.value.details() or "")
        return caught.value.code(), {**trailing, **problem}


Case = Callable[[Called, SmallBackend], Awaitable[None]]


@asynccontextmanager
async def called(gateway: SmallGateway, **options: Any) -> AsyncIterator[Called]:
    server = create_grpc_server(GatewaySettings(**options), gateway.service)
    port = listen_for_grpc(server, "127.0.0.1", 0)
    await server.start()
    try:
        # The limit on what a client receives is its own.
        free = [("grpc.max_receive_message_length", -1)]
        free += [("grpc.http2.lookahead_bytes", 2**16), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=free) as channel:
            yield Called(gateway, channel)
    finally:
        await server.stop(None)


def run(
    folder: Path, case: Case, *, grpc_options: dict[str, Any] | None = None, **options: Any
) -> None:
    async def with_gateway() -> None:
        with SmallBackend() as backend:
            async with (
                small_gateway(folder, backend, **options) as gateway,
                called(gateway, **(grpc_options or {})) as rpc,
            ):
                await case(rpc, backend)

    asyncio.run(with_gateway())


def test_an_edit_is_that_of_http(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        call = rpc.stub.Edit(EDIT)
        response = await call
        assert list(response.images) == [PHOTO]
        over_http = await rpc.gateway.edit(seed="5", strength="0.6")
        assert over_http.content == PHOTO
        first, second = backend.received
        assert first == second == EditRequest(photo=PHOTO, mask=MASK, seed=5, strength=0.6)
        metadata = json.loads(response.metadata_json)
        assert metadata == json.loads(over_http.headers["x-npe-metadata"])
        trailing = dict(await call.trailing_metadata())
        assert trailing["x-npe-bundle"] == backend.digest
        assert trailing["x-npe-channel"] == "production"
        assert trailing["x-npe-request-id"] == backend.headers[0]["x-npe-request-id"]

    run(tmp_path, case)


def test_every_field_of_the_wire_can_be_sent(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        everything = {
            "photo": PHOTO, "regions": ["hair", "lip"], "strokes": PHOTO, "strength_map": MASK,
            "timestep": 300, "steps": 9, "resamples": 2, "sampler": "ddpm", "seed": 2**63 - 1,
            "variations": 2, "detail": "mixed", "blend": "gradient", "format": "webp",
            "receipt": True,
        }  # fmt: skip
        await rpc.stub.Edit(pb.EditRequest(**everything))
        await rpc.stub.Edit(pb.EditRequest(photo=PHOTO, mask=MASK, color="#ff0000", strength=0))
        tuples = {**everything, "regions": ("hair", "lip"), "response": "json"}
        assert backend.received == [
            EditRequest(**tuples),
            EditRequest(
                photo=PHOTO, mask=MASK, color="#ff0000", strength=0, seed=backend.received[1].seed
            ),
        ]
        sent = {field.name for field in pb.EditRequest.DESCRIPTOR.fields}
        assert sent == set(EditRequest.model_fields) - {"response"}

    run(tmp_path, case)


def test_segment_answers_with_the_label_map(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        response = await rpc.stub.Segment(pb.SegmentRequest(photo=PHOTO))
        assert response.image == PHOTO
        assert json.loads(response.metadata_json)["operation"] == "segment"

    run(tmp_path, case)


def test_a_stream_tells_of_steps_and_ends_with_the_result(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        backend.events = [PREVIEW]
        backend.plan.append("hold")
        call = rpc.stub.EditStream(EDIT)
        first = await call.read()
        expected = {**PREVIEW, "preview": base64.b64decode(PREVIEW["preview"])}
        assert first == pb.EditEvent(progress=pb.Progress(**expected))
        backend.release.set()
        last = await call.read()
        assert list(last.result.images) == [PHOTO]
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK

    run(tmp_path, case)


BAD: dict[str, tuple[pb.EditRequest, int, str | None]] = {
    "no photo": (pb.EditRequest(mask=MASK), 422, "photo"),
    "an empty mask": (pb.EditRequest(photo=PHOTO, mask=b""), 422, "mask"),
    "no mask": (pb.EditRequest(photo=PHOTO), 422, "mask"),
    "another file type": (pb.EditRequest(photo=b"GIF89a..", mask=MASK), 415, "photo"),
    "too many pixels": (
        pb.EditRequest(photo=PHOTO, mask=encode_png(np.zeros((6001, 6000), np.uint8))), 413, "mask",
    ),
    "an unknown region": (pb.EditRequest(photo=PHOTO, regions=["tail"]), 422, "regions"),
    "out of range": (pb.EditRequest(photo=PHOTO, mask=MASK, strength=2), 422, "strength"),
    "no number": (pb.EditRequest(photo=PHOTO, mask=MASK, strength=float("nan")), 422, "strength"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("method", ["Edit", "EditStream"])
def test_wrong_fields_are_named(tmp_path: Path, name: str, method: str) -> None:
    message, status, field = BAD[name]

    async def case(rpc: Called, backend: SmallBackend) -> None:
        call = getattr(rpc.stub, method)(message)
        code, problem = await rpc.refusal(call if method == "Edit" else call.read())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert (problem["status"], problem["field"]) == (status, field)
        assert backend.received == []

    run(tmp_path, case)


def raw(rpc: Called) -> Any:
    return rpc.channel.unary_unary(f"/{SERVICE}/Edit")


def test_messages_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        newer = EDIT.SerializeToString() + b"\xa2\x06\x01x"  # field 100
        for sent in (b"\xff" * 9, newer, b""):
            code, problem = await rpc.refusal(raw(rpc)(sent))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert problem["status"] == (422 if sent == b"" else 400)
        assert "100" in (await rpc.refusal(raw(rpc)(newer)))[1]["detail"]

    run(tmp_path, case)


class OneKey:
    """Knows one key, which may only segment."""

    def authenticate(self, secret: str | None) -> Principal:
        if secret != "npe_right":
            raise RequestError(401, "no", field=None, remedy="send a key")
        return Principal("k1", frozenset({"segment"}))


def test_keys_come_in_the_metadata(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        segment, photo = rpc.stub.Segment, pb.SegmentRequest(photo=PHOTO)
        wrong = ([], [("x-api-key", "npe_wrong")], [("authorization", "Basic npe_right")])
        for metadata in (*wrong, [("authorization", "Bearer npe_right")] * 2):
            code, _ = await rpc.refusal(segment(photo, metadata=metadata))
            assert code is grpc.StatusCode.UNAUTHENTICATED
        for metadata in ([("x-api-key", "npe_right")], [("authorization", "Bearer npe_right")]):
            assert (await segment(photo, metadata=metadata)).image == PHOTO
            code, problem = await rpc.refusal(rpc.stub.Edit(EDIT, metadata=metadata))
            assert (code, problem["status"]) == (grpc.StatusCode.PERMISSION_DENIED, 403)

    run(tmp_path, case, keys=OneKey())


def test_a_key_is_checked_before_the_message_is_read(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        call = rpc.channel.stream_unary(f"/{SERVICE}/Edit")()  # sends nothing
        assert (await rpc.refusal(call))[0] is grpc.StatusCode.UNAUTHENTICATED

    run(tmp_path, case, keys=OneKey())


def test_a_message_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        call = rpc.channel.stream_unary(f"/{SERVICE}/Edit")()
        code, problem = await rpc.refusal(call)
        assert (code, problem["status"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, 408)
        assert (await rpc.stub.Edit(EDIT)).images

    run(tmp_path, case, grpc_options={"body_timeout_s": 0.05, "max_upload_bytes_total": 1})


def test_calls_without_a_message_yet_count_as_in_flight(tmp_path: Path) -> None:
    key, _ = create_key("a", now=datetime.now(UTC), max_in_flight=1)
    keys = {ANONYMOUS.key_id: key.model_copy(update={"id": ANONYMOUS.key_id})}
    limits = Limits(keys.get, DailyUsage(tmp_path / "usage.sqlite"), retry_after_s=2.0)

    async def case(rpc: Called, backend: SmallBackend) -> None:
        first = rpc.channel.stream_unary(f"/{SERVICE}/Edit")()
        await until(lambda: limits._in_flight.total() == 1)
        code, problem = await rpc.refusal(rpc.stub.Edit(EDIT))
        assert (code, problem["status"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 429)
        first.cancel()
        await until(lambda: limits._in_flight.total() == 0)
        assert (await rpc.stub.Edit(EDIT)).images

    run(tmp_path, case, limits=limits)


def test_a_call_without_a_message_is_refused(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        call = rpc.channel.stream_unary(f"/{SERVICE}/Edit")()
        await call.done_writing()
        assert (await rpc.refusal(call))[1]["status"] == 400

    run(tmp_path, case)


def test_messages_have_the_limit_of_http(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        code, _ = await rpc.refusal(rpc.stub.Edit(pb.EditRequest(photo=b"\xff" * 200_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await rpc.stub.Edit(EDIT)).images

    run(tmp_path, case, grpc_options={"max_request_bytes": 100_000})


def test_a_caller_that_leaves_cancels_its_work(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        for method in ("Edit", "EditStream"):
            backend.arrived.clear()
            backend.plan.append("hold")
            call = getattr(rpc.stub, method)(EDIT)
            reading = asyncio.ensure_future(call if method == "Edit" else call.read())
            await until(backend.arrived.is_set)
            call.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            job = backend.headers[-1]["x-npe-request-id"]
            await until(lambda job=job: job in backend.canceled)

    run(tmp_path, case)


def test_a_caller_who_does_not_read_is_cut_with_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.gateway.grpc_server._CONNECTION_AGE_S", 0.3)
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    large = pb.EditRequest(photo=encode_png(noise), regions=["hair"])

    async def case(rpc: Called, backend: SmallBackend) -> None:
        call = rpc.stub.EditStream(large)
        await until(
            lambda: (
                rpc.gateway.count("requests", operation="edit", status="499", channel="production")
                == 1
            )
        )
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await call.read()
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await rpc.stub.Edit(EDIT)).images

    run(tmp_path, case, grpc_options={"body_timeout_s": 0.2, "request_timeout_s": 0.5})


def test_the_callers_deadline_is_the_workers(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        started = time.time()
        code, _ = await rpc.refusal(rpc.stub.Edit(EDIT, timeout=1.0))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert float(backend.headers[0]["x-npe-deadline"]) <= started + 1.1
        await until(backend.was_canceled.is_set)

    run(tmp_path, case)


def test_the_gateways_own_deadline_holds_without_the_callers(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        code, problem = await rpc.refusal(rpc.stub.Edit(EDIT))
        assert (code, problem["status"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, 504)

    run(tmp_path, case, request_timeout_s=0.2)


def test_a_full_server_says_when_to_come_back(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        held = asyncio.ensure_future(rpc.gateway.edit())
        await until(backend.arrived.is_set)
        code, problem = await rpc.refusal(rpc.stub.Edit(EDIT))
        assert (code, problem["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "2")
        backend.release.set()
        assert (await held).status_code == 200

    run(tmp_path, case, max_in_flight=1)


def test_refusals_of_the_worker_and_bugs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        backend.plan.append("refuse")
        code, problem = await rpc.refusal(rpc.stub.Edit(EDIT))
        assert (code, problem["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "mask")

        def fail(*_: object, **__: object) -> None:
            raise KeyError("a secret")

        monkeypatch.setattr("serve.gateway.grpc_service.read_request", fail)
        code, problem = await rpc.refusal(rpc.stub.Edit(EDIT))
        assert (code, problem["status"]) == (grpc.StatusCode.INTERNAL, 500)
        assert "secret" not in str(problem)
        assert rpc.gateway.count("requests", operation="edit", status="500", channel="") == 1

    run(tmp_path, case)


def test_every_status_has_its_code() -> None:
    expected = {
        400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
        408: "DEADLINE_EXCEEDED", 409: "CANCELLED", 413: "INVALID_ARGUMENT",
        415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 507: "INTERNAL",
    }  # fmt: skip
    errors = {status: RequestError(status, "no", field=None, remedy="mend") for status in expected}
    assert {status: code_of(error).name for status, error in errors.items()} == expected


def test_health_is_readiness(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        stub = health_pb2_grpc.HealthStub(rpc.channel)

        async def status(service: str) -> str:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

        assert [await status(name) for name in ("", SERVICE)] == ["SERVING"] * 2
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await status("other")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        rpc.gateway.service.draining = True
        assert await status("") == "NOT_SERVING"

    run(tmp_path, case)


def test_there_is_no_reflection(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        code, _ = await rpc.refusal(rpc.channel.unary_unary(path)(b""))
        assert code is grpc.StatusCode.UNIMPLEMENTED

    run(tmp_path, case)


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    async def case(rpc: Called, backend: SmallBackend) -> None:
        settings = GatewaySettings()
        first = create_grpc_server(settings, rpc.gateway.service)
        port = listen_for_grpc(first, "127.0.0.1", 0)
        await first.start()
        second = create_grpc_server(settings, rpc.gateway.service)
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1"):
            listen_for_grpc(second, "127.0.0.1", port)
        await first.stop(None)

    run(tmp_path, case)
