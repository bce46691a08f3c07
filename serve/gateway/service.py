"""The one seam behind REST, server-sent events, KServe and gRPC: a request in, a reply out."""

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from neural_photo_editor.api.envelope import Reply, operation_of
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, Request
from serve.gateway.access import (
    ANONYMOUS,
    Authenticator,
    Limiter,
    NoKeys,
    NoLimits,
    Principal,
    authorize,
)
from serve.gateway.backends import Backend
from serve.gateway.forwarding import (
    DEADLINE_HEADER,
    REQUEST_ID_HEADER,
    SENT_HEADER,
    EncodedForm,
    NotSentError,
    OnProgress,
    QueueFullError,
    WorkerLostError,
    cancel_job,
    encode_form,
    relayed_progress,
    send_form,
)
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.pool import BackendPool, no_room
from serve.gateway.settings import GatewaySettings
from serve.gateway.tracing import NoTracing, Tracing

__all__ = ["ANONYMOUS", "EditService", "OnProgress", "Principal"]

logger = logging.getLogger(__name__)

_WIND_UP_S = 5.0  # for canceled jobs, when the gateway ends
_CANCEL_AGAIN_S = 1.0
_SEEDS = 2**32  # as many as the worker draws from


@dataclass
class _Job:
    """A request on its way.

    Attributes:
        deadline: unix seconds.
        backend: where it is now.
        canceled: its sender left: it must not be sent again.
        attempts: how often a backend has had it.
    """

    form: EncodedForm
    request_id: str
    deadline: float
    on_progress: OnProgress | None
    backend: Backend | None = None
    canceled: bool = False
    attempts: int = 0


class EditService:
    """Admission, backends, retries, deadline and cancellation; knows nothing of HTTP servers.

    An async context manager: on leaving, canceled jobs are awaited.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        pool: BackendPool,
        metrics: GatewayMetrics,
        *,
        keys: Authenticator | None = None,
        limits: Limiter | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.pool = pool
        self.metrics = metrics
        self.tracing: Tracing = tracing or NoTracing()
        self.draining = False
        self._settings = settings
        self._keys: Authenticator = keys or NoKeys()
        self._limits: Limiter = limits or NoLimits()
        self._background: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=_WIND_UP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def authenticate(self, secret: str | None) -> Principal:
        """Return whose key this is; raises RequestError 401."""
        return self._keys.authenticate(secret)

    def admit(self, principal: Principal, operation: str) -> AbstractContextManager[None]:
        """Check, before anything large is read or decoded, that a request may be sent.

        Every interface enters this once a request, before :meth:`submit`, and leaves it when the
        answer is out: for so long the request counts as in flight.

        Raises:
            RequestError: 403 not allowed, 503 no backend or no room; on entering 429, beyond the
                key's limits.
        """
        authorize(principal, operation)
        self.pool.check_room()
        return self._limits.admit(principal)

    async def submit(
        self,
        request: Request,
        *,
        principal: Principal,
        request_id: str,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
    ) -> Reply:
        """Have a backend answer a request.

        Canceling the awaiting task cancels the job on the worker.

        Args:
            request: its images' headers have been checked.
            request_id: 32 hexadecimal digits, new for each request.
            on_progress: awaited for each line of the worker's events (see the control server).
            timeout_s: how long the sender waits, where that is less than the setting's time.

        Returns:
            The worker's answer; its status is 200, its headers name the bundle and the channel.

        Raises:
            RequestError: whatever else the worker answered, and 503 (with ``retry_after_s``)
                without room, 504 past the deadline.
        """
        authorize(principal, operation_of(request))
        longest_s = self._settings.request_timeout_s
        timeout_s = longest_s if timeout_s is None else min(timeout_s, longest_s)
        deadline = time.time() + timeout_s
        # Drawn here, once: a request that is sent again then gives the same image.
        if isinstance(request, EditRequest) and request.seed is None:
            request = request.model_copy(update={"seed": secrets.randbelow(_SEEDS)})
        form = await asyncio.to_thread(encode_form, request)
        job = _Job(form, request_id, deadline, on_progress)
        task = asyncio.create_task(self._run(job, timeout_s), name=f"job {request_id}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._abandon(job, task, principal)
            raise

    def _abandon(self, job: _Job, task: asyncio.Task[Reply], principal: Principal) -> None:
        """Cancel a job; it keeps its place, and counts, until its backend has let go of it."""
        if task.done():
            return
        self.metrics.canceled.inc()
        job.canceled = True

        async def wind_up() -> None:
            with self._limits.in_flight(principal):
                # A worker that starts again has forgotten what was canceled.
                while not task.done():
                    if job.backend is not None:
                        await cancel_job(job.backend, job.request_id)
                    await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)
                await asyncio.gather(task, return_exceptions=True)

        self._in_background(wind_up())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _run(self, job: _Job, timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run_until_answered(job)
        except TimeoutError:
            raise RequestError(
                504,
                f"the request was not answered within {timeout_s:g} s",
                field=None,
                remedy="send it again later, or ask for fewer steps or variations",
            ) from None

    async def _run_until_answered(self, job: _Job) -> Reply:
        admitted = False
        while True:
            backend = self.pool.acquire(admitted=admitted)
            admitted = True
            try:
                if backend.ready:
                    reply = await self._attempt(job, backend)
                    if reply is not None:
                        return reply
                else:
                    with self.tracing.span("wait"):
                        await self.pool.wait_for_change()
            finally:
                self.pool.release(backend)
            if job.canceled:
                raise RequestError(409, "the sender left", field=None, remedy="send it again")

    async def _attempt(self, job: _Job, backend: Backend) -> Reply | None:
        """Return a backend's answer, or None when the request must be sent again."""
        job.backend = backend
        job.attempts += 1
        headers = {
            REQUEST_ID_HEADER: job.request_id,
            DEADLINE_HEADER: f"{job.deadline:.6f}",
            SENT_HEADER: f"{time.time():.6f}",
        }
        try:
            with self.tracing.span("backend"):
                traceparent = self.tracing.traceparent()
                if traceparent is not None:
                    headers["traceparent"] = traceparent
                async with relayed_progress(backend, job.request_id, job.on_progress):
                    return await send_form(backend, job.form, headers)
        except asyncio.CancelledError:  # past the deadline
            self._in_background(cancel_job(backend, job.request_id))
            raise
        except NotSentError:
            job.attempts -= 1
            self._note_failure(backend, "not_sent")
        except QueueFullError:
            self.metrics.refusals.labels("queue_full").inc()
            raise no_room(self._settings.retry_after_s) from None
        except WorkerLostError as error:
            logger.warning("a worker was lost (%s), attempt %d", error, job.attempts)
            self._note_failure(backend, "worker_lost")
            if job.attempts >= self._settings.max_attempts:
                raise _given_up(job.attempts) from None
        return None

    def _note_failure(self, backend: Backend, reason: str) -> None:
        self.metrics.retries.labels(reason).inc()
        backend.suspect()


def _given_up(attempts: int) -> RequestError:
    return RequestError(
        500,
        f"the worker died {attempts} times while it had this request",
        field=None,
        remedy="send it again; if it fails again, report it with the server's log",
    )
