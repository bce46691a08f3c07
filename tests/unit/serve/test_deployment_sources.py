"""What registries and archives say is wanted, and the key of the person at the machine."""

import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from neural_photo_editor.api.key_file import changed_keys, digest_of, read_keys
from neural_photo_editor.artifacts.bundle_spec import MODEL_NAME
from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.registry import publish, rollback, set_alias, staging_folder
from serve.deployment import Desired
from serve.development_key import ensure_development_key
from serve.managed_server import Backoff
from serve.sources import ArchiveSource, RegistrySource, in_background


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Versions 1 to 3 of what only looks like a bundle: aliases do not ask."""
    for number in range(3):
        staged = staging_folder(tmp_path / "registry")
        (staged / "bundle.json").write_text(f"{number}\n")
        write_sums(staged)
        publish(tmp_path / "registry", MODEL_NAME, staged)
    return tmp_path / "registry"


def name(registry: Path, alias: str, version: int) -> None:
    set_alias(registry, MODEL_NAME, alias, version)


def source_of(registry: Path, *, canary: bool = True) -> RegistrySource:
    return RegistrySource(str(registry), alias="production", canary=canary, poll_s=0.0)


def until_desired(source: RegistrySource, desired: Desired) -> None:
    """Wait until these versions are wanted, whichever changes of the aliases said so."""
    end = time.monotonic() + 10
    while replace(source.desired(), changes=(0, 0)) != desired:
        assert time.monotonic() < end, source.desired()
        time.sleep(0.001)


def test_the_aliases_are_followed(registry: Path) -> None:
    source = source_of(registry)
    name(registry, "production", 1)
    until_desired(source, Desired(1))
    name(registry, "canary", 2)
    until_desired(source, Desired(1, 2))
    name(registry, "production", 2)
    until_desired(source, Desired(2))


def test_a_canary_is_followed_only_when_asked_for(registry: Path) -> None:
    name(registry, "canary", 2)
    name(registry, "production", 1)
    until_desired(source_of(registry, canary=False), Desired(1))
    until_desired(source_of(registry), Desired(1, 2))


def test_a_canary_that_was_taken_out_of_production_is_none(registry: Path) -> None:
    for alias, version in (("production", 1), ("canary", 2), ("production", 2)):
        name(registry, alias, version)
    source = source_of(registry)
    until_desired(source, Desired(2))
    rollback(registry, MODEL_NAME, "production")
    until_desired(source, Desired(1))
    until_desired(source_of(registry), Desired(1))
    name(registry, "canary", 3)
    until_desired(source, Desired(1, 3))


def test_a_canary_that_was_taken_out_is_one_when_it_is_named_once_more(registry: Path) -> None:
    for alias, version in (("production", 1), ("canary", 2), ("production", 2)):
        name(registry, alias, version)
    rollback(registry, MODEL_NAME, "production")
    source = source_of(registry)
    until_desired(source, Desired(1))
    name(registry, "canary", 2)
    until_desired(source, Desired(1, 2))


def test_a_version_that_is_named_once_more_is_another_wish(registry: Path) -> None:
    name(registry, "production", 1)
    name(registry, "canary", 2)
    source = source_of(registry)
    until_desired(source, Desired(1, 2))
    wishes = source.desired().wishes()
    name(registry, "canary", 2)
    end = time.monotonic() + 10
    while (now := source.desired().wishes()) == wishes:
        assert time.monotonic() < end
    assert now["production"] == wishes["production"]
    assert now["canary"].version == wishes["canary"].version


def test_an_alias_that_is_older_than_the_history_counts(registry: Path) -> None:
    name(registry, "production", 1)
    shutil.rmtree(registry / MODEL_NAME / "history" / "production")
    until_desired(source_of(registry), Desired(1))


def test_a_registry_that_cannot_be_read_changes_nothing(
    registry: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    name(registry, "production", 1)
    source = source_of(registry)
    until_desired(source, Desired(1))
    change = registry / MODEL_NAME / "history" / "production" / "000001.json"
    whole = change.read_text()
    change.write_text("no change\n")
    end = time.monotonic() + 10
    while "cannot be read" not in caplog.text:
        assert source.desired().production == 1
        assert time.monotonic() < end
    change.write_text(whole)
    name(registry, "production", 2)
    until_desired(source, Desired(2))


def test_a_damaged_archive_is_not_handed_out(tmp_path: Path) -> None:
    archive = tmp_path / "neural_photo_editor.mar"
    archive.write_bytes(b"PK")
    source = ArchiveSource(archive)
    assert source.desired() == Desired(0)
    with pytest.raises(ValueError, match="no whole archive"):
        source.fetch(0, tmp_path)


def test_what_fails_in_the_background_is_told_to_who_asks() -> None:
    assert in_background(lambda: 3).result(timeout=10) == 3
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0).result(timeout=10)


def test_waits_grow_and_are_bounded() -> None:
    backoff = Backoff()
    assert [backoff.next_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_development_key_is_made_once_and_hidden(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    path = ensure_development_key(keys_file)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text().strip()
    (key,) = read_keys(keys_file)
    assert key.secrets[0].sha256 == digest_of(text)
    assert text not in keys_file.read_text()
    path.chmod(0o644)
    assert ensure_development_key(keys_file).read_text().strip() == text
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_keys(keys_file)) == 1


@pytest.mark.parametrize("trouble", ["revoked", "forgotten", "damaged", "keys lost"])
def test_a_development_key_that_does_not_work_is_replaced(tmp_path: Path, trouble: str) -> None:
    keys_file = tmp_path / "keys.json"
    path = ensure_development_key(keys_file)
    old = path.read_text()
    if trouble == "revoked":
        with changed_keys(keys_file) as keys:
            keys[0] = keys[0].model_copy(update={"revoked": keys[0].created})
    elif trouble == "forgotten":
        with changed_keys(keys_file) as keys:
            keys.clear()
    elif trouble == "damaged":
        path.write_text(old[:-2] + ("0" if old[-2] != "0" else "1"))
    else:
        keys_file.unlink()
    assert ensure_development_key(keys_file).read_text() != old
    newest = read_keys(keys_file)[-1]
    assert newest.secrets[0].sha256 == digest_of(path.read_text().strip())
