from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_order import epoch_order
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.shard_stream import Batch
from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.storage import ShardStorage


def _module(shards: Path | str, **options: object) -> ShardDataModule:
    arguments: dict[str, object] = {"batch_size": 4, "resolution": 16, "crop_size": 24}
    arguments |= {"shards": str(shards), "horizontal_flip": True, "seed": 3} | options
    module = ShardDataModule(**arguments)  # type: ignore[arg-type]
    module.setup("fit")
    return module


def _equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a["image"], b["image"])
        and torch.equal(a["labels"], b["labels"])
        and torch.equal(a["sample_id"], b["sample_id"])
        for a, b in zip(one, two, strict=True)
    )


def test_the_number_of_workers_changes_no_batch(shards: Path) -> None:
    loaders = [_module(shards, num_workers=workers).train_dataloader() for workers in (0, 2)]
    epochs = []
    for epoch in range(2):  # The workers stay alive from epoch to epoch.
        for loader in loaders:
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        one, two = (list(loader) for loader in loaders)
        assert _equal(one, two)
        assert len(one) == len(loaders[0])
        epochs.append(one)
    assert not _equal(*epochs)


@pytest.mark.parametrize(("root_device", "on_gpu"), [("cpu", False), ("cuda", True), (None, True)])
def test_batches_are_prepared_for_the_device_that_trains(
    shards: Path, root_device: str | None, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    module = _module(shards, num_workers=1)
    if root_device is not None:
        strategy = SimpleNamespace(root_device=torch.device(root_device))
        module.trainer = SimpleNamespace(  # type: ignore[assignment]
            strategy=strategy, global_rank=0, world_size=1
        )
    loader = module.train_dataloader()
    assert loader.pin_memory == on_gpu
    assert (loader.memory is None) == on_gpu  # type: ignore[attr-defined]


def test_the_global_generators_are_neither_read_nor_moved(shards: Path) -> None:
    runs = []
    for ambient_seed in (1, 2):
        torch.manual_seed(ambient_seed)
        state = torch.get_rng_state()
        module = _module(shards)
        runs.append(list(module.train_dataloader()) + list(module.val_dataloader()))
        assert torch.equal(torch.get_rng_state(), state)
    assert _equal(*runs)


def test_training_and_validation_share_no_sample(shards: Path) -> None:
    module = _module(shards)
    train = {i for batch in module.train_dataloader() for i in batch["sample_id"].tolist()}
    val = [i for batch in module.val_dataloader() for i in batch["sample_id"].tolist()]
    assert len(val) == module.manifest.num_samples("val") == len(set(val))
    assert not train & set(val)
    assert all(one < two for one, two in pairwise(val))


def test_validation_is_not_augmented(shards: Path) -> None:
    plain = _module(shards, horizontal_flip=False, seed=99)
    assert _equal(list(_module(shards).val_dataloader()), list(plain.val_dataloader()))


def test_the_manifest_names_the_data(shards: Path) -> None:
    assert _module(shards).manifest.digest == verify(shards).digest


def test_missing_labels_are_refused_before_training_or_zero(
    photo_folder: Path, tmp_path: Path
) -> None:
    source = ImageFolder(folder=photo_folder / "photos")
    write_shards(source, out_dir=tmp_path, name="test", val_fraction=0.3)
    with pytest.raises(ValueError, match=r"23 of 23 samples in .* require_labels=false"):
        _module(tmp_path)
    batch = next(iter(_module(tmp_path, require_labels=False).train_dataloader()))
    assert batch["labels"].shape == (4, 16, 16)
    assert not batch["labels"].any()


def test_a_data_set_without_validation_split_has_no_validation_batches(
    labeled_photos: ImageFolder, tmp_path: Path
) -> None:
    write_shards(labeled_photos, out_dir=tmp_path, name="test", val_fraction=0.0)
    assert list(_module(tmp_path).val_dataloader()) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_sample_stops_the_training_and_is_named(shards: Path, num_workers: int) -> None:
    module = _module(shards, num_workers=num_workers)
    path = shards / "train-000001.tar"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CorruptSampleError, match=r"train-000001\.tar, member \d\d\.png"):
        list(module.train_dataloader())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipped_damage_is_counted_and_each_sample_named_once(
    shards: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = shards / "train-000001.tar"
    path.write_bytes(bytes(path.stat().st_size))
    module = _module(shards, num_workers=num_workers, on_damage="skip")
    num = len(module.manifest.shards[1].keys)
    lost = set(range(num, 2 * num))  # The shards before the last are of the same size.
    loader = module.train_dataloader()
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert not lost & {i for batch in batches for i in batch["sample_id"].tolist()}
        assert all("damaged" not in batch for batch in batches)
    asked = {i for request in loader.sampler for i in request.sample_ids} & lost
    assert module.damage.skipped_samples == 2 * len(asked) > 0
    warnings = [text for text in caplog.messages if "replaced a damaged sample" in text]
    assert len(warnings) == len(asked)
    assert all("train-000001.tar, member " in text for text in warnings)


def test_a_missing_shard_is_found_before_training(shards: Path) -> None:
    (shards / "train-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"train-000002\.tar is missing"):
        _module(shards)
    assert list(_module(shards, on_damage="skip").train_dataloader())


def test_the_order_keeps_to_windows_of_shards(shards: Path) -> None:
    module = _module(shards, shuffle_shards=1, batch_size=1)
    sizes = [len(shard.keys) for shard in module.reader.shards("train")]
    ids = [i for batch in module.train_dataloader() for i in batch["sample_id"].tolist()]
    order = epoch_order(sizes, seed=3, epoch=0, shuffle_shards=1)
    assert ids == order.tolist() != sorted(ids)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[ids]
    assert np.count_nonzero(np.diff(shard_of)) == len(sizes) - 1


def test_a_cache_smaller_than_two_windows_is_refused(shards: Path, tmp_path: Path) -> None:
    storage = ShardStorage("memory://test-a-small-cache")
    for path in shards.iterdir():
        storage.write(path.name, path)
    sizes = sorted(shard.bytes for shard in ShardReader(storage).manifest.shards)
    options = {"cache_dir": tmp_path / "cache", "shuffle_shards": 1}
    with pytest.raises(ValueError, match=r"raise cache_bytes or lower shuffle_shards"):
        _module(str(storage), **options, cache_bytes=sum(sizes[-2:]) - 1)
    module = _module(str(storage), **options, cache_bytes=sum(sizes[-2:]))
    assert _equal(
        list(module.train_dataloader()),
        list(_module(shards, shuffle_shards=1).train_dataloader()),
    )


def test_an_unknown_way_with_damage_is_refused(shards: Path) -> None:
    with pytest.raises(ValueError, match='on_damage must be "stop" or "skip"'):
        _module(shards, on_damage="ignore")


@pytest.mark.parametrize("name", ["batch_size", "resolution", "crop_size", "shuffle_shards"])
def test_sizes_are_checked(shards: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        _module(shards, **{name: 0})
