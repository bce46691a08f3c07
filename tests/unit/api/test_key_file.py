import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neural_photo_editor.api import key_file
from neural_photo_editor.api.key_file import (
    ApiKey,
    changed_keys,
    create_key,
    digest_of,
    key_id_of,
    read_keys,
    rotate_key,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "keys.json"


def _store(path: Path, *keys: ApiKey) -> None:
    with changed_keys(path) as stored:
        stored[:] = keys


def test_keys_come_back_as_they_were_stored(path: Path) -> None:
    one, _ = create_key("Anna's phone", now=NOW, requests_per_minute=6, burst=3)
    other, _ = create_key("b", now=NOW, expires=NOW + timedelta(days=1), allows=("upscale",))
    _store(path, one, other)
    assert read_keys(path) == (one, other)


def test_a_key_has_256_fresh_bits_and_its_id() -> None:
    key, text = create_key("a", now=NOW)
    prefix, key_id, secret = text.split("_")
    assert (prefix, key_id, len(bytes.fromhex(secret))) == ("npe", key.id, 32)
    assert key_id_of(text) == key.id
    texts = {create_key("a", now=NOW)[1] for _ in range(100)}
    assert len({text[-64:] for text in texts}) == 100


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.upper(),
        lambda text: text.replace("npe_", "NPE_"),
        lambda text: text.replace("_", "-"),
        lambda text: text[:-1] + "٣",  # a digit, but not one of ours
        lambda text: text + "_" + text,
    ],
)
def test_other_texts_are_no_keys(change) -> None:
    _, text = create_key("a", now=NOW)
    assert key_id_of(change(text)) is None


def test_neither_secret_nor_text_is_in_the_file_which_is_for_its_owner_alone(path: Path) -> None:
    key, text = create_key("a", now=NOW)
    key, newer = rotate_key(key, now=NOW, grace=timedelta(hours=1))
    _store(path, key)
    written = path.read_text()
    for secret in (text, newer):
        assert secret[-64:] not in written
        assert digest_of(secret) in written  # so the search would have found a secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_a_secret_fits_its_key_alone() -> None:
    key, text = create_key("a", now=NOW)
    other, other_text = create_key("b", now=NOW)
    assert key.secret_of(text) == key.secrets[0]
    assert key.secret_of(other_text) is None
    # The id is part of what is hashed: a secret under another id is another text.
    assert other.secret_of(text.replace(key.id, other.id)) is None
    # What is stored is not what is sent.
    assert key.secret_of(key.secrets[0].sha256) is None


def test_comparison_takes_the_constant_time_function_for_every_secret(monkeypatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((a, b))
        return False

    key, text = create_key("a", now=NOW)
    key, newer = rotate_key(key, now=NOW, grace=timedelta(hours=1))
    monkeypatch.setattr(key_file.hmac, "compare_digest", compare)
    # It alone decides: the right text is refused when it says so.
    assert key.secret_of(newer) is None
    assert compared == [(digest_of(newer), secret.sha256) for secret in key.secrets]
    compared.clear()
    assert key.secret_of(text) is None
    assert len(compared) == 2


def test_the_first_match_does_not_end_the_comparison(monkeypatch) -> None:
    calls = 0
    genuine = key_file.hmac.compare_digest

    def compare(a: str, b: str) -> bool:
        nonlocal calls
        calls += 1
        return genuine(a, b)

    key, _ = create_key("a", now=NOW)
    key, newer = rotate_key(key, now=NOW, grace=timedelta(hours=1))
    monkeypatch.setattr(key_file.hmac, "compare_digest", compare)
    assert key.secret_of(newer) == key.secrets[0]
    assert calls == 2


def test_rotation_keeps_the_secret_before_for_the_grace_period_and_no_older_one() -> None:
    key, first = create_key("a", now=NOW)
    key, second = rotate_key(key, now=NOW, grace=timedelta(hours=1))
    old = key.secret_of(first)
    assert old is not None
    assert old.expires == NOW + timedelta(hours=1)
    assert key.secret_of(second).expires is None
    key, third = rotate_key(key, now=NOW, grace=timedelta(hours=1))
    assert key.secret_of(first) is None
    assert key.secret_of(second) is not None
    assert key.secret_of(third) is not None


def test_keys_that_do_not_work_are_not_rotated() -> None:
    key, _ = create_key("a", now=NOW, expires=NOW)
    with pytest.raises(ValueError, match="is expired: create a new one"):
        rotate_key(key, now=NOW, grace=timedelta(0))
    revoked = key.model_copy(update={"revoked": NOW})
    with pytest.raises(ValueError, match="is revoked"):
        rotate_key(revoked, now=NOW, grace=timedelta(0))


def test_a_key_works_until_the_moment_it_expires() -> None:
    key, _ = create_key("a", now=NOW, expires=NOW + timedelta(seconds=1))
    assert key.state(NOW) == "active"
    assert key.state(NOW + timedelta(seconds=1)) == "expired"


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", "two\nlines"), ("burst", 0), ("requests_per_day", -1)],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        create_key(**{"name": "a", "now": NOW, field: value})


def test_of_two_changes_at_a_time_the_second_is_refused_and_none_is_lost(path: Path) -> None:
    key, _ = create_key("a", now=NOW)
    with changed_keys(path) as keys:
        keys.append(key)
        with pytest.raises(ValueError, match=r"is being changed.*delete"), changed_keys(path):
            pass
    assert read_keys(path) == (key,)


def test_a_change_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    key, _ = create_key("a", now=NOW)
    _store(path, key)
    before = path.read_bytes()

    def clear_and_fail() -> None:
        with changed_keys(path) as keys:
            keys.clear()
            raise KeyError

    with pytest.raises(KeyError):
        clear_and_fail()
    assert path.read_bytes() == before
    _store(path)  # and is no longer locked
    assert read_keys(path) == ()


def _document(*changes: tuple[str, object]) -> str:
    key, _ = create_key("a", now=NOW)
    return json.dumps({"version": 1, "keys": [json.loads(key.model_dump_json()) | dict(changes)]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "document"),
        ('{"version": 1, "keys": [', "document"),
        ('{"version": 2, "keys": []}', "version"),
        (_document(("hunter2", "npe_abc")), r"keys\.0: Extra"),
        (_document(("secrets", [])), r"keys\.0\.secrets"),
        (_document(("secrets", [{"sha256": "hunter2"}])), r"keys\.0\.secrets\.0\.sha256"),
        (_document(("created", "2030-01-01T00:00:00")), r"keys\.0\.created"),
        (_document(("allows", ["delete"])), r"keys\.0\.allows\.0"),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_without_its_content(
    path: Path, text: str, says: str
) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^the file of keys is broken: {says}") as caught:
        read_keys(path)
    assert "hunter2" not in str(caught.value)


def test_two_keys_with_one_id_are_refused(path: Path) -> None:
    key, _ = create_key("a", now=NOW)
    path.parent.mkdir()
    entry = json.loads(key.model_dump_json())
    path.write_text(json.dumps({"version": 1, "keys": [entry, entry]}))
    with pytest.raises(ValueError, match="two keys have the same id"):
        read_keys(path)
