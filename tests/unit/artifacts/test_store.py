"""What a registry in an object store does beyond one in a folder."""

import os
import time
from pathlib import Path

import fsspec
import pytest

from neural_photo_editor.artifacts import object_store
from neural_photo_editor.artifacts import store as stores
from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.object_store import KEPT_COPIES
from neural_photo_editor.artifacts.open_store import open_store
from neural_photo_editor.artifacts.registry import (
    list_versions,
    publish,
    read_files,
    resolve,
    staging_folder,
)
from neural_photo_editor.artifacts.store import StoreError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"memory:/{tmp_path}"


def _publish(registry: str, content: str = "x") -> int:
    staged = staging_folder(registry)
    (staged / "file").write_text(content)
    write_sums(staged)
    return publish(registry, "ddpm", staged)


def _objects(registry: str) -> list[str]:
    root = registry.removeprefix("memory:/")
    return sorted(path.removeprefix(root) for path in fsspec.filesystem("memory").find(root))


def test_the_layout_is_that_of_a_folder(registry: str, tmp_path: Path) -> None:
    _publish(registry)
    of_store = _objects(registry)
    staged = staging_folder(tmp_path / "folder")
    (staged / "file").write_text("x")
    write_sums(staged)
    publish(tmp_path / "folder", "ddpm", staged)
    of_folder = [
        "/" + path.relative_to(tmp_path / "folder").as_posix()
        for path in (tmp_path / "folder").rglob("*")
        if path.is_file()
    ]
    assert of_store == sorted([*of_folder, "/ddpm/claims/1"])


def test_an_unfinished_upload_is_no_version_and_its_number_stays_taken(registry: str) -> None:
    _publish(registry)
    store = open_store(registry)
    assert store.create("ddpm/claims/2", b"somebody\n")
    store.replace("ddpm/versions/2/file", b"half")
    assert list_versions(registry, "ddpm") == [1]
    with pytest.raises(ValueError, match="no version 2"):
        resolve(registry, "ddpm@2")
    assert _publish(registry, "y") == 3
    assert store.abandoned(older_than_s=3600) == []
    assert store.abandoned(older_than_s=-1) == ["ddpm/versions/2"]
    store.remove_abandoned("ddpm/versions/2")
    assert not [path for path in _objects(registry) if "versions/2" in path]
    assert store.abandoned(older_than_s=-1) == []


def test_a_copy_is_read_from_the_cache_until_it_is_damaged(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(registry, "a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    folder = resolve(registry, "ddpm@1")
    inode = (folder / "file").stat().st_ino
    assert (resolve(registry, "ddpm@1") / "file").stat().st_ino == inode
    (folder / "file").write_text("b")
    assert (resolve(registry, "ddpm@1") / "file").read_text() == "a"
    os.mkfifo(folder / "more")
    assert not (resolve(registry, "ddpm@1") / "more").exists()


def test_the_cache_keeps_what_was_used_last_and_nothing_of_dead_writers(
    registry: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "neural_photo_editor" / "registry"
    two_days_ago = time.time() - 48 * 3600
    for number in range(1, KEPT_COPIES + 3):
        _publish(registry, str(number))
        os.utime(resolve(registry, f"ddpm@{number}").parent, (two_days_ago, two_days_ago + number))
    dead, alive = staging_folder(registry), staging_folder(registry)
    os.utime(dead, (two_days_ago, two_days_ago))
    first = resolve(registry, "ddpm@3")  # The oldest of all, but used just now.
    _publish(registry, "one more")
    assert len([path for path in cache.iterdir() if path != alive]) == KEPT_COPIES
    assert first.is_dir()
    assert alive.is_dir()
    assert not dead.exists()
    # What is in use stays, however much there is of it.
    for number in range(1, KEPT_COPIES + 3):
        resolve(registry, f"ddpm@{number}")
    assert len([path for path in cache.iterdir() if path != alive]) == KEPT_COPIES + 3
    assert (resolve(registry, "ddpm@1") / "file").read_text() == "1"


@pytest.mark.parametrize("file", ["file", "SHA256SUMS"])
def test_a_changed_object_never_reaches_the_cache(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    _publish(registry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    store = open_store(registry)
    content = store.read(f"ddpm/versions/1/{file}")
    store.replace(f"ddpm/versions/1/{file}", bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(ValueError, match=r"file has other bytes|no digest"):
        resolve(registry, "ddpm@1")
    assert not [path for path in (tmp_path / "another machine").rglob("*") if path.is_file()]


def test_a_lost_object_is_named(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(registry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    store = open_store(registry)
    fsspec.filesystem("memory").rm_file(f"{tmp_path}/ddpm/versions/1/file")
    assert store.versions("ddpm") == [1]
    with pytest.raises(ValueError, match="lacks a file that its SHA256SUMS lists"):
        resolve(registry, "ddpm@1")


def test_a_large_file_is_not_read_as_a_small_one(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(registry, "x" * 2000)
    for module in (stores, object_store):
        monkeypatch.setattr(module, "MAX_SMALL_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        read_files(registry, "ddpm", 1, "file")


def test_a_store_that_does_not_answer_is_named(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("connection reset")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "find", fail)
    with pytest.raises(StoreError, match=r"RuntimeError: connection reset\. Check the network"):
        list_versions(registry, "ddpm")


def test_a_store_that_ignores_conditions_is_noticed_by_looking(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = type(fsspec.filesystem("memory"))
    write = memory.pipe_file
    monkeypatch.setattr(
        memory, "pipe_file", lambda fs, path, value, mode="": write(fs, path, value)
    )
    store = open_store(registry)
    assert store.create("ddpm/claims/1", b"first\n")
    assert not store.create("ddpm/claims/1", b"second\n")
    assert store.read("ddpm/claims/1") == b"first\n"
    assert _publish(registry) == 2


def test_a_lost_answer_does_not_cost_the_claim(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = type(fsspec.filesystem("memory"))
    write = memory.pipe_file

    def twice(fs: object, path: str, value: bytes, **settings: str) -> None:
        write(fs, path, value, **settings)
        write(fs, path, value, **settings)  # As a client repeats what it heard nothing of.

    monkeypatch.setattr(memory, "pipe_file", twice)
    assert open_store(registry).create("ddpm/claims/1", b"ours\n")
