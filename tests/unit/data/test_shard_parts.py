"""Parts of a preparation, in any order, together and alone."""

import threading
from itertools import permutations
from pathlib import Path

import pytest

from neural_photo_editor.data import shard_parts
from neural_photo_editor.data.shard_journal import FinishedShard
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_parts import write_part
from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import Sample, SampleSource, UnusableFileError
from neural_photo_editor.data.storage import ShardStorage
from tests.unit.data.portrait_source import Photos

SETTINGS = {"name": "test", "samples_per_shard": 2, "val_fraction": 0.3}


def _part(
    part: int,
    parts: int,
    out_dir: str | Path,
    source: SampleSource | None = None,
    **options: object,
) -> ShardManifest | None:
    arguments = SETTINGS | options
    return write_part(source or Photos(), part=part, parts=parts, out_dir=out_dir, **arguments)  # type: ignore[arg-type]


def _whole(out_dir: Path, source: SampleSource | None = None) -> dict[str, bytes]:
    write_shards(source or Photos(), out_dir=out_dir, **SETTINGS)  # type: ignore[arg-type]
    return _bytes(out_dir)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("order", permutations(range(3)), ids=str)
def test_parts_in_any_order_give_the_bytes_of_one_process(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    *first, last = [_part(part, 3, tmp_path / "out") for part in order]
    assert first == [None, None]
    assert last is not None
    assert _bytes(tmp_path / "out") == _whole(tmp_path / "whole")


def test_more_parts_than_shards_and_one_process_after_some_parts(tmp_path: Path) -> None:
    for part in range(9):
        manifest = _part(part, 9, tmp_path / "many")
    assert manifest is not None
    assert _part(0, 2, tmp_path / "begun") is None
    again = Photos()
    assert _whole(tmp_path / "begun", again) == _bytes(tmp_path / "many")
    assert len(again._loaded) < 12


def test_a_part_that_was_stopped_goes_on_and_disturbs_nobody(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        _part(0, 2, out_dir, Photos(stop_at=6))
    begun = [path for path in out_dir.iterdir() if path.name.endswith(".tmp")]
    assert len(begun) == 1
    finished = {path.name for path in out_dir.glob("*.done.json")}
    assert finished
    assert _part(1, 2, out_dir) is None
    assert begun[0].exists(), "what another part is writing was removed"
    again = Photos()
    assert _part(0, 2, out_dir, again) is not None
    assert 6 in again._loaded
    assert 0 not in again._loaded
    assert _bytes(out_dir) == _whole(tmp_path / "whole")


def test_parts_of_a_finished_data_set_do_nothing(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    for part in range(2):
        manifest = _part(part, 2, out_dir)
    before = _bytes(out_dir)
    again = Photos()
    assert _part(0, 2, out_dir, again) == manifest
    assert again._loaded == []
    assert _bytes(out_dir) == before
    for other in (
        {"samples_per_shard": 1},
        {"val_fraction": 0.0},
        {"image_format": "png"},
        {"source": Photos(count=11)},
    ):
        with pytest.raises(ValueError, match="another data set: choose another out_dir"):
            _part(0, 2, out_dir, **other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another jpeg_quality than 94"):
        _part(0, 2, out_dir, jpeg_quality=94)


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_a_part_of_a_finished_data_set_in_an_object_store_does_nothing(
    image_format: str, tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}/set"
    manifest = _part(0, 1, url, image_format=image_format)
    assert manifest is not None
    assert _part(0, 1, url, image_format=image_format) == manifest
    if image_format == "jpg":
        with pytest.raises(ValueError, match="another jpeg_quality than 60"):
            _part(0, 1, url, jpeg_quality=60)


def test_two_parts_may_find_that_they_were_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found all records before either writes the manifest and removes them."""
    both, found = threading.Barrier(2), shard_parts.find_finished

    def find_together(*arguments: object, **options: object) -> dict[str, FinishedShard]:
        if options.get("with_empty"):
            both.wait()  # All tars are there.
        records = found(*arguments, **options)  # type: ignore[arg-type]
        if options.get("with_empty"):
            both.wait()
        return records

    monkeypatch.setattr(shard_parts, "find_finished", find_together)
    results: dict[int, ShardManifest | None] = {}
    threads = [
        threading.Thread(target=lambda p=part: results.update({p: _part(p, 2, tmp_path / "out")}))
        for part in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == verify(tmp_path / "out")
    assert _bytes(tmp_path / "out") == _whole(tmp_path / "whole")


def test_records_that_go_while_they_are_read_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other part has just written the manifest and removes the records."""
    out_dir, names = tmp_path / "out", ShardStorage.names
    assert _part(0, 2, out_dir) is None

    def names_before_removal(storage: ShardStorage) -> list[str]:
        found = names(storage)
        if len([name for name in found if name.endswith(".done.json")]) > 3:
            for name in found[:2]:
                storage.remove(name)
        return found

    monkeypatch.setattr(ShardStorage, "names", names_before_removal)
    assert _part(1, 2, out_dir) is None


class FirstUnreadable(Photos):
    def load(self, index: int) -> Sample:
        if index < 4:
            raise UnusableFileError("cut off")
        return super().load(index)


def test_a_shard_without_a_usable_sample_counts_as_finished(tmp_path: Path) -> None:
    for part in (1, 0):
        manifest = _part(part, 2, tmp_path / "out", FirstUnreadable())
    assert manifest is not None
    assert len(manifest.skipped) == 4
    assert _bytes(tmp_path / "out") == _whole(tmp_path / "whole", FirstUnreadable())


def test_shards_of_an_earlier_preparation_go(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_shards(
            Photos(stop_at=11), out_dir=out_dir, name="test", samples_per_shard=1, val_fraction=0.0
        )
    for part in range(2):
        _part(part, 2, out_dir)
    assert _bytes(out_dir) == _whole(tmp_path / "whole")


def test_an_object_store_gets_the_same_bytes(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/set"
    assert _part(1, 2, url) is None
    assert _part(0, 2, url) is not None
    storage = ShardStorage(url)
    assert {name: storage.read(name) for name in storage.names()} == _whole(tmp_path / "whole")


@pytest.mark.parametrize(("part", "parts"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(part: int, parts: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part must be 0 to"):
        _part(part, parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("moment", ["fingerprint_preparation", "remove_leftovers"])
def test_a_part_started_again_spares_a_data_set_that_another_finishes_meanwhile(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = tmp_path / "out"
    finished: list[ShardManifest | None] = []
    assert _part(0, 2, out_dir, FirstUnreadable()) is None
    function = getattr(shard_parts, moment)

    def after_the_other_part(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(shard_parts, moment, function)
        finished.append(_part(1, 2, out_dir, FirstUnreadable()))
        return function(*arguments, **options)

    monkeypatch.setattr(shard_parts, moment, after_the_other_part)
    again = FirstUnreadable()
    assert [_part(0, 2, out_dir, again)] == finished
    assert again._loaded == []
    assert _bytes(out_dir) == _whole(tmp_path / "whole", FirstUnreadable())
