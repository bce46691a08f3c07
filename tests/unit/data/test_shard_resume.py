"""Preparations that were stopped, and what the next one makes of their leftovers."""

from pathlib import Path

import pytest

from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import (
    Sample,
    SampleSource,
    UnusableFileError,
)
from neural_photo_editor.data.storage import ShardStorage
from tests.unit.data.portrait_source import Photos


def _write(source: SampleSource, out_dir: str | Path, **options: object) -> ShardManifest:
    arguments = {"name": "test", "samples_per_shard": 5, "val_fraction": 0.3} | options
    return write_shards(source, out_dir=out_dir, **arguments)  # type: ignore[arg-type]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _stopped(out_dir: Path, **options: object) -> None:
    """Leave two of four shards finished and a third one begun."""
    arguments = {"samples_per_shard": 3, "val_fraction": 0.0} | options
    with pytest.raises(KeyboardInterrupt):
        _write(Photos(stop_at=7), out_dir, **arguments)
    assert {"train-000000.done.json", "train-000001.done.json"} <= set(_bytes(out_dir))
    assert "train-000002.tar" not in _bytes(out_dir)


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    _write(Photos(), tmp_path / "undisturbed", samples_per_shard=3, val_fraction=0.0)
    content = _bytes(tmp_path / "undisturbed")
    assert set(content) == {"manifest.json", *(f"train-00000{number}.tar" for number in range(4))}
    return content


def test_a_stopped_preparation_is_not_a_data_set_and_goes_on(
    undisturbed: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out_dir = tmp_path / "out"
    _stopped(out_dir)
    with pytest.raises(ValueError, match="no data set in"):
        ShardManifest.load(out_dir)
    again = Photos()
    with caplog.at_level("INFO", logger="neural_photo_editor"):
        _write(again, out_dir, samples_per_shard=3, val_fraction=0.0)
    assert again._loaded == [6, 7, 8, 9, 10, 11]
    assert _bytes(out_dir) == undisturbed
    assert "2 of 4 shards are finished" in caplog.text
    assert "train-000002.tar written, 9 of 12 samples" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"jpeg_quality": 50},
        {"image_format": "png"},
        {"samples_per_shard": 2},
        {"val_fraction": 0.3},
        {"resume": False},
    ],
)
def test_other_settings_start_over(tmp_path: Path, options: dict[str, object]) -> None:
    _stopped(tmp_path / "out")
    arguments = {"samples_per_shard": 3, "val_fraction": 0.0} | options
    again = Photos()
    _write(again, tmp_path / "out", **arguments)
    assert sorted(again._loaded) == list(range(12))
    _write(Photos(), tmp_path / "fresh", **arguments)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "fresh")


def test_another_source_starts_over(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    _stopped(tmp_path / "out")
    _write(Photos(count=11), tmp_path / "out", samples_per_shard=3, val_fraction=0.0)
    assert _bytes(tmp_path / "out")["train-000000.tar"] == undisturbed["train-000000.tar"]

    class Renamed(Photos):
        pass

    _stopped(tmp_path / "other")
    again = Renamed()
    _write(again, tmp_path / "other", samples_per_shard=3, val_fraction=0.0)
    assert len(again._loaded) == 12


def test_damaged_leftovers_are_written_again(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    _stopped(out_dir)
    tar = out_dir / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    record = out_dir / "train-000001.done.json"
    record.write_bytes(record.read_bytes()[:100])
    again = Photos()
    _write(again, out_dir, samples_per_shard=3, val_fraction=0.0)
    assert again._loaded == list(range(12))
    assert _bytes(out_dir) == undisturbed


def test_a_shard_of_unusable_files_alone_is_tried_again(tmp_path: Path) -> None:
    class Unreadable(Photos):
        def load(self, index: int) -> Sample:
            if self._stop_at is None and index < 3:
                raise UnusableFileError("cut off")
            return super().load(index)

    broken = Unreadable()
    manifest = _write(broken, tmp_path / "out", samples_per_shard=3, val_fraction=0.0)
    assert [shard.file for shard in manifest.shards] == [f"train-00000{n}.tar" for n in (1, 2, 3)]
    assert [file.file for file in manifest.skipped] == [f"album/{n}.jpg" for n in range(3)]

    class NeverReadable(Photos):
        def load(self, index: int) -> Sample:
            raise UnusableFileError("cut off")

    with pytest.raises(ValueError, match=r"none of the 12 files is usable; album/0\.jpg: cut off"):
        _write(NeverReadable(), tmp_path / "none", samples_per_shard=3, val_fraction=0.0)
    assert _bytes(tmp_path / "none") == {}


def test_a_data_set_that_is_replaced_lends_no_finished_shards(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    _stopped(tmp_path / "out")  # Its records stay, as if the run had been killed after the last.
    (tmp_path / "out" / "manifest.json").write_bytes(undisturbed["manifest.json"])
    again = Photos()
    _write(again, tmp_path / "out", samples_per_shard=3, val_fraction=0.0, overwrite=True)
    assert again._loaded == list(range(12))
    assert _bytes(tmp_path / "out") == undisturbed


def test_an_object_store_gets_the_bytes_of_a_folder(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}/deep/set"
    _write(Photos(count=4), url, samples_per_shard=1, val_fraction=0.0)
    with pytest.raises(ValueError, match=r"memory://.*already holds a data set"):
        _write(Photos(), url, samples_per_shard=3, val_fraction=0.0)
    with pytest.raises(KeyboardInterrupt):
        _write(Photos(stop_at=7), url, samples_per_shard=3, val_fraction=0.0, overwrite=True)
    again = Photos()
    _write(again, url, samples_per_shard=3, val_fraction=0.0)
    assert again._loaded == [6, 7, 8, 9, 10, 11]
    storage = ShardStorage(url)
    assert {name: storage.read(name) for name in storage.names()} == undisturbed
    with pytest.raises(ValueError, match="set num_workers=1"):
        _write(Photos(), url, num_workers=2)
