"""Every changed byte is found before anything is loaded, and nothing is ever unpickled."""

import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_photo_editor.artifacts import load as loading
from neural_photo_editor.artifacts.archive import (
    ARCHIVE_NAME,
    fetch_bundle,
    publish_bundle,
    read_bundle,
    verify_archive,
)
from neural_photo_editor.artifacts.bundle import load_bundle
from neural_photo_editor.artifacts.comparison import compare_versions
from neural_photo_editor.artifacts.description import describe_version
from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.garbage import find_garbage
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.policy import Policy
from neural_photo_editor.artifacts.promotion import promote
from neural_photo_editor.artifacts.registry import resolve, rollback, set_alias

BUNDLE = "neural_photo_editor"
NUM_FLIPS, NUM_CUTS = 256, 64
BUNDLE_FILES = (ARCHIVE_NAME, "bundle.json", "lineage.json", "SHA256SUMS")
ARTIFACT_FILES = ("model.safetensors", "spec.json", "config.yaml", "preview.png", "SHA256SUMS")


def _load(registry: Path, served: Path) -> None:
    """Read an artifact and a bundle as a trainer and a server would."""
    load_artifact(resolve(registry, "segmenter@latest"))
    archive = fetch_bundle(registry, f"{BUNDLE}@latest", served)
    with zipfile.ZipFile(archive) as file:
        file.extractall(served / "unpacked")
    load_bundle(served / "unpacked")


def test_320_of_320_changes_are_refused_before_anything_is_loaded(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load(published, tmp_path / "untouched")  # The control: it does load.

    def fail(*args: object) -> None:
        raise AssertionError("a network was built from a changed file")

    monkeypatch.setattr(loading, "build_network", fail)
    monkeypatch.setattr(loading, "load_file", fail)
    with pytest.raises(AssertionError, match="was built"):
        load_artifact(resolve(published, "segmenter@latest"))

    files = [published / BUNDLE / "versions/1" / name for name in BUNDLE_FILES]
    files += [published / "segmenter/versions/1" / name for name in ARTIFACT_FILES]
    choose, refused = random.Random(0), 0
    for number in range(NUM_FLIPS + NUM_CUTS):
        file = files[number % len(files)]
        original = file.read_bytes()
        position = choose.randrange(len(original))
        if number < NUM_FLIPS:
            changed = bytearray(original)
            changed[position] ^= choose.randrange(1, 256)
        else:
            changed = bytearray(original[:position])
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"."):  # noqa: PT012
            if file.parent.parent.parent.name == BUNDLE:
                fetch_bundle(published, f"{BUNDLE}@latest", tmp_path / "served")
            else:
                load_artifact(resolve(published, "segmenter@latest"))
        refused += 1
        file.write_bytes(original)
    assert refused == NUM_FLIPS + NUM_CUTS == 320
    assert not list((tmp_path / "served").iterdir())


def test_every_change_in_an_unpacked_bundles_artifacts_is_refused(
    published: Path, tmp_path: Path
) -> None:
    archive = published / BUNDLE / "versions/1" / ARCHIVE_NAME
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unpacked")
    load_bundle(tmp_path / "unpacked")
    choose = random.Random(0)
    files = sorted(p for p in (tmp_path / "unpacked/artifacts").rglob("*") if p.is_file())
    for number in range(2 * len(files)):
        file = files[number % len(files)]
        original = file.read_bytes()
        changed = bytearray(original)
        changed[choose.randrange(len(original))] ^= choose.randrange(1, 256)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"."):
            load_bundle(tmp_path / "unpacked")
        file.write_bytes(original)
    load_bundle(tmp_path / "unpacked")


class _Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.file,)


@pytest.fixture
def bomb(tmp_path: Path) -> bytes:
    content = pickle.dumps(_Bomb(tmp_path / "executed"))
    pickle.loads(content)  # The control: it does go off.
    assert (tmp_path / "executed").is_file()
    (tmp_path / "executed").unlink()
    return content


def _read_everything(registry: Path, served: Path) -> None:
    """Call every function that reads the registry, whatever the one before said."""
    reference = f"{BUNDLE}@latest"
    for read in (
        lambda: load_artifact(resolve(registry, "segmenter@latest")),
        lambda: fetch_bundle(registry, reference, served),
        lambda: verify_archive(registry / BUNDLE / "versions/1" / ARCHIVE_NAME),
        lambda: publish_bundle(registry, registry / BUNDLE / "versions/1" / ARCHIVE_NAME),
        lambda: read_bundle(registry, reference),
        lambda: describe_version(registry, reference),
        lambda: describe_version(registry, "segmenter@1"),
        lambda: compare_versions(registry, "segmenter@1", "denoiser@1"),
        lambda: find_garbage(registry, keep_newest=1),
        lambda: promote(registry, reference, "candidate", policy=Policy()),
        lambda: promote(registry, "segmenter@1", "candidate", policy=Policy()),
        lambda: set_alias(registry, "segmenter", "latest", 1),
        lambda: rollback(registry, "segmenter", "latest"),
    ):
        try:
            read()
        except ValueError:
            continue


@pytest.mark.parametrize("listed", [False, True], ids=["unlisted", "with new digests"])
@pytest.mark.parametrize(
    "file",
    [
        *(f"{BUNDLE}/versions/1/{name}" for name in BUNDLE_FILES),
        *(f"segmenter/versions/1/{name}" for name in ARTIFACT_FILES),
        f"{BUNDLE}/aliases/latest",
        "segmenter/aliases/latest",
        "segmenter/history/latest/000001.json",
    ],
)
def test_a_pickle_in_the_place_of_a_file_is_not_executed(
    published: Path, tmp_path: Path, bomb: bytes, file: str, listed: bool
) -> None:
    (published / file).write_bytes(bomb)
    if listed and "versions" in file and not file.endswith("SHA256SUMS"):
        write_sums((published / file).parent)
    _read_everything(published, tmp_path / "served")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "member",
    [
        "bundle.json",
        "lineage.json",
        *(f"artifacts/segmenter/{name}" for name in ARTIFACT_FILES),
        "MAR-INF/MANIFEST.json",
        "data.pkl",
    ],
)
def test_a_pickle_among_an_archives_members_is_not_executed(
    published: Path, tmp_path: Path, bomb: bytes, member: str
) -> None:
    version = published / BUNDLE / "versions/1"
    with zipfile.ZipFile(version / ARCHIVE_NAME) as file:
        file.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked" / member).write_bytes(bomb)
    part = tmp_path / "unpacked" / "artifacts/segmenter"
    if not member.endswith("SHA256SUMS"):
        write_sums(part)
    with zipfile.ZipFile(version / ARCHIVE_NAME, "w") as file:
        for path in sorted((tmp_path / "unpacked").rglob("*")):
            file.write(path, path.relative_to(tmp_path / "unpacked"))
    write_sums(version)
    _read_everything(published, tmp_path / "served")
    for folder, load in ((tmp_path / "unpacked", load_bundle), (part, load_artifact)):
        try:
            load(folder)
        except ValueError:
            continue
    assert not (tmp_path / "executed").exists()


def test_pickled_weights_with_right_digests_are_refused(published: Path, bomb: bytes) -> None:
    folder = published / "segmenter/versions/1"
    (folder / "model.safetensors").write_bytes(bomb)
    write_sums(folder)
    with pytest.raises(ValueError, match="holds no safetensors"):
        load_artifact(folder)
