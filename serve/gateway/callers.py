"""Who sends an HTTP request: the key it brings."""

from starlette.requests import Request

from serve.gateway.access import secret_from
from serve.gateway.records import record_of
from serve.gateway.service import EditService, Principal


class Callers:
    """Authenticates requests."""

    def __init__(self, service: EditService) -> None:
        self._service = service

    def authenticate(self, request: Request) -> Principal:
        """Return whose key a request brings, and note it; raises RequestError 401."""
        principal = self._service.authenticate(secret_from(request.headers))
        record_of(request).key_id = principal.key_id
        return principal
