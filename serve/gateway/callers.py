"""Who sends an HTTP request: its key, and the address that failures are counted for."""

from collections.abc import Sequence

from starlette.requests import Request

from serve.gateway.access import secret_from
from serve.gateway.attempts import Network, caller_address
from serve.gateway.records import record_of
from serve.gateway.service import EditService, Principal


class Callers:
    """Authenticates requests.

    Args:
        trusted_proxies: networks whose X-Forwarded-For is believed.
    """

    def __init__(self, service: EditService, trusted_proxies: Sequence[Network]) -> None:
        self._service = service
        self._trusted_proxies = trusted_proxies

    def authenticate(self, request: Request) -> Principal:
        """Return whose key a request brings, and note it; raises RequestError 401 or 429."""
        address = caller_address(
            request.client.host if request.client else None,
            ",".join(request.headers.getlist("x-forwarded-for")),
            self._trusted_proxies,
        )
        principal = self._service.authenticate(secret_from(request.headers), address=address)
        record_of(request).key_id = principal.key_id
        return principal
