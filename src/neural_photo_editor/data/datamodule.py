"""Shards as a LightningDataModule."""

import multiprocessing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Sampler

from neural_photo_editor.common.batch_split import split_batch
from neural_photo_editor.data.augmentation import ColorJitter
from neural_photo_editor.data.batch_memory import BatchMemory
from neural_photo_editor.data.damage import DamageRecord, OnDamage
from neural_photo_editor.data.loader_workers import start_worker
from neural_photo_editor.data.placement import RandomPlacement
from neural_photo_editor.data.quality_loss import QualityLoss
from neural_photo_editor.data.shard_dataset import ShardDataset, open_batch
from neural_photo_editor.data.shard_manifest import ShardManifest, Split
from neural_photo_editor.data.shard_prefetch import ShardPrefetcher, Window
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_stream import (
    Batch,
    BatchRequest,
    TrainBatchSampler,
    ValidationBatchSampler,
)
from neural_photo_editor.data.storage import DEFAULT_CACHE_BYTES, ShardStorage

_PREFETCH_FACTOR = 2  # batches that a worker reads ahead, DataLoader's default


class ShardDataModule(LightningDataModule):
    """Batches from shards in a folder or an object store, see `shard_stream.Batch`.

    The trainer needs ``use_distributed_sampler=False``: the samplers here already give each
    process its share. Epoch and step come from the trainer's progress, so a training that
    continues from a checkpoint sees the batches that a training without interruption sees, on
    any number of processes. A global batch comes in as many passes as `max_batch_per_device`
    makes of it, whose number the trainer's ``accumulate_grad_batches`` must be. Nothing random is
    drawn from a global generator, and the number of workers changes no batch.

    Args:
        shards: folder with ``manifest.json`` and the tars, or its URL, see `ShardStorage`.
        batch_size: samples of a global batch, all processes together.
        max_batch_per_device: the most samples that a device takes at once, see `split_batch`.
        resolution: side of the images in a batch, in pixels.
        crop_size: side of the square cut out of a photo before resizing, at random in training
            and centered in validation; None takes the largest centered square.
        horizontal_flip: flip half of the training samples, labels too.
        placement: rotate, scale and shift training samples at random, see `RandomPlacement`.
        color_jitter: change the training samples' colors at random, see `ColorJitter`.
        quality_loss: make some gray, blurred or compressed, see `QualityLoss`.
        require_labels: refuse shards with unlabeled samples; otherwise those get label map 0.
        num_workers: loader processes beside each training process; 0 reads in the process itself.
        shuffle_shards: shards whose samples are shuffled jointly, see `epoch_order`; remote
            reading needs about that many in the cache.
        on_damage: "stop" ends the training at a sample that cannot be read; "skip" replaces it
            by another of its global batch, warns and counts.
        cache_dir, cache_bytes: copies of remote shards, see `ShardStorage`.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        *,
        shards: str | Path,
        batch_size: int,
        resolution: int,
        max_batch_per_device: int | None = None,
        crop_size: int | None = None,
        horizontal_flip: bool = False,
        placement: RandomPlacement | Mapping[str, float] | None = None,
        color_jitter: ColorJitter | Mapping[str, float] | None = None,
        quality_loss: QualityLoss | Mapping[str, Any] | None = None,
        require_labels: bool = True,
        num_workers: int = 0,
        shuffle_shards: int = 16,
        on_damage: OnDamage = "stop",
        cache_dir: str | Path | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {
            "batch_size": batch_size,
            "resolution": resolution,
            "shuffle_shards": shuffle_shards,
            "crop_size": 1 if crop_size is None else crop_size,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if on_damage not in get_args(OnDamage):
            raise ValueError(f'on_damage must be "stop" or "skip", not {on_damage!r}')
        self.storage = ShardStorage(
            shards,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            cache_bytes=cache_bytes,
        )
        self.batch_size = batch_size
        self.max_batch_per_device = max_batch_per_device
        self.resolution = resolution
        self.crop_size = crop_size
        self.horizontal_flip = horizontal_flip
        self.placement = (
            RandomPlacement(**placement) if isinstance(placement, Mapping) else placement
        )
        self.color_jitter = (
            ColorJitter(**color_jitter) if isinstance(color_jitter, Mapping) else color_jitter
        )
        self.quality_loss = (
            QualityLoss(**quality_loss) if isinstance(quality_loss, Mapping) else quality_loss
        )
        self.require_labels = require_labels
        self.num_workers = num_workers
        self.shuffle_shards = shuffle_shards
        self.on_damage = on_damage
        self.damage = DamageRecord()
        self.seed = seed
        self._reader: ShardReader | None = None

    @property
    def manifest(self) -> ShardManifest:
        return self.reader.manifest

    @property
    def reader(self) -> ShardReader:
        if self._reader is None:
            # Loader workers read ahead of the training, into the next window.
            self._reader = ShardReader(self.storage, max_open_shards=2 * self.shuffle_shards)
        return self._reader

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read the manifest and check that the shards have what training needs.

        Raises:
            ValueError: see `ShardReader`; a shard of a local folder is missing; the cache is too
                small; or labels are required and missing.
        """
        if self.on_damage == "stop":
            self.reader.check_complete()
        self._check_cache()
        unlabeled = [key for shard in self.manifest.shards for key in shard.unlabeled]
        if self.require_labels and unlabeled:
            raise ValueError(
                f"{len(unlabeled)} of {len(self.reader)} samples in {self.storage} have no label "
                f"map, for example {unlabeled[0]}: label them, or set require_labels=false for a "
                "training that uses photos alone"
            )

    def _check_cache(self) -> None:
        if self.storage.cache is None:
            return
        sizes = sorted((shard.bytes for shard in self.manifest.shards), reverse=True)
        needed, have = sum(sizes[: 2 * self.shuffle_shards]), self.storage.cache.max_bytes
        if have < needed:
            raise ValueError(
                f"cache_bytes is {have}, but two windows of {self.shuffle_shards} shards of "
                f"{self.storage} take {needed}: with less, shards would be fetched for single "
                "samples; raise cache_bytes or lower shuffle_shards"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        rank, world_size = self._place()
        sampler = TrainBatchSampler(
            self.reader.sample_ids("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            accumulation=self._accumulation(world_size),
            shard_sizes=[len(shard.keys) for shard in self.reader.shards("train")],
            shuffle_shards=self.shuffle_shards,
        )
        return self._loader(sampler, augment=True, trainer=self.trainer)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._held_out("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._held_out("test")

    def _held_out(self, split: Split) -> DataLoader[Batch]:
        rank, world_size = self._place()
        sampler = ValidationBatchSampler(
            self.reader.sample_ids(split),
            batch_size=self.batch_size,
            rank=rank,
            world_size=world_size,
            accumulation=self._accumulation(world_size),
        )
        return self._loader(sampler, augment=False)

    def _place(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _feeds_gpu(self) -> bool:
        if self.trainer is None:
            return torch.cuda.is_available()
        # A machine with a GPU may train on its CPU.
        return bool(self.trainer.strategy.root_device.type == "cuda")

    def _accumulation(self, world_size: int) -> int:
        split = split_batch(
            self.batch_size,
            processes=world_size,
            max_batch_per_device=self.max_batch_per_device,
        )
        return split.accumulation

    def _loader(
        self, sampler: Sampler[BatchRequest], *, augment: bool, trainer: Trainer | None = None
    ) -> DataLoader[Batch]:
        memory = self._memory(sampler)
        dataset = ShardDataset(
            self.reader,
            resolution=self.resolution,
            crop_size=self.crop_size,
            augment=augment,
            horizontal_flip=self.horizontal_flip,
            placement=self.placement,
            color_jitter=self.color_jitter,
            quality_loss=self.quality_loss,
            skip_damaged=self.on_damage == "skip",
            seed=self.seed,
            memory=memory,
        )
        return _Loader(
            dataset,
            trainer,
            self.damage,
            batch_size=None,  # The sampler yields requests for whole batches.
            sampler=sampler,
            num_workers=self.num_workers,
            prefetch_factor=_PREFETCH_FACTOR if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context="fork" if memory else None,
            pin_memory=self._feeds_gpu(),
            generator=torch.Generator().manual_seed(self.seed),  # Leaves torch's global one alone.
            worker_init_fn=start_worker,
        )

    def _memory(self, sampler: Sampler[BatchRequest]) -> BatchMemory | None:
        """Return memory for the loader workers' batches where it helps.

        Validation stops early and drops batches unseen, whose slots would be lost; with a GPU
        torch's own thread copies each batch to pinned memory, which needs torch's own batches.
        """
        if not isinstance(sampler, TrainBatchSampler) or not self.num_workers:
            return None
        if self._feeds_gpu():
            return None
        if "fork" not in multiprocessing.get_all_start_methods():
            return None
        return BatchMemory(
            num_workers=self.num_workers,
            slots_per_worker=_PREFETCH_FACTOR + 2,
            batch_size=sampler.per_device,
            resolution=self.resolution,
        )


class _Loader(DataLoader[Batch]):
    """A DataLoader whose training sampler starts where the trainer's progress says.

    Lightning asks for the iterator before it has restored and set the epoch, and loader workers
    read ahead at once. As a generator the iterator starts with its first batch instead.
    Damage that the workers met is recorded here, in the training process.
    """

    def __init__(
        self, dataset: ShardDataset, trainer: Trainer | None, damage: DamageRecord, **options: Any
    ) -> None:
        # The batches are opened on their way out.
        super().__init__(dataset, **options)  # type: ignore[arg-type]
        self.reader = dataset.reader
        self.memory = dataset.memory
        self.trainer = trainer
        self.damage = damage

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if not isinstance(self.sampler, TrainBatchSampler):
            yield from self._recorded()
            return
        passes = self.sampler.accumulation
        if self.trainer is not None:
            fit_loop = self.trainer.fit_loop
            self.sampler.set_epoch(
                fit_loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
                first_step=fit_loop.epoch_loop.batch_progress.current.ready // passes,
            )
        with self._prefetcher(self.sampler) as prefetcher:
            for number, batch in enumerate(self._recorded(), self.sampler.first_step * passes):
                prefetcher.reached(number // passes)
                yield batch

    def _recorded(self) -> Iterator[Batch]:
        for sent in super().__iter__():
            batch = open_batch(sent, self.memory)
            if damaged := batch.pop("damaged", None):
                self.damage.add(damaged)
            yield batch

    def _prefetcher(self, sampler: TrainBatchSampler) -> ShardPrefetcher:
        storage, shards = self.reader.storage, self.reader.shards("train")
        windows = []
        for from_step, numbers in sampler.windows_ahead() if storage.cache else ():
            # Each process of a machine begins elsewhere, so that they fetch side by side.
            first = sampler.rank % len(numbers)
            ordered = [shards[number] for number in numbers[first:] + numbers[:first]]
            windows.append(Window(from_step, ordered))
        return ShardPrefetcher(storage, windows)

    # The trainer's progress is all the state there is; with these two Lightning knows that
    # resuming within an epoch is exact and does not warn.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
