"""The gateway as a process: what it is made of, its ports, and how it drains."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
import uvloop

from serve.gateway.access import Authenticator, Limiter, NoKeys, NoLimits
from serve.gateway.app import create_app
from serve.gateway.connections import guarded_protocol
from serve.gateway.grpc_server import create_grpc_server, listen_for_grpc
from serve.gateway.internal import create_internal_app
from serve.gateway.keys import KeyStore
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.pool import BackendPool
from serve.gateway.quotas import DailyUsage, Limits
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings
from serve.gateway.tracing import create_tracing

logger = logging.getLogger(__name__)

CONTROL_TOKEN_VARIABLE = "NPE_CONTROL_TOKEN"  # noqa: S105
_OTHER_FILES = 256  # ports, log, keys, readiness, connections of gRPC and of monitoring


@dataclass(frozen=True)
class Access:
    """Who may call, and how much."""

    keys: Authenticator
    limits: Limiter


def open_to_all(settings: GatewaySettings) -> Access:
    """Return access for everybody.

    Raises:
        ValueError: the gateway would listen beyond this machine.
    """
    if not _is_loopback(settings.host):
        raise ValueError(
            f"--no-keys is for this machine alone, and the host is {settings.host}: "
            "leave it out, or listen at 127.0.0.1"
        )
    return Access(NoKeys(), NoLimits())


def with_keys(settings: GatewaySettings) -> Access:
    """Return access for those who have a key in the file of keys."""
    keys = KeyStore(settings.keys_file)
    usage = DailyUsage(settings.usage_file)
    return Access(keys, Limits(keys.find, usage, retry_after_s=settings.retry_after_s))


def run(settings: GatewaySettings, access: Access) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain.

    Raises:
        ValueError: an address cannot be used, or the system allows too few connections.
    """
    raise_file_limit(settings)
    with contextlib.ExitStack() as stack:
        public = stack.enter_context(listen(settings.host, settings.port))
        internal = stack.enter_context(listen(settings.internal_host, settings.internal_port))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, access, public=public, internal=internal))


async def _serve(
    settings: GatewaySettings, access: Access, *, public: socket.socket, internal: socket.socket
) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    metrics = GatewayMetrics()
    tracing = create_tracing()
    token = os.environ.get(CONTROL_TOKEN_VARIABLE) or None
    async with (
        BackendPool(settings, metrics, token=token) as pool,
        EditService(
            settings, pool, metrics, keys=access.keys, limits=access.limits, tracing=tracing
        ) as service,
    ):
        face = public_server(settings, service)
        inside = _Server(_config(create_internal_app(pool, metrics)))
        addresses = {"public": _address(public), "internal": _address(internal)}
        rpc = None
        if settings.grpc_port is not None:
            rpc = create_grpc_server(settings, service)
            port = listen_for_grpc(rpc, settings.host, settings.grpc_port)
            addresses["grpc"] = f"{settings.host}:{port}"
            await rpc.start()
        serving = [
            asyncio.create_task(face.serve(sockets=[public])),
            asyncio.create_task(inside.serve(sockets=[internal])),
        ]
        logger.info("listening", extra={"fields": addresses})
        await _until(stopping, serving)
        service.draining = True
        logger.info("draining")
        await _pause(stopping, settings.drain_delay_s)
        face.should_exit = True
        if rpc is not None:
            await rpc.stop(settings.drain_timeout_s)
        await serving[0]
        inside.should_exit = True
        await serving[1]
    tracing.close()
    logger.info("stopped")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process, which has two servers."""
        yield


def public_server(settings: GatewaySettings, service: EditService) -> uvicorn.Server:
    """Return the server that faces the network; ``serve(sockets=[...])`` starts it."""
    return _Server(
        _config(
            create_app(settings, service),
            http=guarded_protocol(settings, service.metrics.refusals),
            timeout_keep_alive=max(1, round(settings.keep_alive_s)),
            timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
        )
    )


def _config(app: Any, **options: Any) -> uvicorn.Config:
    fixed: dict[str, Any] = {
        "lifespan": "off",
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # client addresses are not used
    }
    return uvicorn.Config(app, **{"timeout_graceful_shutdown": 5, **fixed, **options})


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    """Return after a time, or when asked to stop once more."""
    stopping.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def _until(stopping: asyncio.Event, serving: list[asyncio.Task[None]]) -> None:
    """Return when asked to stop; a server that ends by itself raises what ended it."""
    asked = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait([asked, *serving], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in done - {asked}:
        task.result()


def _address(listening: socket.socket) -> str:
    return "{}:{}".format(*listening.getsockname()[:2])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises ValueError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
        # Connections inherit it. Heads and bodies are written one after the other: without it the
        # body may wait 40 ms for the head's acknowledgment.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise ValueError(
            f"port {port} of {host} cannot be used ({error.strerror}): "
            "stop what listens there, or choose another"
        ) from None


def raise_file_limit(settings: GatewaySettings) -> None:
    """Have the system allow as many connections as the settings do.

    Raises:
        ValueError: it allows fewer.
    """
    # A request has two connections to its backend: for its answer and for its progress.
    needed = settings.max_connections + 2 * settings.max_in_flight + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"max_connections {settings.max_connections} and max_in_flight "
            f"{settings.max_in_flight} need {needed} open files, and the system allows {hard}: "
            "lower them, or raise the limit (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
