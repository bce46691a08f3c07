"""Edits as server-sent events over real sockets."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from neural_photo_editor.api.envelope import Reply, read_result
from serve.gateway import event_stream
from serve.gateway.records import begin_record
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import FILES, PHOTO, SmallGateway, small_gateway, until

Case = Callable[[SmallGateway, SmallBackend], Awaitable[None]]
ACCEPT = {"accept": "text/event-stream"}


def run(folder: Path, case: Case, **options: Any) -> None:
    async def with_gateway() -> None:
        with SmallBackend() as backend:
            async with small_gateway(folder, backend, listen=True, **options) as gateway:
                await case(gateway, backend)

    asyncio.run(with_gateway())


async def read_events(reply: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    events, name = [], ""
    async for line in reply.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            events.append((name, json.loads(line.removeprefix("data: "))))
        elif line:
            events.append(("comment", {"text": line}))
    return events


def test_previews_then_the_result(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.events = [{"step": 1, "total_steps": 2}, {"step": 2, "total_steps": 2}]
        backend.plan.append("hold")
        stream = gateway.client.stream("POST", "/v1/edit", files=FILES, headers=ACCEPT)
        async with stream as reply:
            assert reply.status_code == 200
            assert reply.headers["content-type"] == "text/event-stream"
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["x-accel-buffering"] == "no"
            assert len(reply.headers["x-npe-request-id"]) == 32
            backend.release.set()
            events = await read_events(reply)
        # The worker may be done before every preview was passed on; the result comes last.
        names = [name for name, _ in events]
        assert names[0] == "progress"
        assert names[-1] == "result"
        assert names.count("result") == 1
        assert events[0][1] == {"step": 1, "total_steps": 2}
        body = json.dumps(events[-1][1]).encode()
        result = read_result("edit", {"content-type": "application/json"}, body)
        assert result.image == PHOTO

    run(tmp_path, case)


def test_an_early_refusal_has_its_own_status(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.plan.append("refuse")
        reply = await gateway.client.post("/v1/edit", files=FILES, headers=ACCEPT)
        assert reply.status_code == 422
        assert reply.json()["detail"] == "not so"

    run(tmp_path, case)


def test_a_late_refusal_is_the_last_event(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.events = [{"step": 1}]
        backend.plan.append("hold")
        stream = gateway.client.stream("POST", "/v1/edit", files=FILES, headers=ACCEPT)
        async with stream as reply:
            assert reply.status_code == 200
            await until(backend.arrived.is_set)
            backend.canceled.append(backend.headers[0]["x-npe-request-id"])
            events = await read_events(reply)
        assert [name for name, _ in events] == ["progress", "error"]
        assert events[-1][1]["status"] == 409
        assert events[-1][1]["detail"]
        assert "retry_after_s" not in events[-1][1]
        labels = {"operation": "edit", "channel": ""}
        await until(lambda: gateway.count("requests", status="409", **labels) == 1)

    run(tmp_path, case)


def test_a_late_refusal_for_a_time_says_for_how_long(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.events = [{"step": 1}]
        backend.plan.append("hold")
        stream = gateway.client.stream("POST", "/v1/edit", files=FILES, headers=ACCEPT)
        async with stream as reply:
            backend.unheld = "queue_full"
            backend.release.set()
            events = await read_events(reply)
        assert (events[-1][1]["status"], events[-1][1]["retry_after_s"]) == (503, 2.0)

    run(tmp_path, case)


def test_a_quiet_stream_is_kept_open(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(event_stream, "_EARLY_S", 0.01)

    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        stream = gateway.client.stream("POST", "/v1/edit", files=FILES, headers=ACCEPT)
        async with stream as reply:
            lines = reply.aiter_lines()
            assert (await anext(lines)).startswith(":")
            await anext(lines)
            assert (await anext(lines)).startswith(":")
            backend.release.set()
            rest = [line async for line in lines]
        assert rest[-3] == "event: result"

    run(tmp_path, case, heartbeat_s=0.02)


def test_a_client_that_leaves_cancels_its_edit(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.events = [{"step": 1}]
        backend.plan.append("hold")
        stream = gateway.client.stream("POST", "/v1/edit", files=FILES, headers=ACCEPT)
        async with stream as reply:
            assert reply.status_code == 200
        await until(backend.was_canceled.is_set)
        await until(lambda: gateway.pool.states()[0].in_flight == 0)
        assert gateway.count("canceled") == 1
        labels = {"operation": "edit", "channel": ""}
        await until(lambda: gateway.count("requests", status="499", **labels) == 1)

    run(tmp_path, case)


def test_a_client_that_reads_slowly_misses_previews_only(tmp_path: Path) -> None:
    async def edit(on_progress: Any) -> Any:
        for step in range(1000):
            await on_progress({"step": step})
        return Reply(200, "OK", {}, b"{}")

    async def case() -> None:
        stream = event_stream.EventStream(edit, heartbeat_s=1.0)
        await stream.until_begun()
        sent: list[bytes] = []
        scope: dict[str, Any] = {"type": "http"}
        begin_record(scope)

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        async def receive() -> Any:
            await asyncio.Event().wait()

        await stream(scope, receive, send)
        assert 2 < len(sent) < 20
        assert sent[-1] == b"event: result\ndata: {}\n\n"

    asyncio.run(case())
