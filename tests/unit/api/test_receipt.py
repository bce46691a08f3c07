"""The receipt's format: what is refused, and that nothing in it can change unnoticed."""

import base64
import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_photo_editor.api.receipt import MAX_RECEIPT_BYTES, canonical_json, read_receipt
from neural_photo_editor.api.signing import is_signed_by
from neural_photo_editor.api.verification import Outcome
from tests.unit.api.signed_edits import KEY, SignedEdit, outcomes, signed_edit


@cache
def _edit() -> SignedEdit:
    return signed_edit(color="#30c060")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in children:
        if isinstance(child, dict | list) and child:
            yield from _leaves(child, (*path, name))
        else:
            yield (*path, name), child


def _others(value: Any) -> list[Any]:
    """Values near this one, of its kind and of others."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [value + 1, value - 1, float(value), str(value), True]
    if isinstance(value, float):
        return [value + 1e-9, 0.0, 1, None]
    if isinstance(value, str):
        flipped = [
            value[:index] + ("0" if value[index] != "0" else "1") + value[index + 1 :]
            for index in range(0, len(value), 7)
        ]
        return [*flipped, value + "A", value + "\n", "", None, value.upper()]
    return [0, "x", [1, 2, 3, 4], {"sha256": "0" * 64, "size_bytes": 1, "content": None}]


LEAVES = [path for path, _ in _leaves(_edit().document)]


def _replaced(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    target = changed
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return changed


def _passes(document: dict[str, Any]) -> bool:
    try:
        receipt = read_receipt(json.dumps(document).encode())
    except ValueError:
        return False
    found = outcomes(receipt, _edit().original, _edit().edited)
    return set(found.values()) == {Outcome.OK}


def test_the_receipt_as_sent_passes_in_any_layout() -> None:
    document = _edit().document
    assert _passes(document)
    assert _passes(dict(reversed(document.items())))
    assert read_receipt(json.dumps(document, indent=3).encode()).to_document() == document


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_no_value_can_change_unnoticed(path: tuple[Any, ...]) -> None:
    document = _edit().document
    value = dict(_leaves(document))[path]
    changes = [other for other in _others(value) if (type(other), other) != (type(value), value)]
    assert changes
    for other in changes:
        assert not _passes(_replaced(document, path, other)), (path, value, other)


@pytest.mark.parametrize("path", [path for path in LEAVES if isinstance(path[-1], str)])
def test_no_field_can_be_left_out(path: tuple[Any, ...]) -> None:
    document = copy.deepcopy(_edit().document)
    target = document
    for name in path[:-1]:
        target = target[name]
    del target[path[-1]]
    with pytest.raises(ValueError, match=str(path[-1])):
        read_receipt(json.dumps(document).encode())


@pytest.mark.parametrize("where", [(), ("photo",), ("mask",), ("edit",), ("environment",)])
def test_no_field_can_be_added(where: tuple[str, ...]) -> None:
    changed = _replaced(_edit().document, (*where, "note"), "checked by experts")
    with pytest.raises(ValueError, match="note"):
        read_receipt(json.dumps(changed).encode())


def test_the_signature_is_over_the_documented_bytes() -> None:
    document = dict(_edit().document)
    signature = base64.b64decode(document.pop("signature"))
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert is_signed_by(
        KEY.public_key, signature, b"neural-photo-editor receipt 1\n" + text.encode()
    )
    assert not is_signed_by(KEY.public_key, signature, text.encode())


def test_canonical_json_has_one_form_and_no_nan() -> None:
    assert canonical_json({"b": [1, None], "a": "ä"}) == b'{"a":"\\u00e4","b":[1,null]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b" " * (MAX_RECEIPT_BYTES + 1), "more than"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[]", "the document"),
        (b"3", "the document"),
        (b'{"schema_version": 1, "schema_version": 1}', "twice"),
        (b'{"schema_version": 2}', "schema_version"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"schema_version": NaN}', "schema_version"),
    ],
)  # fmt: skip
def test_what_is_no_receipt_is_refused(data: bytes, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        read_receipt(data)


def test_a_key_is_not_taken_twice_further_down() -> None:
    text = json.dumps(_edit().document)
    doubled = text.replace('"seed": 7', '"seed": 8, "seed": 7')
    assert doubled != text
    with pytest.raises(ValueError, match="twice"):
        read_receipt(doubled.encode())


@pytest.mark.parametrize("field", ["width", "height"])
def test_sizes_are_bounded_before_anything_is_decoded(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        read_receipt(json.dumps({**_edit().document, field: 10**9}).encode())


@pytest.mark.parametrize("text", ["\x1b[2J", "2.10\n", "ü", "x" * 129])
def test_texts_are_short_and_printable(text: str) -> None:
    changed = _replaced(_edit().document, ("environment", "torch"), text)
    with pytest.raises(ValueError, match=r"environment\.torch"):
        read_receipt(json.dumps(changed).encode())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(LEAVES), value=_json, cut=st.integers(0, 1400))
def test_no_document_does_more_than_be_refused(path: tuple[Any, ...], value: Any, cut: int) -> None:
    changed = _replaced(_edit().document, path, value)
    if changed != _edit().document:
        assert not _passes(changed)
    text = json.dumps(_edit().document)
    assert cut < len(text)
    with pytest.raises(ValueError, match="receipt"):
        read_receipt(text[:cut].encode())


def test_exact_cannot_be_claimed_against_the_digests() -> None:
    changed = _replaced(_edit().document, ("result", "outside_sha256"), "0" * 64)
    with pytest.raises(ValueError, match="exact disagrees"):
        read_receipt(json.dumps(changed).encode())
    assert not read_receipt(json.dumps({**changed, "exact": False}).encode()).exact
