"""Connections over real sockets: slow ones are cut, early answers arrive, strangers are refused."""

import asyncio
import base64
import contextlib
import json
import socket
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.gateway import uploads
from serve.gateway.access import NoLimits, Principal
from serve.gateway.kserve_tensors import MODEL
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import FILES, SmallGateway, small_gateway, until

Case = Callable[[SmallGateway, SmallBackend], Awaitable[None]]


def run(folder: Path, case: Case, **options: Any) -> None:
    async def with_gateway() -> None:
        with SmallBackend() as backend:
            async with small_gateway(folder, backend, listen=True, **options) as gateway:
                await case(gateway, backend)

    asyncio.run(with_gateway())


async def connect(gateway: SmallGateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(gateway.url)
    return await asyncio.open_connection(url.host, url.port)


async def answer_to(gateway: SmallGateway, sent: bytes) -> bytes:
    """Send bytes and nothing more; return what comes until the connection is closed."""
    reader, writer = await connect(gateway)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/edit HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-"])
def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path, sent: bytes) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        assert await answer_to(gateway, sent) == b""
        assert gateway.count("refusals", reason="slow_head") == 1
        assert (await gateway.edit()).status_code == 200

    run(tmp_path, case, head_timeout_s=0.1)


def test_a_second_head_is_waited_for_no_longer(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        answer = await answer_to(gateway, request + request[:-3])
        assert answer.count(b"200 OK") == 1
        # What the first request left idle, the keep-alive time ends.
        assert (await answer_to(gateway, request)).count(b"200 OK") == 1

    run(tmp_path, case, head_timeout_s=0.1, keep_alive_s=1.0)


def test_slow_connections_do_not_keep_others_waiting(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        head = b"POST /v1/edit HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        slow = [await connect(gateway) for _ in range(200)]
        for number, (_, writer) in enumerate(slow):
            writer.write(head if number % 2 else head + b"Content-Length: 9000\r\n\r\n{")
        for _ in range(20):
            assert (await gateway.edit()).status_code == 200
        endings = await asyncio.gather(*(reader.read() for reader, _ in slow))
        # Those without a whole head are cut without a word, the others are told why.
        assert set(endings[1::2]) == {b""}
        assert any(b"408 Request Timeout" in ending for ending in endings[::2])
        for _, writer in slow:
            writer.close()

    run(tmp_path, case, head_timeout_s=0.5, rate_grace_s=0.5, body_timeout_s=0.5)


def test_a_steady_sender_is_not_cut(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        request = httpx.Request("POST", f"{gateway.url}/v1/edit", files=FILES)
        data = request.read()

        async def in_pieces() -> Any:
            for start in range(0, len(data), 50):
                await asyncio.sleep(0.02)
                yield data[start : start + 50]

        headers = {"content-type": request.headers["content-type"]}
        reply = await gateway.client.post("/v1/edit", content=in_pieces(), headers=headers)
        assert reply.status_code == 200

    # 600 bytes at 2,500 bytes/s take longer than the grace; at this rate they may.
    run(tmp_path, case, rate_grace_s=0.15, min_bytes_per_s=400)


def test_a_client_that_does_not_read_is_cut(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        large = FILES["photo"] + b"\0" * 2**23
        request = httpx.Request("POST", f"{gateway.url}/v1/edit", files={**FILES, "photo": large})
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        _, writer = await connect(gateway)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(f"POST /v1/edit HTTP/1.1\r\n{head}\r\n".encode() + body)
        await until(lambda: gateway.count("refusals", reason="slow_reader") == 1)
        writer.close()

    run(tmp_path, case, rate_grace_s=0.3, min_bytes_per_s=2**30)


def test_a_long_head_is_refused(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        answer = await answer_to(gateway, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 ")
        assert json.loads(body)["remedy"]

    run(tmp_path, case)


def test_what_is_not_http_is_refused_with_a_problem_document(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        answer = await answer_to(gateway, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
        assert b"X-NPE-Request-Id: " in answer

    run(tmp_path, case)


def test_there_are_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        held = [await connect(gateway) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert (await answer_to(gateway, b"")).startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(5):
            while (await gateway.client.get("/healthz")).status_code != 200:
                await asyncio.sleep(0.01)

    run(tmp_path, case, max_connections=3, head_timeout_s=5.0)


def test_a_refusal_reaches_a_client_that_is_still_sending(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        for _ in range(5):
            reply = await gateway.client.post("/v1/edit", files={"photo": b"x" * 2**23})
            assert reply.status_code == 413
            assert reply.headers["connection"] == "close"
        small = await gateway.client.post(
            "/v1/nothing", content=b"x" * 100_000, headers={"content-type": "text/plain"}
        )
        assert small.status_code == 404
        assert "connection" not in small.headers

    run(tmp_path, case, max_request_bytes=2**20)


def test_a_client_that_leaves_cancels_its_request(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        waiting = asyncio.create_task(gateway.edit())
        await until(backend.arrived.is_set)
        waiting.cancel()
        await until(backend.was_canceled.is_set)
        assert backend.canceled == [backend.headers[0]["x-npe-request-id"]]
        await until(lambda: gateway.pool.states()[0].in_flight == 0)
        await until(
            lambda: gateway.count("requests", operation="edit", status="499", channel="") == 1
        )

    run(tmp_path, case)


def test_ten_times_too_many_requests_are_refused_while_the_rest_is_answered(
    tmp_path: Path,
) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.plan.extend(["hold"] * 4)
        held = [asyncio.create_task(gateway.edit()) for _ in range(4)]
        await until(lambda: gateway.pool.states()[0].in_flight == 4)
        refused = await asyncio.gather(*(gateway.edit() for _ in range(36)))
        # None waited for those that are held.
        assert {reply.status_code for reply in refused} == {503}
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert gateway.count("upload_bytes") < 5 * 2000
        backend.release.set()
        assert {reply.status_code for reply in await asyncio.gather(*held)} == {200}
        assert (await gateway.edit()).status_code == 200

    run(tmp_path, case, batches_in_flight=1)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST /v1/edit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


def test_a_body_behind_an_upgrade_is_no_request(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        hidden = HEALTH + b"\r\n"
        for protocol in (b"foo", b"h2c", b"websocket"):
            reader, writer = await connect(gateway)
            upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
            length = f"Content-Length: {len(hidden)}\r\n\r\n".encode()
            writer.write(HEALTH + upgrade + length)
            answer = await reader.readuntil(b"\r\n\r\n")
            # A closed connection may refuse it.
            with contextlib.suppress(ConnectionError):
                writer.write(hidden)
                answer += await reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"HTTP/1.1 200 " not in answer
            writer.close()
        assert gateway.count("refusals", reason="upgrade") == 3

    run(tmp_path, case)


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (CHUNKED, b"X: " + b"x" * 997 + b"\r\n"),
        (CHUNKED + b"X: ", b"x" * 1000),
        (b"", b"\r\n" * 500),
        (b"POST /v1/edit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"x" * 1000),
    ],
)
def test_what_has_no_end_is_not_read_to_the_end(tmp_path: Path, start: bytes, more: bytes) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        _, writer = await connect(gateway)
        writer.write(start)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 30 * 2**20:
                writer.write(more * 100)
                await writer.drain()
                sent += len(more) * 100
        assert sent < 20 * 2**20  # most of it in the sockets' buffers
        assert gateway.count("refusals", reason="long_head") == 1
        writer.close()

    run(tmp_path, case)


def test_a_whole_head_may_be_no_longer(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        line = b"X: " + b"x" * 995 + b"\r\n"
        long = HEALTH + line * 40 + b"\r\n"
        assert (await answer_to(gateway, long)).startswith(b"HTTP/1.1 431 ")
        close = b"Connection: close\r\n\r\n"
        answer = await answer_to(gateway, HEALTH + line * 30 + close)
        assert answer.startswith(b"HTTP/1.1 200 ")
        # Nor behind a request that is being answered.
        backend.plan.append("hold")
        _, writer = await connect(gateway)
        writer.write(edit_in_bytes(gateway) + HEALTH + line * 400)
        await until(lambda: gateway.count("refusals", reason="long_head") == 2)
        writer.close()

    run(tmp_path, case)


def test_bodies_in_tiny_chunks_are_no_long_head(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        request = httpx.Request("POST", f"{gateway.url}/v1/edit", files=FILES)
        head = (
            "POST /v1/edit HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked"
            f"\r\nContent-Type: {request.headers['content-type']}\r\n\r\n"
        )
        padding = b"x" * 10_000  # a form may begin with what is no part
        pieces = padding + b"\r\n" + request.read()
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in pieces)
        sent = head.encode() + chunks + b"0\r\nX-Sum: 1\r\n\r\n"
        assert b" 431 " not in (await answer_to(gateway, sent))[:20]
        assert gateway.count("upload_bytes") == len(pieces)

    run(tmp_path, case)


def edit_in_bytes(gateway: SmallGateway, **options: Any) -> bytes:
    request = httpx.Request("POST", f"{gateway.url}/v1/edit", **{"files": FILES, **options})
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/edit HTTP/1.1\r\n{head}\r\n".encode() + body


@pytest.mark.parametrize("size", [2**16 - 2000, 2**23])
def test_a_closed_connection_is_not_held_by_what_nobody_reads(tmp_path: Path, size: int) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        url = httpx.URL(gateway.url)
        with socket.socket() as stuck:
            # So little fits into the sockets that the rest waits in the gateway.
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stuck.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(stuck, (url.host, url.port))
            photo = FILES["photo"] + b"\0" * size
            sent = edit_in_bytes(
                gateway, files={**FILES, "photo": photo}, headers={"connection": "close"}
            )
            await loop.sock_sendall(stuck, sent)
            await until(lambda: gateway.count("refusals", reason="slow_reader") == 1)

    run(tmp_path, case, rate_grace_s=0.2, send_buffer=4096)


def test_a_request_counts_until_its_answer_is_taken(tmp_path: Path) -> None:
    counted: list[Principal] = []

    class Counting(NoLimits):
        @contextlib.contextmanager
        def admit(self, principal: Principal) -> Iterator[None]:
            counted.append(principal)
            yield
            counted.remove(principal)

    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        url = httpx.URL(gateway.url)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, (url.host, url.port))
            photo = FILES["photo"] + b"\0" * 2**20
            await loop.sock_sendall(slow, edit_in_bytes(gateway, files={**FILES, "photo": photo}))
            answer = b""
            while len(answer) < 2**13:
                answer += await loop.sock_recv(slow, 2**12)
            assert len(counted) == 1
            while len(answer) < len(photo):
                answer += await loop.sock_recv(slow, 2**16)
            await until(lambda: not counted)

    run(tmp_path, case, limits=Counting(), send_buffer=4096)


def test_a_body_is_forgotten_once_it_is_parsed(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        files = {**FILES, "photo": FILES["photo"] + bytes(2**22)}
        tensors = [
            {
                "name": name,
                "shape": [1],
                "datatype": "BYTES",
                "data": [base64.b64encode(data).decode()],
            }
            for name, data in files.items()
        ]
        asked: list[tuple[str, dict[str, Any]]] = [
            ("/v1/edit", {"files": files}),
            (f"/v2/models/{MODEL}/infer", {"json": {"inputs": tensors}}),
        ]
        for path, body in asked:
            backend.plan.append("hold")
            for event in (backend.arrived, backend.release):
                event.clear()
            tracemalloc.start()
            try:
                waiting = asyncio.create_task(gateway.client.post(path, **body))
                await until(backend.arrived.is_set)
                traces = tracemalloc.take_snapshot()
            finally:
                tracemalloc.stop()
            read = traces.filter_traces([tracemalloc.Filter(True, uploads.__file__)])
            assert sum(trace.size for trace in read.traces) < 2**20
            backend.release.set()
            assert (await waiting).status_code == 200

    run(tmp_path, case)


def test_no_path_is_redirected_to_where_the_client_says(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        headers = {"host": "elsewhere.example"}
        for client, path in ((gateway.client, "/healthz/"), (gateway.internal, "/metrics/")):
            reply = await client.get(path, headers=headers)
            assert reply.status_code == 404
            assert "location" not in reply.headers

    run(tmp_path, case)


def test_a_client_that_leaves_behind_a_second_request_cancels_the_first(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        _, writer = await connect(gateway)
        writer.write(edit_in_bytes(gateway))
        await until(backend.arrived.is_set)
        writer.write((HEALTH + b"\r\n") * 2)
        await writer.drain()
        writer.close()
        await until(backend.was_canceled.is_set)
        assert backend.canceled == [backend.headers[0]["x-npe-request-id"]]

    run(tmp_path, case)


def test_requests_do_not_queue_on_a_connection_without_end(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        backend.plan.append("hold")
        _, writer = await connect(gateway)
        writer.write(edit_in_bytes(gateway) + (HEALTH + b"\r\n") * 100)
        await until(lambda: gateway.count("refusals", reason="pipelined") == 1)
        writer.close()

    run(tmp_path, case)
