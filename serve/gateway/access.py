"""Who is calling and what they may do: the seam to keys and quotas."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.key_file import OPERATIONS


@dataclass(frozen=True)
class Principal:
    """Who sent a request.

    Attributes:
        key_id: public name of the key, ``anonymous`` without keys.
        allows: the operations it may ask for.
    """

    key_id: str
    allows: frozenset[str]


ANONYMOUS = Principal("anonymous", frozenset(OPERATIONS))


class Authenticator(Protocol):
    def authenticate(self, secret: str | None) -> Principal:
        """Return whose secret this is; raises RequestError 401."""


class Limiter(Protocol):
    def admit(self, principal: Principal) -> AbstractContextManager[None]:
        """Count one request, in flight for a block; entering it raises RequestError 429."""

    def in_flight(self, principal: Principal) -> AbstractContextManager[None]:
        """Count something as in flight for a block; never refuses."""


class NoKeys:
    """Stands in for a key store: everybody is anonymous and may do everything."""

    def authenticate(self, secret: str | None) -> Principal:  # noqa: ARG002
        return ANONYMOUS


class NoLimits:
    """Stands in for quotas: everybody may send as much as they like."""

    def admit(self, principal: Principal) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def in_flight(self, principal: Principal) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


def authorize(principal: Principal, operation: str) -> None:
    """Raise RequestError 403 unless the key may ask for this operation."""
    if operation not in principal.allows:
        allowed = ", ".join(sorted(principal.allows)) or "nothing"
        raise RequestError(
            403,
            f"this key does not allow {operation}",
            field=None,
            remedy=f"use a key that allows it; this one allows {allowed}",
        )


def secret_from(headers: Mapping[str, str]) -> str | None:
    """Return the key of ``Authorization: Bearer`` or ``X-API-Key``, names in lower case."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    return headers.get("x-api-key", "").strip() or None
