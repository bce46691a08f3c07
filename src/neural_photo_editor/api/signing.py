"""Ed25519 keys (RFC 8032) that sign receipts; keys are 32 bytes, written in standard base64.

The secret key comes from the environment and from nowhere else. Needs the package cryptography.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_VARIABLE = "NPE_RECEIPT_KEY"
KEY_BYTES = 32


class SigningKey:
    """A secret key; ``public_key`` (32 bytes) and ``key_id`` may be told to anyone."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "SigningKey | None":
        """Return the key in NPE_RECEIPT_KEY, or None where the variable is absent or empty.

        Raises:
            ValueError: the variable holds something else; what it holds is not told.
        """
        text = environment.get(KEY_VARIABLE, "")
        if not text.strip():
            return None
        try:
            return cls(key_from_text(text))
        except ValueError:
            raise ValueError(
                f"{KEY_VARIABLE} is not a key, 32 bytes in base64: make one with "
                "'npe receipt-key new FILE'"
            ) from None

    def sign(self, data: bytes) -> bytes:
        """Return the signature, 64 bytes; equal data give equal signatures."""
        return self._key.sign(data)


def public_key_info(environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """Return what everybody may know of this process's key, or None without one.

    Returns:
        ``key_id`` and ``public_key`` (base64), ready for a JSON document.

    Raises:
        ValueError: as :meth:`SigningKey.from_environment`.
    """
    key = SigningKey.from_environment(environment)
    if key is None:
        return None
    return {"key_id": key.key_id, "public_key": key_to_text(key.public_key)}


def is_signed_by(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Say whether a signature of these data is one of the key's."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_id_of(public_key: bytes) -> str:
    """Return a key's short name: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def key_to_text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")


def key_from_text(text: str) -> bytes:
    """Read a key's base64; raises ValueError unless that is exactly 32 bytes."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"not a key: expected {KEY_BYTES} bytes in standard base64")
    return key
