"""The one seam behind REST, server-sent events, KServe and gRPC: a request in, a reply out."""

from collections.abc import Awaitable, Callable
from typing import Any

from neural_photo_editor.api.envelope import Reply
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import Request
from serve.gateway.access import ANONYMOUS, Authenticator, Limiter, NoKeys, NoLimits, Principal

__all__ = ["ANONYMOUS", "EditService", "OnProgress", "Principal"]

OnProgress = Callable[[dict[str, Any]], Awaitable[None]]


class EditService:
    """Admission, backends, retries, deadline and cancellation; knows nothing of HTTP servers."""

    def __init__(self, *, keys: Authenticator | None = None, limits: Limiter | None = None) -> None:
        self.keys: Authenticator = keys or NoKeys()
        self.limits: Limiter = limits or NoLimits()

    def authenticate(self, secret: str | None) -> Principal:
        """Return whose key this is; raises RequestError 401."""
        return self.keys.authenticate(secret)

    def admit(self, principal: Principal, operation: str, *, bytes: int) -> None:
        """Check, before anything large is read or decoded, that a request may be sent.

        Every interface calls this once a request, before :meth:`submit`.

        Raises:
            RequestError: 403 not allowed, 503 no backend or no room, 429 beyond the key's limits.
        """
        raise NotImplementedError

    async def submit(
        self,
        request: Request,
        *,
        principal: Principal,
        request_id: str,
        on_progress: OnProgress | None = None,
    ) -> Reply:
        """Have a backend answer a request.

        Canceling the awaiting task cancels the job on the worker.

        Args:
            request: its images' headers have been checked.
            request_id: 32 hexadecimal digits, new for each request.
            on_progress: awaited for each line of the worker's events (see the control server).

        Returns:
            The worker's answer; its status is 200.

        Raises:
            RequestError: whatever else the worker answered, and 503 (with ``retry_after_s``)
                without room, 504 past the deadline.
        """
        raise RequestError(503, "no backend yet", field=None, remedy="try again")
