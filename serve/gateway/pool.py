"""All backends: kept in step with the routes file, chosen by channel and load."""

import asyncio
import contextlib
import logging
import random

from neural_photo_editor.api.errors import RequestError
from serve.gateway.addresses import AddressBook, Resolve, addresses_of
from serve.gateway.backends import Backend, BackendState
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.routes import BackendRoute, Channel, Routes, RoutesFile
from serve.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.25  # a backend stops being waited for without any event


class BackendPool:
    """Chooses a backend for each request; an async context manager.

    A request holds a place at its backend from :meth:`acquire` to :meth:`release`. A backend has
    ``max_batch`` x ``batches_in_flight`` places. One that lost its worker keeps them for
    ``recovery_s``: requests wait there until the worker is back.

    Args:
        token: for the control servers' /jobs, or None.
        resolve: looks up hosts whose every address is a backend.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: GatewayMetrics,
        *,
        token: str | None = None,
        resolve: Resolve = addresses_of,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._token = token
        self._file = RoutesFile(settings.routes_file)
        self._addresses = AddressBook(resolve)
        self._in_file = Routes()
        self._routes = Routes()  # with a backend for each address
        self._backends: list[Backend] = []
        self._leaving: list[Backend] = []
        self._changed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        metrics.watch_backends(self.states)

    async def __aenter__(self) -> "BackendPool":
        await self._read_routes()
        self._watcher = asyncio.create_task(self._watch_routes(), name="watch routes")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watcher is not None
        self._watcher.cancel()
        await asyncio.gather(self._watcher, *self._closing, return_exceptions=True)
        await asyncio.gather(*(backend.close() for backend in [*self._backends, *self._leaving]))

    def states(self) -> list[BackendState]:
        """Return every backend that is in the routes or still has requests."""
        return [backend.state() for backend in [*self._backends, *self._leaving]]

    def production(self) -> list[Backend]:
        """Return the production backends that are ready, or were and are waited for."""
        return [b for b in self._in_channel("production") if self._is_usable(b)]

    def check_room(self) -> None:
        """Raise RequestError 503 if no request could be sent now."""
        self._choose("production")

    def acquire(self, *, admitted: bool = False) -> Backend:
        """Take a place at a backend; it may have to be waited for.

        Args:
            admitted: the request had a place before: it gets one even where all are taken.

        Raises:
            RequestError: 503, no backend or no place.
        """
        canary = self._routes.canary
        wants_canary = canary is not None and random.random() < canary.weight
        backend = self._choose("canary" if wants_canary else "production", admitted=admitted)
        backend.in_flight += 1
        return backend

    def release(self, backend: Backend) -> None:
        """Give a place back."""
        backend.in_flight -= 1
        if backend in self._leaving and backend.in_flight == 0:
            self._leaving.remove(backend)
            self._close_later(backend)

    async def wait_for_change(self) -> None:
        """Return when some backend's readiness changed, or after a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._changed.wait()

    def _choose(self, channel: Channel, *, admitted: bool = False) -> Backend:
        if channel == "canary":
            found = [b for b in self._in_channel("canary") if b.ready and self._has_place(b)]
            if found and self._below_limit(admitted):
                return min(found, key=_load)
        usable = self.production()
        if not usable:
            self._metrics.refusals.labels("no_backend").inc()
            raise RequestError(
                503,
                "no backend is ready",
                field=None,
                remedy="send the request again later",
                retry_after_s=self._settings.retry_after_s,
            )
        found = [b for b in usable if admitted or self._has_place(b)]
        if not found or not self._below_limit(admitted):
            self._metrics.refusals.labels("full").inc()
            raise no_room(self._settings.retry_after_s)
        return min(found, key=_load)

    def _in_channel(self, channel: Channel) -> list[Backend]:
        return [backend for backend in self._backends if backend.channel == channel]

    def _is_usable(self, backend: Backend) -> bool:
        return backend.lost_for_s() <= self._settings.recovery_s

    def _has_place(self, backend: Backend) -> bool:
        return backend.in_flight < backend.max_batch * self._settings.batches_in_flight

    def _below_limit(self, admitted: bool) -> bool:
        total = sum(backend.in_flight for backend in [*self._backends, *self._leaving])
        return admitted or total < self._settings.max_in_flight

    async def _watch_routes(self) -> None:
        while True:
            await asyncio.sleep(self._settings.routes_poll_s)
            try:
                await self._read_routes()
            except Exception:
                # Whatever it was, the next change of the file must be seen.
                logger.exception("the routes could not be read")

    async def _read_routes(self) -> None:
        changed = self._file.changed()
        self._in_file = changed or self._in_file
        routes = await self._addresses.expand(self._in_file)
        if changed is not None or routes != self._routes:
            self._apply(routes)

    def _apply(self, routes: Routes) -> None:
        wanted = routes.channels()
        known = {backend.route for backend in [*self._backends, *self._leaving]}
        # First what may fail: the old backends then stay.
        new = [
            self._open(route, channel) for route, channel in wanted.items() if route not in known
        ]
        for backend in [b for b in self._backends if b.route not in wanted]:
            self._backends.remove(backend)
            if backend.in_flight:
                self._leaving.append(backend)
            else:
                self._close_later(backend)
        for backend in [b for b in self._leaving if b.route in wanted]:
            self._leaving.remove(backend)
            self._backends.append(backend)
        self._backends += new
        for backend in self._backends:
            backend.channel = wanted[backend.route]
        self._routes = routes
        logger.info("routes read: %d backends", len(wanted))
        self._tell_change()

    def _open(self, route: BackendRoute, channel: Channel) -> Backend:
        return Backend(
            route,
            channel,
            poll_s=self._settings.backend_poll_s,
            token=self._token,
            on_change=self._tell_change,
        )

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _close_later(self, backend: Backend) -> None:
        task = asyncio.create_task(backend.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def no_room(retry_after_s: float) -> RequestError:
    """Return the refusal of a request for which there is no place."""
    return RequestError(
        503,
        "the server has no room for another request now",
        field=None,
        remedy="send it again after the time in Retry-After",
        retry_after_s=retry_after_s,
    )


def _load(backend: Backend) -> tuple[bool, int]:
    return not backend.ready, backend.in_flight
