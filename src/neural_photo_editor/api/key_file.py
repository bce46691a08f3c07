"""API keys at rest: their text, their digests and the JSON file that holds them.

A key reads ``npe_ID_SECRET``. The file keeps the SHA-256 of that text: who reads the file can send
nothing with it. One round of a fast, unsalted hash is enough because the secret is 256 random bits;
slow and salted hashes are for passwords, which can be guessed.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

DEFAULT_KEYS_FILE = Path("outputs/serve/keys.json")

Operation = Literal["edit", "segment", "upscale"]
OPERATIONS: tuple[Operation, ...] = ("edit", "segment", "upscale")

KeyState = Literal["active", "expired", "revoked"]

_SECRET_BYTES = 32
_ID_BYTES = 6
_KEY_TEXT = re.compile(rf"npe_([0-9a-f]{{{2 * _ID_BYTES}}})_[0-9a-f]{{{2 * _SECRET_BYTES}}}")
_MAX_FILE_BYTES = 2**26

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=1, le=10**9)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredSecret(_Model):
    """One secret of a key, hashed.

    Attributes:
        sha256: of the key's whole text, in hexadecimal.
        expires: when the secret stops working because another replaced it, or None.
    """

    sha256: _Digest
    expires: AwareDatetime | None = None


class ApiKey(_Model):
    """What is known of a key. Limits that are None do not limit.

    Attributes:
        id: the part of the key's text that is no secret.
        name: who it is for.
        allows: the operations it may ask for.
        requests_per_minute: on average; refilled steadily.
        burst: requests that may come at once.
        requests_per_day: from midnight to midnight, UTC.
        max_in_flight: requests that are being answered at one time.
        secrets: the newest first; a second one works until the grace period of a rotation ends.
    """

    id: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * _ID_BYTES}}}$")]
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
    created: AwareDatetime
    expires: AwareDatetime | None
    revoked: AwareDatetime | None = None
    allows: tuple[Operation, ...]
    requests_per_minute: _Count | None
    burst: _Count
    requests_per_day: _Count | None
    max_in_flight: _Count | None
    secrets: Annotated[tuple[StoredSecret, ...], Field(min_length=1, max_length=2)]

    def state(self, now: datetime) -> KeyState:
        """Return whether the key works at a moment."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"

    def secret_of(self, text: str) -> StoredSecret | None:
        """Return the secret that a key's text holds, in the same time whether it is one or not."""
        digest = digest_of(text)
        found = None
        for secret in self.secrets:
            if hmac.compare_digest(digest, secret.sha256):
                found = secret
        return found


class _KeyFile(_Model):
    version: Literal[1] = 1
    keys: tuple[ApiKey, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError("two keys have the same id")
        return self


def key_id_of(text: str) -> str | None:
    """Return the id in a key's text, or None if the text is not a key's."""
    match = _KEY_TEXT.fullmatch(text)
    return match.group(1) if match else None


def digest_of(text: str) -> str:
    """Return what is stored of a key's text."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def create_key(
    name: str,
    *,
    now: datetime,
    expires: datetime | None = None,
    allows: Sequence[Operation] = OPERATIONS,
    requests_per_minute: int | None = None,
    burst: int = 1,
    requests_per_day: int | None = None,
    max_in_flight: int | None = None,
) -> tuple[ApiKey, str]:
    """Make a key from fresh random bits; the arguments are those of :class:`ApiKey`.

    Returns:
        what to store, and the text to hand to its user, which is kept nowhere.

    Raises:
        ValueError: a value is out of range; the message names it.
    """
    key_id = secrets.token_hex(_ID_BYTES)
    text = _new_text(key_id)
    try:
        key = ApiKey(
            id=key_id,
            name=name,
            created=now,
            expires=expires,
            allows=tuple(one for one in OPERATIONS if one in allows),
            requests_per_minute=requests_per_minute,
            burst=burst,
            requests_per_day=requests_per_day,
            max_in_flight=max_in_flight,
            secrets=(StoredSecret(sha256=digest_of(text)),),
        )
    except ValidationError as error:
        raise ValueError(_explain(error)) from None
    return key, text


def rotate_key(key: ApiKey, *, now: datetime, grace: timedelta) -> tuple[ApiKey, str]:
    """Give a key a new secret; the one before works until the grace period ends.

    A still older secret, left by a rotation not long ago, stops working at once.

    Returns:
        what to store, and the text to hand to its user, which is kept nowhere.

    Raises:
        ValueError: the key is revoked or has expired.
    """
    if key.state(now) != "active":
        raise ValueError(f"key {key.id} is {key.state(now)}: create a new one")
    text = _new_text(key.id)
    old = key.secrets[0].model_copy(update={"expires": now + grace})
    return key.model_copy(update={"secrets": (StoredSecret(sha256=digest_of(text)), old)}), text


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read a file of keys.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file of keys; the message says where, and holds nothing of the file.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"the file of keys has more than {_MAX_FILE_BYTES:,} bytes")
    try:
        return _KeyFile.model_validate_json(data).keys
    except ValidationError as error:
        raise ValueError(f"the file of keys is broken: {_explain(error)}") from None


@contextmanager
def changed_keys(path: Path) -> Iterator[list[ApiKey]]:
    """Change the list of keys in a block; when it ends, the file is replaced in one step.

    The new file, readable by its owner alone, is written beside the old one and is the lock too:
    of two changes at the same time the second is refused, and none is lost.

    Raises:
        OSError, ValueError: as :func:`read_keys` does, or another change is going on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ValueError(
            f"{path} is being changed: try again; if nobody is at it, delete {written}"
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            keys = list(read_keys(path)) if path.exists() else []
            yield keys
            file.write(_KeyFile(keys=tuple(keys)).model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


def _new_text(key_id: str) -> str:
    return f"npe_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"


def _explain(error: ValidationError) -> str:
    # Nothing of the input, unknown names included: a secret may be in the wrong place.
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
    where = ".".join(str(part) for part in place) or "document"
    return f"{where}: {first['msg']}"
