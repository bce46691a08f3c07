"""An API key for the person at this machine, made at the first start and kept in a file."""

import os
from datetime import UTC, datetime
from pathlib import Path

from neural_photo_editor.api.key_file import changed_keys, create_key, key_id_of, read_keys

_NAME = "development"


def ensure_development_key(keys_file: Path) -> Path:
    """Return the file that holds a valid key's text, readable by its owner alone.

    A new key, without limits, is made where there is none, or where the one in the file was revoked
    or is not among the gateway's keys.

    Raises:
        OSError, ValueError: one of the files cannot be read or written.
    """
    path = keys_file.with_name(f"{_NAME}.key")
    if path.is_file() and _is_valid(path.read_text(encoding="ascii", errors="replace"), keys_file):
        path.chmod(0o600)
        return path
    key, text = create_key(_NAME, now=datetime.now(UTC))
    with changed_keys(keys_file) as keys:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
        keys.append(key)
    return path


def _is_valid(text: str, keys_file: Path) -> bool:
    if not keys_file.is_file():
        return False
    now = datetime.now(UTC)
    text = text.strip()
    return any(
        key.id == key_id_of(text) and key.state(now) == "active" and key.secret_of(text)
        for key in read_keys(keys_file)
    )
