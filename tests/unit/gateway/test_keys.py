import hmac
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neural_photo_editor.api import key_file
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.key_file import ApiKey, changed_keys, create_key, rotate_key
from serve.gateway.access import Principal
from serve.gateway.keys import KeyStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def store(path: Path, *keys: ApiKey) -> None:
    with changed_keys(path) as stored:
        stored[:] = keys


def refusal(keys: KeyStore, text: str | None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        keys.authenticate(text)
    assert caught.value.status == 401
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_known_with_what_it_allows(path: Path) -> None:
    key, text = create_key("a", now=NOW, allows=("edit", "upscale"))
    store(path, key)
    keys = KeyStore(path, clock=Clock())
    assert keys.authenticate(text) == Principal(key.id, frozenset({"edit", "upscale"}))
    assert keys.find(key.id) == key
    assert keys.find("0" * 12) is None


def test_missing_unknown_and_wrong_are_told_the_same(path: Path) -> None:
    key, text = create_key("a", now=NOW)
    revoked = create_key("b", now=NOW)[0].model_copy(update={"revoked": NOW})
    expired, _ = create_key("c", now=NOW, expires=NOW)
    store(path, key, revoked, expired)
    keys = KeyStore(path, clock=Clock())
    _, unknown = create_key("d", now=NOW)
    tries = [None, "", "npe_", "é", "\ud800", text[:-1], text.upper(), unknown]
    # Without the right secret nobody learns the state of a key either.
    tries += [f"npe_{one.id}_{'0' * 64}" for one in (key, revoked, expired)]
    problems = [refusal(keys, text).to_problem() for text in tries]
    assert problems == [problems[0]] * len(tries)


def test_who_has_the_secret_learns_why_it_does_not_work(path: Path) -> None:
    expired, expired_text = create_key("a", now=NOW, expires=NOW)
    revoked, revoked_text = create_key("b", now=NOW)
    store(path, expired, revoked.model_copy(update={"revoked": NOW}))
    keys = KeyStore(path, clock=Clock())
    assert refusal(keys, expired_text).detail == "this API key is expired"
    assert refusal(keys, revoked_text).detail == "this API key is revoked"


def test_a_key_expires_while_the_gateway_runs(path: Path) -> None:
    key, text = create_key("a", now=NOW, expires=NOW + timedelta(hours=1))
    store(path, key)
    clock = Clock()
    keys = KeyStore(path, clock=clock)
    assert keys.authenticate(text).key_id == key.id
    clock.now += timedelta(hours=1)
    refusal(keys, text)


def test_both_secrets_work_until_the_grace_period_ends(path: Path) -> None:
    key, old = create_key("a", now=NOW)
    key, new = rotate_key(key, now=NOW, grace=timedelta(hours=1))
    store(path, key)
    clock = Clock()
    keys = KeyStore(path, clock=clock)
    assert keys.authenticate(old) == keys.authenticate(new)
    clock.now += timedelta(hours=1)
    assert refusal(keys, old).detail == "this API key was replaced"
    keys.authenticate(new)


def test_revoking_rotating_and_creating_count_at_the_next_request(path: Path) -> None:
    first, first_text = create_key("a", now=NOW)
    keys = KeyStore(path, clock=Clock())
    refusal(keys, first_text)
    store(path, first)
    keys.authenticate(first_text)
    second, second_text = create_key("b", now=NOW)
    store(path, first.model_copy(update={"revoked": NOW}), second)
    refusal(keys, first_text)
    keys.authenticate(second_text)
    store(path)
    refusal(keys, second_text)


def test_the_file_is_read_when_it_changed_only(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, text = create_key("a", now=NOW)
    with caplog.at_level(logging.INFO):
        store(path, key)
        keys = KeyStore(path, clock=Clock())
        for _ in range(3):
            keys.authenticate(text)
        assert caplog.messages == ["keys read: 1"]
        store(path, key)
        keys.authenticate(text)
    assert caplog.messages == ["keys read: 1"] * 2


@pytest.mark.parametrize("content", ["", "{", '{"version": 1, "keys": [{"id": "x"}]}', None])
def test_a_broken_or_missing_file_keeps_the_last_good_keys_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    key, text = create_key("a", now=NOW)
    store(path, key)
    keys = KeyStore(path, clock=Clock())
    caplog.clear()
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    for _ in range(3):
        keys.authenticate(text)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the last good keys stay in force: 1" in errors[0].message
    assert str(path) not in errors[0].message
    path.unlink(missing_ok=True)
    store(path)  # and is read again when it is mended
    refusal(keys, text)


def test_without_a_file_nobody_is_let_in(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = KeyStore(path, clock=Clock())
    refusal(keys, create_key("a", now=NOW)[1])
    assert "the last good keys stay in force: 0" in caplog.text


def test_every_text_is_compared_in_constant_time_even_of_unknown_ids(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = create_key("a", now=NOW)
    store(path, key)
    keys = KeyStore(path, clock=Clock())
    compared: list[tuple[int, int]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((len(a), len(b)))
        return hmac_compare(a, b)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(key_file.hmac, "compare_digest", compare)
    keys.authenticate(text)
    for wrong in (
        None,
        "",
        "x",
        text[:-1],
        f"npe_{key.id}_{'0' * 64}",
        f"npe_{'0' * 12}_{'0' * 64}",
    ):
        refusal(keys, wrong)
    assert compared == [(64, 64)] * 7
