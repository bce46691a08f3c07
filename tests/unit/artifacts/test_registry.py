import json
import shutil
import threading
from pathlib import Path

import pytest

from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.history import ACTOR_VARIABLES
from neural_photo_editor.artifacts.open_store import open_store
from neural_photo_editor.artifacts.registry import (
    find_version,
    list_aliases,
    list_changes,
    list_names,
    list_versions,
    newest_change,
    publish,
    read_files,
    resolve,
    rollback,
    set_alias,
    settle,
    staging_folder,
)

Registry = Path | str


@pytest.fixture(params=["folder", "object store"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Registry:
    """Both kinds of store; a real S3 server is in the integration tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "registry" if request.param == "folder" else f"memory:/{tmp_path}"


def _publish(registry: Registry, name: str = "ddpm", content: str = "x") -> int:
    staged = staging_folder(registry)
    (staged / "file").write_text(content)
    write_sums(staged)
    return publish(registry, name, staged)


def test_versions_count_up_and_latest_follows(registry: Registry, tmp_path: Path) -> None:
    assert [_publish(registry, content=str(i)) for i in range(3)] == [1, 2, 3]
    assert (resolve(registry, "ddpm@latest") / "file").read_text() == "2"
    assert (resolve(registry, "ddpm@1") / "file").read_text() == "0"
    assert resolve(registry, "ddpm@latest").name == "3"
    assert find_version(registry, "ddpm@latest") == ("ddpm", 3)
    assert list_names(registry) == ["ddpm"]
    assert not list(tmp_path.rglob(".staging*"))


def test_a_version_without_digests_is_not_published(registry: Registry) -> None:
    staged = staging_folder(registry)
    (staged / "file").write_text("x")
    with pytest.raises(ValueError, match="SHA256SUMS is missing"):
        publish(registry, "ddpm", staged)
    assert list_versions(registry, "ddpm") == []


def test_an_alias_can_go_back(registry: Registry) -> None:
    for _ in range(2):
        _publish(registry)
    set_alias(registry, "ddpm", "production", 2)
    set_alias(registry, "ddpm", "production", 1)
    assert find_version(registry, "ddpm@production") == ("ddpm", 1)
    assert list_aliases(registry, "ddpm") == {"latest": 2, "production": 1}
    with pytest.raises(ValueError, match="no version 9"):
        set_alias(registry, "ddpm", "production", 9)
    with pytest.raises(ValueError, match="look like a version"):
        set_alias(registry, "ddpm", "7", 1)


def test_concurrent_exporters_get_different_versions(registry: Registry) -> None:
    versions: list[int] = []
    barrier = threading.Barrier(8)

    def export(content: str) -> None:
        barrier.wait()
        for _ in range(5):
            versions.append(_publish(registry, content=content))

    threads = [threading.Thread(target=export, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 41)) == list_versions(registry, "ddpm")
    assert find_version(registry, "ddpm@latest") == ("ddpm", 40)
    assert list_changes(registry, "ddpm", "latest")[-1].to_version == 40


def test_concurrent_changes_of_an_alias_are_all_in_the_history(registry: Registry) -> None:
    for i in range(8):
        _publish(registry, content=str(i))
    barrier = threading.Barrier(8)

    def promote(version: int) -> None:
        barrier.wait()
        set_alias(registry, "ddpm", "production", version, reason=f"by {version}")

    threads = [threading.Thread(target=promote, args=(i,)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changes = list_changes(registry, "ddpm", "production")
    assert sorted(change.to_version for change in changes) == list(range(1, 9))
    assert [c.from_version for c in changes] == [None, *(c.to_version for c in changes[:-1])]
    assert list_aliases(registry, "ddpm")["production"] == changes[-1].to_version


def test_an_alias_that_was_moved_meanwhile_stays(registry: Registry) -> None:
    for _ in range(3):
        _publish(registry)
    set_alias(registry, "ddpm", "production", 1)
    set_alias(registry, "ddpm", "production", 2, unless_moved_from=1)
    with pytest.raises(ValueError, match="was moved from 1 to 2 meanwhile"):
        set_alias(registry, "ddpm", "production", 3, unless_moved_from=1)
    assert list_aliases(registry, "ddpm")["production"] == 2


def test_of_two_first_promotions_one_is_told(registry: Registry) -> None:
    for _ in range(2):
        _publish(registry)
    set_alias(registry, "ddpm", "production", 1, unless_moved_from=None)
    with pytest.raises(ValueError, match="was moved from nothing to 1 meanwhile"):
        set_alias(registry, "ddpm", "production", 2, unless_moved_from=None)
    assert list_aliases(registry, "ddpm")["production"] == 1


def test_to_ask_again_is_an_entry_and_no_step_of_a_rollback(registry: Registry) -> None:
    for version in (1, 2):
        _publish(registry)
        set_alias(registry, "ddpm", "production", version)
    set_alias(registry, "ddpm", "production", 2, reason="the disk was full")
    number, change = newest_change(registry, "ddpm", "production")
    assert change is not None
    assert (number, change.from_version, change.to_version) == (3, 2, 2)
    assert rollback(registry, "ddpm", "production").to_version == 1
    assert newest_change(registry, "ddpm", "canary") == (0, None)


def test_a_hole_in_the_history_stops_nothing(registry: Registry) -> None:
    for version in (1, 2, 3):
        _publish(registry)
        set_alias(registry, "ddpm", "production", version)
    for alias in ("latest", "production"):
        _remove(registry, f"ddpm/history/{alias}/000001.json")
    set_alias(registry, "ddpm", "production", 1)
    assert rollback(registry, "ddpm", "production").to_version == 3
    assert newest_change(registry, "ddpm", "production")[0] == 5
    assert _publish(registry) == find_version(registry, "ddpm@latest")[1] == 4


def _remove(registry: Registry, path: str) -> None:
    if isinstance(registry, Path):
        (registry / path).unlink()
    else:
        store = open_store(registry)
        store.fs.rm_file(f"{store.root}/{path}")  # type: ignore[attr-defined]


def test_what_is_in_the_way_of_an_entry_is_named(tmp_path: Path) -> None:
    _publish(tmp_path)
    (tmp_path / "ddpm/history/production/000001.json").mkdir(parents=True)
    with pytest.raises(ValueError, match="history/production takes no entry 1"):
        set_alias(tmp_path, "ddpm", "production", 1)


def test_the_history_says_who_and_why(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ACTOR_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    _publish(registry)
    (change,) = list_changes(registry, "ddpm", "latest")
    assert (change.alias, change.action, change.by, change.reason) == ("latest", "set", None, None)
    monkeypatch.setenv("USER", "ann")
    set_alias(registry, "ddpm", "canary", 1, reason="looks good")
    monkeypatch.setenv("GITHUB_ACTOR", "robot")
    _publish(registry)
    set_alias(registry, "ddpm", "canary", 2)
    first, second = list_changes(registry, "ddpm", "canary")
    assert (first.by, first.reason, first.from_version, first.to_version) == (
        "ann", "looks good", None, 1,
    )  # fmt: skip
    assert (second.by, second.from_version, second.to_version) == ("robot", 1, 2)


def test_rollbacks_go_further_and_further_back(registry: Registry) -> None:
    for _ in range(4):
        _publish(registry)
    for version in (1, 3, 2, 4):
        set_alias(registry, "ddpm", "production", version)
    went = [rollback(registry, "ddpm", "production").to_version for _ in range(2)]
    assert went == [2, 3]
    set_alias(registry, "ddpm", "production", 4, reason="mended")
    went = [rollback(registry, "ddpm", "production").to_version for _ in range(2)]
    assert went == [3, 1]
    assert list_aliases(registry, "ddpm")["production"] == 1
    with pytest.raises(ValueError, match="is version 1, and there is none before it"):
        rollback(registry, "ddpm", "production")
    with pytest.raises(ValueError, match="no alias 'canary'"):
        rollback(registry, "ddpm", "canary")


def test_a_rollback_passes_over_versions_that_are_gone(registry: Registry) -> None:
    for version in (1, 2, 3):
        _publish(registry)
        set_alias(registry, "ddpm", "production", version)
    open_store(registry).remove("ddpm", 2)
    change = rollback(registry, "ddpm", "production", reason="bad skin")
    assert (change.from_version, change.to_version, change.reason) == (3, 1, "bad skin")
    assert _publish(registry) == 4


def test_a_registry_from_before_the_history_is_read_and_rolled_back(tmp_path: Path) -> None:
    for _ in range(2):
        _publish(tmp_path)
    set_alias(tmp_path, "ddpm", "production", 1)
    shutil.rmtree(tmp_path / "ddpm/history")
    assert find_version(tmp_path, "ddpm@production") == ("ddpm", 1)
    set_alias(tmp_path, "ddpm", "production", 1)
    set_alias(tmp_path, "ddpm", "production", 2)
    assert rollback(tmp_path, "ddpm", "production").to_version == 1


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """As a killed process leaves them: the history is written first, and then the alias."""
    for version in (1, 2, 3):
        _publish(tmp_path)
        if version < 3:
            set_alias(tmp_path, "ddpm", "production", version)
    (tmp_path / "ddpm/aliases/production").write_text("1\n")
    return tmp_path


def test_a_change_that_was_interrupted_is_completed_before_the_next(interrupted: Path) -> None:
    assert settle(interrupted, "ddpm", "production") == 2
    assert list_aliases(interrupted, "ddpm")["production"] == 2
    assert len(list_changes(interrupted, "ddpm", "production")) == 2
    assert settle(interrupted, "ddpm", "canary") is None
    set_alias(interrupted, "ddpm", "production", 3, unless_moved_from=2)


def test_a_change_that_was_interrupted_can_be_taken_back(interrupted: Path) -> None:
    change = rollback(interrupted, "ddpm", "production")
    assert (change.from_version, change.to_version) == (2, 1)
    assert list_aliases(interrupted, "ddpm")["production"] == 1


def test_a_first_change_that_was_interrupted_is_completed(interrupted: Path) -> None:
    _remove(interrupted, "ddpm/history/production/000002.json")
    _remove(interrupted, "ddpm/aliases/production")
    with pytest.raises(ValueError, match="is version 1, and there is none before it"):
        rollback(interrupted, "ddpm", "production")
    assert list_aliases(interrupted, "ddpm")["production"] == 1


def test_small_files_are_read_without_the_large_and_only_as_listed(registry: Registry) -> None:
    _publish(registry, content="a")
    assert read_files(registry, "ddpm", 1, "file", "other") == {"file": b"a"}
    store = open_store(registry)
    store.replace("ddpm/versions/1/file", b"b")
    with pytest.raises(ValueError, match="file has other bytes than SHA256SUMS lists"):
        read_files(registry, "ddpm", 1, "file")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("ddpm", "write ddpm@latest"),
        ("ddpm@2", r"no version 2; versions: \[1\]"),
        ("ddpm@best", "no alias 'best'"),
        ("other@latest", "export it first"),
        ("../ddpm@1", "cannot name an artifact"),
        ("ddpm@../../x", "cannot name an artifact"),
        ("ddpm@", "cannot name an artifact"),
        ("/etc@1", "cannot name an artifact"),
    ],
)
def test_a_wrong_reference_says_what_exists(
    registry: Registry, reference: str, message: str
) -> None:
    _publish(registry)
    with pytest.raises(ValueError, match=message):
        resolve(registry, reference)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"two", "holds no version"), (b"\x80\x04", "holds no version"), (b"9" * 99, "no version")],
)
def test_a_damaged_alias_is_named(registry: Registry, content: bytes, message: str) -> None:
    _publish(registry)
    open_store(registry).replace("ddpm/aliases/latest", content)
    with pytest.raises(ValueError, match=message):
        resolve(registry, "ddpm@latest")


def test_a_damaged_history_stops_changes_but_no_reader(registry: Registry) -> None:
    _publish(registry)
    open_store(registry).replace("ddpm/history/latest/000001.json", json.dumps({"a": 1}).encode())
    assert resolve(registry, "ddpm@latest").name == "1"
    with pytest.raises(ValueError, match=r"history/latest/000001\.json is not valid"):
        set_alias(registry, "ddpm", "latest", 1)


@pytest.mark.parametrize(
    "address", ["http://host/registry", "pipe://x", "zip://a::s3://b", "ftp://x", "a::b"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="s3, gs"):
        list_names(address)


def test_an_address_in_a_path_is_refused_before_it_becomes_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the address of a store as text"):
        list_names(Path("s3://bucket/registry"))
    assert list_names(f"file://{tmp_path}") == []
