"""One backend: a TorchServe, the control server of its worker, and what is known of both."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from serve.gateway.routes import BackendRoute, Channel

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 2.0
_READY_TIMEOUT_S = 2.0
_PATIENCE = 3  # looks that may time out: a worker short of CPU time is slow to answer, not gone
_IDLE_CONNECTIONS = 16


@dataclass(frozen=True)
class BackendState:
    """A backend at one moment, as /backends and the metrics tell it."""

    url: str
    channel: Channel
    ready: bool
    in_flight: int
    bundle_digest: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Backend:
    """Polls readiness in the background until it is closed.

    Args:
        route: where it is.
        channel: which share of the requests it serves; may change.
        poll_s: between two looks at its readiness, in seconds.
        token: for the control server's /jobs, or None.
        on_change: called whenever readiness changed.

    Attributes:
        in_flight: requests that were given to it and are not answered.
        info: what /ready said last; empty before it was ready.
    """

    def __init__(
        self,
        route: BackendRoute,
        channel: Channel,
        *,
        poll_s: float,
        token: str | None,
        on_change: Callable[[], None],
    ) -> None:
        self.route = route
        self.channel = channel
        self.in_flight = 0
        self.ready = False
        self.info: dict[str, Any] = {}
        self._lost_at = -math.inf
        self._poll_s = poll_s
        self._on_change = on_change
        self._suspected = False
        self._keepers = 0
        self._let_go = asyncio.Event()
        # No time limit on reading: the caller has a deadline. No proxies: these are our own.
        timeout = httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.predictions = httpx.AsyncClient(
            base_url=route.url, timeout=timeout, limits=limits, trust_env=False
        )
        self.control = httpx.AsyncClient(
            base_url=route.control_url,
            timeout=timeout,
            limits=limits,
            headers=headers,
            trust_env=False,
        )
        self._poller = asyncio.create_task(self._poll(), name=f"poll {route.control_url}")

    @property
    def bundle_digest(self) -> str | None:
        digest = self.info.get("bundle_digest")
        return str(digest) if digest else None

    @property
    def max_batch(self) -> int:
        """Requests that its worker computes together."""
        given = self.info.get("max_batch")
        return given if isinstance(given, int) and given > 0 else 1

    def state(self) -> BackendState:
        return BackendState(
            self.route.url, self.channel, self.ready, self.in_flight, self.bundle_digest
        )

    def lost_for_s(self) -> float:
        """Return for how long it has not been ready, in seconds; infinite if it never was."""
        return 0.0 if self.ready else time.monotonic() - self._lost_at

    def suspect(self) -> None:
        """Note that a request failed here: not ready until the next look says so."""
        self._suspected = True
        self._set_ready(False)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Put off closing until the block is done."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            self._let_go.set()

    async def close(self) -> None:
        """Stop polling and, when nothing keeps them open, close the connections."""
        self._poller.cancel()
        await asyncio.gather(self._poller, return_exceptions=True)
        while self._keepers:
            self._let_go.clear()
            await self._let_go.wait()
        await self.predictions.aclose()
        await self.control.aclose()

    def _set_ready(self, ready: bool) -> None:
        if ready == self.ready:
            return
        self.ready = ready
        if not ready:
            self._lost_at = time.monotonic()
        logger.info("backend %s is %s", self.route.url, "ready" if ready else "not ready")
        self._on_change()

    async def _poll(self) -> None:
        slow = 0
        while True:
            self._suspected = False
            try:
                reply = await self.control.get("/ready", timeout=_READY_TIMEOUT_S)
                slow = 0
                # What was said before a request failed no longer counts.
                if not self._suspected:
                    self._note(reply)
            except httpx.TimeoutException:
                slow += 1
                if slow >= _PATIENCE:
                    self._set_ready(False)
            except httpx.HTTPError:
                slow = 0
                self._set_ready(False)
            await asyncio.sleep(self._poll_s)

    def _note(self, reply: httpx.Response) -> None:
        try:
            info = reply.json() if reply.status_code == 200 else None
        except json.JSONDecodeError:
            info = None
        if isinstance(info, dict):
            self.info = info
        self._set_ready(isinstance(info, dict))
