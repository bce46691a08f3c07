"""Who sent a key: the gateway's view of the file that ``npe keys`` writes."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.key_file import ApiKey, create_key, key_id_of, read_keys
from serve.gateway.access import Principal

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


class KeyStore:
    """Reads the keys again whenever their file changes; a broken file changes nothing.

    Until a file could be read there are no keys, and nobody is let in.

    Args:
        path: the file of keys.
        clock: tells the time, for expiry.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._path = path
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._seen: tuple[int, int, int] | None = None
        self._complaint = ""
        # Stands in for a key that does not exist: its secret was never kept, so no text matches.
        self._nobody, _ = create_key("nobody", now=clock())
        self._refresh()

    def find(self, key_id: str) -> ApiKey | None:
        """Return what is known of a key, whether it works or not."""
        return self._keys.get(key_id)

    def authenticate(self, secret: str | None) -> Principal:
        """Return whose secret this is.

        Args:
            secret: a key's whole text.

        Raises:
            RequestError: 401, in the same words whether a key is missing, unknown or wrong; only
                who has the right secret learns that it is expired or revoked.
        """
        self._refresh()
        text = secret or ""
        now = self._clock()
        key = self._keys.get(key_id_of(text) or "", self._nobody)
        known = key.secret_of(text)
        if known is None:
            raise _refusal("this needs a valid API key", _HOW_TO_SEND)
        if key.state(now) != "active":
            raise _refusal(f"this API key is {key.state(now)}", "ask the operator for a new one")
        if known.expires is not None and known.expires <= now:
            raise _refusal("this API key was replaced", "send the one that replaced it")
        return Principal(key.id, frozenset(key.allows))

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_ctime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            keys = read_keys(self._path)
        except OSError as error:
            self._seen = None
            self._complain(f"the file of keys cannot be read ({error.strerror})")
        except ValueError as error:
            self._seen = seen
            self._complain(str(error))
        else:
            self._seen, self._complaint = seen, ""
            self._keys = {key.id: key for key in keys}
            logger.info("keys read: %d", len(keys))

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            logger.error("%s; the last good keys stay in force: %d", reason, len(self._keys))
        self._complaint = reason


_HOW_TO_SEND = "send one as 'Authorization: Bearer npe_...' or as 'X-API-Key: npe_...'"


def _refusal(detail: str, remedy: str) -> RequestError:
    return RequestError(401, detail, field=None, remedy=remedy)
