"""The routes file: which backends serve production and which the canary."""

import logging
from pathlib import Path
from typing import Annotated, Literal, Self

import httpx
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

logger = logging.getLogger(__name__)

Channel = Literal["production", "canary"]


def _is_url(text: str) -> str:
    try:
        port = httpx.URL(text).port
    except httpx.InvalidURL as error:
        raise ValueError(f"not a URL: {error}") from None
    if port is not None and port > 65535:
        raise ValueError("not a URL: the port is beyond 65535")
    return text


Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+$"), AfterValidator(_is_url)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackendRoute(_Model):
    """One TorchServe and the control server of its worker; equal routes are the same backend.

    With ``each_address`` it is one for every address of the host, looked up again and again.
    """

    url: Url
    control_url: Url
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "neural_photo_editor"
    each_address: bool = False

    @model_validator(mode="after")
    def _has_one_host(self) -> Self:
        urls = httpx.URL(self.url), httpx.URL(self.control_url)
        # A certificate would be the host's, not its addresses'.
        plain = all(url.scheme == "http" for url in urls)
        if self.each_address and not (plain and urls[0].host == urls[1].host):
            raise ValueError("each_address needs http and the same host in url and control_url")
        return self


class Canary(_Model):
    """Backends beside production and the share of the requests that they are sent."""

    weight: Annotated[float, Field(ge=0.0, le=1.0)]
    backends: tuple[BackendRoute, ...]


class Routes(_Model):
    production: tuple[BackendRoute, ...] = ()
    canary: Canary | None = None

    def channels(self) -> dict[BackendRoute, Channel]:
        """Return every backend with its channel; production wins where one is in both."""
        canary = self.canary.backends if self.canary is not None else ()
        found: dict[BackendRoute, Channel] = dict.fromkeys(canary, "canary")
        return found | dict.fromkeys(self.production, "production")


class RoutesFile:
    """Reads the routes again whenever the file changes; a broken file changes nothing.

    The file is written atomically by others (write beside it, then rename).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._complaint = ""

    def changed(self) -> Routes | None:
        """Return the routes if they are new since the last call, else None."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return None
            content = self._path.read_bytes()
            self._seen = seen  # Only now: a file that could not be read is read again.
            routes = Routes.model_validate_json(content, strict=False)
        except (OSError, ValidationError) as error:
            self._complain(_reason(error))
            return None
        self._complaint = ""
        return routes

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            logger.error("the routes file is %s; the last good routes stay in force", reason)
        self._complaint = reason


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, OSError):
        return f"unreadable ({error.strerror})"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    return f"broken ({where}: {first['msg']})"
