"""Keys and signatures, against RFC 8032."""

import base64

import pytest

from neural_photo_editor.api.signing import (
    KEY_VARIABLE,
    SigningKey,
    is_signed_by,
    key_from_text,
    key_id_of,
    key_to_text,
    public_key_info,
)

# RFC 8032, 7.1, TEST 2.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signatures_are_those_of_the_standard() -> None:
    key = SigningKey(SECRET)
    assert key.public_key == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert is_signed_by(PUBLIC, SIGNATURE, b"\x72")


@pytest.mark.parametrize("byte", range(64))
def test_a_changed_signature_is_none(byte: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[byte] ^= 1
    assert not is_signed_by(PUBLIC, bytes(changed), b"\x72")


def test_other_data_other_keys_and_no_keys_do_not_pass() -> None:
    assert not is_signed_by(PUBLIC, SIGNATURE, b"\x73")
    assert not is_signed_by(SigningKey(bytes(32)).public_key, SIGNATURE, b"\x72")
    assert not is_signed_by(b"short", SIGNATURE, b"\x72")
    assert not is_signed_by(PUBLIC, b"", b"\x72")


def test_the_environment_holds_the_key() -> None:
    environment = {KEY_VARIABLE: f" {key_to_text(SECRET)}\n"}
    key = SigningKey.from_environment(environment)
    assert key is not None
    assert key.public_key == PUBLIC
    assert public_key_info(environment) == {
        "key_id": key_id_of(PUBLIC),
        "public_key": base64.b64encode(PUBLIC).decode(),
    }


@pytest.mark.parametrize("environment", [{}, {KEY_VARIABLE: ""}, {KEY_VARIABLE: " "}])
def test_no_key_is_not_an_error(environment: dict[str, str]) -> None:
    assert SigningKey.from_environment(environment) is None
    assert public_key_info(environment) is None


@pytest.mark.parametrize(
    "text", ["secret!", base64.b64encode(SECRET[:31]).decode(), SECRET.hex(), "ä" * 44]
)
def test_what_is_no_key_is_refused_and_not_told(text: str) -> None:
    with pytest.raises(ValueError, match="npe receipt-key new") as caught:
        SigningKey.from_environment({KEY_VARIABLE: text})
    assert text not in str(caught.value)
    with pytest.raises(ValueError, match="32 bytes"):
        key_from_text(text)
