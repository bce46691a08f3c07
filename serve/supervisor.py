"""Keeps one gateway and the servers behind it running, and switches versions between them."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

from neural_photo_editor.common.log import get_logger
from serve.deployment import Desired, Failures, Plan, ServerView, decide, look_up
from serve.gateway.routes import BackendRoute, Canary, Routes
from serve.gateway_process import GatewayProcess, write_routes, write_whole
from serve.managed_gateway import ManagedGateway
from serve.managed_server import ManagedServer
from serve.sources import Source

_log = get_logger(__name__)

_TICK_S = 0.25
_LEAVE_MARGIN_S = 10.0


class Supervisor:
    """Runs until asked to stop; single-threaded, one look at everything every quarter second.

    Args:
        source: tells which versions are wanted, and has them.
        gateway: not started yet.
        workdir: receives ``state.json`` and a folder for each version.
        canary_weight: share of the requests that a canary gets.
        environment: of the servers, on top of our own.
        persistent: whether production that cannot be started is tried again; otherwise, if it
            never could, ``run`` ends.
        on_ready: called once, with the bundle's digest, when requests are answered.
    """

    def __init__(
        self,
        source: Source,
        gateway: GatewayProcess,
        *,
        workdir: Path,
        canary_weight: float,
        environment: Mapping[str, str],
        persistent: bool,
        on_ready: Callable[[str], None],
    ) -> None:
        self._source = source
        self._gateway = ManagedGateway(gateway)
        self._workdir = workdir
        self._canary_weight = canary_weight
        self._environment = environment
        self._persistent = persistent
        self._on_ready: Callable[[str], None] | None = on_ready
        self._servers: dict[int, ManagedServer] = {}
        self._serving: int | None = None
        self._failed: Failures = frozenset()
        self._reasons: dict[int, str | None] = {}
        self._routes: Routes | None = None
        self._state: dict[str, Any] = {}
        self._complaint = ""

    def run(self, stopping: Event, *, hurry: Event) -> None:
        """Serve until ``stopping`` is set, then drain and stop everything.

        Args:
            stopping: set by whoever wants the end.
            hurry: set to end without waiting for requests.

        Raises:
            RuntimeError: the gateway or the only archive could not be started.
        """
        try:
            self._write_routes(Routes())
            self._gateway.launch()
            while not stopping.wait(_TICK_S):
                self._tick_whatever_fails()
            _log.info("[deploy] stopping: the gateway answers what it has")
            self._gateway.process.drain()
            until = time.monotonic() + self._gateway.process.drain_limit_s
            while self._gateway.process.is_running() and time.monotonic() < until:
                if hurry.wait(_TICK_S):
                    break
        finally:
            with ExitStack() as stack:  # Each is stopped, whatever the others do.
                stack.callback(self._write_state, {"phase": "stopped"})
                for server in self._servers.values():
                    stack.callback(server.wait_until_stopped)
                for server in self._servers.values():
                    stack.callback(server.stop)
                stack.callback(self._gateway.process.kill)

    def _tick_whatever_fails(self) -> None:
        """Go on where a file cannot be written: what is served needs none."""
        complaint = ""
        try:
            self._tick()
        except OSError as error:
            complaint = f"{error}"
        if complaint and complaint != self._complaint:
            _log.error("[deploy] %s", complaint)
        self._complaint = complaint

    def _tick(self) -> None:
        listed = self._gateway.tend()
        for server in [*self._servers.values()]:
            server.tend()
            if server.stopped:  # Only now may the same version be started again.
                del self._servers[server.version]
        desired = self._source.desired()
        plan = decide(desired, self._views(listed), serving=self._serving, failed=self._failed)
        self._apply(plan)
        self._tell(desired, plan, listed)
        if not self._persistent and self._serving is None:
            for server in self._servers.values():
                if server.broken:
                    raise RuntimeError(f"the archive cannot be served: {server.reason}")

    def _views(self, listed: list[dict[str, Any]] | None) -> dict[int, ServerView]:
        serving = self._servers[self._serving].route if self._serving is not None else None
        views = {}
        for version, server in self._servers.items():
            url = server.route.url if server.route else None
            # Of a gateway that does not answer nothing is known.
            known, seen = self._gateway.process.is_running(), False
            if listed is not None:
                known, seen = look_up(
                    url,
                    server.digest,
                    listed,
                    overdue=self._left_long_ago(server),
                    serving=serving.url if serving is not None else None,
                )
            views[version] = ServerView(server.phase == "ready", server.broken, known, seen)
        return views

    def _left_long_ago(self, server: ManagedServer) -> bool:
        limit_s = self._gateway.process.settings.request_timeout_s + _LEAVE_MARGIN_S
        since = server.unwanted_since
        return since is not None and time.monotonic() - since > limit_s

    def _apply(self, plan: Plan) -> None:
        for version in sorted(plan.start):
            _log.info("[deploy] starting version %d", version)
            self._servers[version] = ManagedServer(
                version,
                self._source,
                workdir=self._workdir / f"version-{version}",
                environment=self._environment,
            )
        for wish in sorted(plan.failed - self._failed):
            role, version = wish.role, wish.version
            self._reasons[version] = self._servers[version].reason
            _log.error(
                "[deploy] version %d does not become %s: %s; %s stays as it is until the alias "
                "names another version or this one once more",
                *(version, role, self._reasons[version], role),
            )
        self._write_routes(self._routes_of(plan))
        if plan.production != self._serving:
            _log.info("[deploy] production is version %s, was %s", plan.production, self._serving)
        self._serving, self._failed = plan.production, plan.failed
        for version in plan.stop:
            if self._servers[version].phase != "stopping":
                _log.info("[deploy] stopping version %d", version)
                self._servers[version].stop()
        in_use = {plan.production, plan.canary, plan.staged}
        for server in self._servers.values():
            if server.was_ready and server.version not in in_use:
                server.unwanted_since = server.unwanted_since or time.monotonic()
            else:
                server.unwanted_since = None

    def _routes_of(self, plan: Plan) -> Routes:
        canary = None
        if plan.staged is not None:
            canary = Canary(weight=0.0, backends=self._backends(plan.staged))
        elif plan.canary is not None:
            canary = Canary(weight=self._canary_weight, backends=self._backends(plan.canary))
        return Routes(production=self._backends(plan.production), canary=canary)

    def _backends(self, version: int | None) -> tuple[BackendRoute, ...]:
        route = self._servers[version].route if version is not None else None
        return (route,) if route is not None else ()

    def _write_routes(self, routes: Routes) -> None:
        if routes != self._routes:
            write_routes(self._gateway.process.settings.routes_file, routes)
            self._routes = routes

    def _tell(self, desired: Desired, plan: Plan, listed: list[dict[str, Any]] | None) -> None:
        serving = plan.production is not None and self._servers[plan.production]
        seen = any(entry["ready"] and entry["channel"] == "production" for entry in listed or ())
        if serving and seen and self._on_ready is not None and serving.digest:
            self._on_ready(serving.digest)
            self._on_ready = None
        self._write_state(
            {
                "phase": "serving" if seen else "not serving",
                "desired": {"production": desired.production, "canary": desired.canary},
                "production": plan.production,
                "canary": plan.canary,
                "staged": plan.staged,
                "canary_weight": self._canary_weight,
                "failed": [
                    {"alias": w.role, "version": w.version, "reason": self._reasons[w.version]}
                    for w in sorted(plan.failed)
                ],
                "gateway": {"url": self._gateway.process.url, "pid": self._gateway.process.pid},
                "servers": [server.to_json() for server in self._servers.values()],
            }
        )

    def _write_state(self, state: dict[str, Any]) -> None:
        if state != {key: self._state[key] for key in self._state.keys() - {"time"}}:
            self._state = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **state}
            write_whole(self._workdir / "state.json", json.dumps(self._state, indent=1) + "\n")
