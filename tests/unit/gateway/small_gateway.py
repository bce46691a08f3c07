"""The gateway's application over small backends, called in-process or over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from neural_photo_editor.api.codec import encode_png
from serve.gateway.access import Authenticator, Limiter
from serve.gateway.addresses import Resolve, addresses_of
from serve.gateway.app import create_app
from serve.gateway.internal import create_internal_app
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.pool import BackendPool
from serve.gateway.routes import Canary, Routes
from serve.gateway.server import listen as listen_at
from serve.gateway.server import public_server
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings
from serve.gateway.tracing import Tracing
from tests.unit.gateway.small_backend import SmallBackend

PHOTO = encode_png(np.full((64, 64, 3), 99, dtype=np.uint8))
MASK = encode_png(np.full((64, 64), 255, dtype=np.uint8))
FILES = {"photo": PHOTO, "mask": MASK}

# Fast enough for tests; each test says what else it needs.
QUICK = {"backend_poll_s": 0.02, "routes_poll_s": 0.02, "recovery_s": 5.0, "drain_delay_s": 0.0}


@dataclass
class SmallGateway:
    client: httpx.AsyncClient
    internal: httpx.AsyncClient
    service: EditService
    pool: BackendPool
    metrics: GatewayMetrics
    routes_file: Path
    url: str = ""

    async def edit(self, **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/edit", data=fields, files=FILES)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"npe_gateway_{name}_total", labels) or 0.0


def write_routes(
    file: Path,
    backends: Sequence[SmallBackend],
    canary: Sequence[SmallBackend] = (),
    weight: float = 0.5,
) -> None:
    beside = Canary(weight=weight, backends=tuple(b.route for b in canary)) if canary else None
    routes = Routes(production=tuple(b.route for b in backends), canary=beside)
    new = file.with_suffix(".new")
    new.write_text(routes.model_dump_json())
    new.rename(file)


@asynccontextmanager
async def small_gateway(
    folder: Path,
    *backends: SmallBackend,
    canary: Sequence[SmallBackend] = (),
    weight: float = 0.5,
    keys: Authenticator | None = None,
    limits: Limiter | None = None,
    tracing: Tracing | None = None,
    listen: bool = False,
    send_buffer: int | None = None,
    resolve: Resolve = addresses_of,
    **options: Any,
) -> AsyncIterator[SmallGateway]:
    """Start a gateway whose backends have been found ready.

    Args:
        send_buffer: bytes of an answer that the sockets of a listening gateway take at once.
    """
    routes_file = folder / "routes.json"
    write_routes(routes_file, backends, canary, weight)
    settings = GatewaySettings(**{**QUICK, "routes_file": routes_file, **options})
    metrics = GatewayMetrics()
    async with (
        BackendPool(settings, metrics, resolve=resolve) as pool,
        EditService(settings, pool, metrics, keys=keys, limits=limits, tracing=tracing) as service,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(create_internal_app(pool, metrics)), base_url="http://in"
        ) as internal,
    ):
        await until(lambda: all(state.ready for state in pool.states() if ready(state.url)))
        async with _client(settings, service, listen, send_buffer) as (client, url):
            yield SmallGateway(client, internal, service, pool, metrics, routes_file, url)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def _client(
    settings: GatewaySettings, service: EditService, listen: bool, send_buffer: int | None
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    if not listen:
        transport = httpx.ASGITransport(create_app(settings, service))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client, ""
        return
    with listen_at("127.0.0.1", 0) as listening:
        if send_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        url = "http://127.0.0.1:{1}".format(*listening.getsockname())
        server = public_server(settings, service)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await until(lambda: server.started)
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield client, url
        finally:
            server.should_exit = True
            await serving


async def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for what other tasks and threads do."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)
