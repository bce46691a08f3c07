import threading
from pathlib import Path

import pytest

from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.registry import (
    list_versions,
    publish,
    resolve,
    set_alias,
    staging_folder,
)


def _publish(registry: Path, name: str = "ddpm", content: str = "x") -> int:
    staged = staging_folder(registry)
    (staged / "file").write_text(content)
    write_sums(staged)
    return publish(registry, name, staged)


def test_versions_count_up_and_latest_follows(tmp_path: Path) -> None:
    assert [_publish(tmp_path, content=str(i)) for i in range(3)] == [1, 2, 3]
    assert (resolve(tmp_path, "ddpm@latest") / "file").read_text() == "2"
    assert (resolve(tmp_path, "ddpm@1") / "file").read_text() == "0"
    assert not list(tmp_path.glob(".staging*"))


def test_an_alias_can_go_back(tmp_path: Path) -> None:
    for _ in range(2):
        _publish(tmp_path)
    set_alias(tmp_path, "ddpm", "production", 2)
    set_alias(tmp_path, "ddpm", "production", 1)
    assert resolve(tmp_path, "ddpm@production").name == "1"
    assert [path.name for path in (tmp_path / "ddpm/aliases").iterdir()].count("production") == 1
    with pytest.raises(ValueError, match="no version 9"):
        set_alias(tmp_path, "ddpm", "production", 9)
    with pytest.raises(ValueError, match="look like a version"):
        set_alias(tmp_path, "ddpm", "7", 1)


def test_concurrent_exporters_get_different_versions(tmp_path: Path) -> None:
    versions: list[int] = []
    barrier = threading.Barrier(8)

    def export(content: str) -> None:
        barrier.wait()
        for _ in range(5):
            versions.append(_publish(tmp_path, content=content))

    threads = [threading.Thread(target=export, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 41)) == list_versions(tmp_path, "ddpm")
    assert resolve(tmp_path, "ddpm@latest").name == "40"


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
def test_a_wrong_reference_says_what_exists(tmp_path: Path, reference: str, message: str) -> None:
    _publish(tmp_path)
    with pytest.raises(ValueError, match=message):
        resolve(tmp_path, reference)
