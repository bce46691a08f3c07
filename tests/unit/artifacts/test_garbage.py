import os
import shutil
import time
from pathlib import Path

import pytest

from neural_photo_editor.artifacts.archive import fetch_bundle
from neural_photo_editor.artifacts.garbage import delete_garbage, find_garbage
from neural_photo_editor.artifacts.registry import (
    list_versions,
    rollback,
    set_alias,
    staging_folder,
)
from tests.unit.artifacts.conftest import export_tiny, publish_tiny_bundle

KINDS = ("denoiser", "segmenter", "upscaler")
BUNDLE = "neural_photo_editor"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five bundles, each of artifacts of its own, and a sixth version of the artifacts."""
    folder = tmp_path_factory.mktemp("garbage")
    for number in range(1, 6):
        for kind in KINDS:
            export_tiny(kind, folder / "registry", metrics={"loss": number})
        publish_tiny_bundle(folder / "registry", folder / "out")
    for kind in KINDS:
        export_tiny(kind, folder / "registry", metrics={"loss": 6})
    return folder / "registry"


@pytest.fixture
def registry(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "registry"))


def _versions(registry: Path) -> dict[str, list[int]]:
    return {name: list_versions(registry, name) for name in (BUNDLE, *KINDS)}


def test_without_aliases_the_newest_stay_with_what_they_are_made_of(registry: Path) -> None:
    garbage = find_garbage(registry, keep_newest=1)
    expected = [(name, version) for name in KINDS for version in (1, 2, 3, 4)]
    expected += [(BUNDLE, version) for version in (1, 2, 3, 4)]
    assert sorted(garbage.versions) == sorted(expected)
    assert list_versions(registry, BUNDLE) == [1, 2, 3, 4, 5]  # Only listed.


def test_nothing_in_use_is_ever_deleted(registry: Path, tmp_path: Path) -> None:
    for version in (3, 2):  # A rollback of production would go to 3.
        set_alias(registry, BUNDLE, "production", version)
    set_alias(registry, "upscaler", "best", 1)
    delete_garbage(registry, keep_newest=1)
    assert _versions(registry) == {
        BUNDLE: [2, 3, 5],
        "denoiser": [2, 3, 5, 6],
        "segmenter": [2, 3, 5, 6],
        "upscaler": [1, 2, 3, 5, 6],
    }
    assert find_garbage(registry, keep_newest=1).versions == []
    for reference in ("production", "latest"):
        assert fetch_bundle(registry, f"{BUNDLE}@{reference}", tmp_path / reference)
    assert rollback(registry, BUNDLE, "production").to_version == 3


def test_a_version_that_only_the_history_names_stays(registry: Path) -> None:
    for version in (2, 3):
        set_alias(registry, BUNDLE, "production", version)
    (registry / BUNDLE / "aliases" / "production").unlink()  # Its writer died.
    delete_garbage(registry, keep_newest=1)
    assert _versions(registry)[BUNDLE] == [2, 3, 5]


def test_as_many_of_the_newest_as_wanted_stay(registry: Path) -> None:
    garbage = find_garbage(registry, keep_newest=3)
    assert (BUNDLE, 2) in garbage.versions
    assert (BUNDLE, 3) not in garbage.versions
    assert ("denoiser", 3) not in garbage.versions  # Of the bundle 3.
    with pytest.raises(ValueError, match="at least 1"):
        find_garbage(registry, keep_newest=0)


def test_deleted_numbers_are_not_used_again(registry: Path, tmp_path: Path) -> None:
    delete_garbage(registry, keep_newest=1)
    assert publish_tiny_bundle(registry, tmp_path / "out") == 6


@pytest.mark.parametrize("damage", ["alias", "bundle"])
def test_where_something_cannot_be_read_nothing_is_deleted(registry: Path, damage: str) -> None:
    before = _versions(registry)
    if damage == "alias":
        (registry / BUNDLE / "aliases" / "latest").write_text("five")
    else:
        (registry / BUNDLE / "versions/5/bundle.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no version|other bytes"):
        delete_garbage(registry, keep_newest=1)
    assert _versions(registry) == before


def test_what_a_dead_writer_left_goes_after_a_day(registry: Path) -> None:
    old, new = staging_folder(registry), staging_folder(registry)
    two_days_ago = time.time() - 48 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    assert delete_garbage(registry, keep_newest=9).abandoned == [old.name]
    assert new.is_dir()
    assert not old.exists()
