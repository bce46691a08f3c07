"""The gateway as a child process, and the routes file that tells it where to send requests."""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from serve.child_process import (
    CONTROL_TOKEN_VARIABLE,
    end_with_parent,
    environment_for_child,
)
from serve.gateway.routes import BackendRoute, Routes
from serve.gateway.settings import GatewaySettings
from serve.torchserve_process import TorchServeProcess

REPOSITORY = Path(__file__).resolve().parent.parent

_SECRETS = frozenset({CONTROL_TOKEN_VARIABLE})
_POLL_S = 0.05
_ANSWER_S = 2.0
_START_S = 60.0
_LOG_TAIL_LINES = 20


class GatewayProcess:
    """One gateway on this machine; a context manager.

    Args:
        settings: ports of 0 are replaced by free ones, which it keeps over restarts.
        workdir: receives the settings as a file, and the log.
        keys: whether callers need API keys.
        environment: variables on top of our own, which it gets without secrets that it has no use
            for.

    Raises:
        RuntimeError: from ``start``: it ended, or was not ready in time; says what it said.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        workdir: Path,
        keys: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        named = ("port", "internal_port", "grpc_port")
        free = {name: _free_port() for name in named if getattr(settings, name) == 0}
        self.settings = settings.model_copy(update=free)
        self.log = workdir / "gateway.log"
        self._config = workdir / "gateway.yaml"
        self._flags = () if keys else ("--no-keys",)
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._was_launched = False
        self._internal = httpx.Client(
            base_url=self.internal_url, timeout=_ANSWER_S, trust_env=False
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base address for clients."""
        return _url(self.settings.host, self.settings.port)

    @property
    def internal_url(self) -> str:
        """Base address of /metrics and /backends."""
        return _url(self.settings.internal_host, self.settings.internal_port)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> Self:
        """Start, and return when all backends of the routes file are ready.

        On failure nothing is left running.
        """
        self.launch()
        until = time.monotonic() + _START_S
        try:
            while not self._all_ready():
                if not self.is_running() or time.monotonic() > until:
                    raise RuntimeError(f"the gateway could not be started:\n{self.log_tail()}")
                time.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self) -> None:
        """Start and return at once."""
        assert not self.is_running(), "already started"
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text(yaml.safe_dump(self.settings.model_dump(mode="json")))
        command = [sys.executable, "-m", "serve.gateway", "--config", str(self._config.resolve())]
        with self.log.open("ab" if self._was_launched else "wb") as output:
            self._process = subprocess.Popen(
                [*command, *self._flags],
                cwd=REPOSITORY,
                env={**environment_for_child(_SECRETS), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for our parent, which says when to stop.
                preexec_fn=end_with_parent(),
            )
        self._was_launched = True

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def drain(self) -> None:
        """Ask it to answer what it has and to end; returns at once."""
        if self.is_running():
            assert self._process is not None
            self._process.terminate()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Drain, and return when it has ended. Safe to call twice."""
        self.drain()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.drain_limit_s)
        self.kill()

    @property
    def drain_limit_s(self) -> float:
        """How long draining can take, in seconds, with a little to spare."""
        return self.settings.drain_delay_s + self.settings.drain_timeout_s + 10.0

    def backends(self) -> list[dict[str, Any]] | None:
        """Return what /backends lists, or None while it does not answer."""
        try:
            reply = self._internal.get("/backends")
            return list(reply.json()) if reply.status_code == 200 else None
        except (httpx.HTTPError, json.JSONDecodeError):
            return None

    def _all_ready(self) -> bool:
        listed = self.backends()
        return listed is not None and all(backend["ready"] for backend in listed)

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        return "\n".join(lines[-_LOG_TAIL_LINES:])


def route_to(server: TorchServeProcess) -> BackendRoute:
    """Return where a gateway finds a server."""
    return BackendRoute(
        url=server.inference_url, control_url=server.control_url, model=server.model
    )


def write_routes(path: Path, routes: Routes) -> None:
    """Replace the routes file in one step."""
    write_whole(path, routes.model_dump_json(indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def _url(host: str, port: int) -> str:
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
