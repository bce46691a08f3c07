"""Shards as a LightningDataModule."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Sampler

from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_stream import (
    Batch,
    BatchRequest,
    ShardDataset,
    TrainBatchSampler,
    ValidationBatchSampler,
)


class ShardDataModule(LightningDataModule):
    """Batches from a folder of shards, see `shard_stream.Batch`.

    The trainer needs ``use_distributed_sampler=False``: the samplers here already give each
    process its share. Epoch and step come from the trainer's progress, so a training that
    continues from a checkpoint sees the batches that a training without interruption sees, on
    any number of processes. Nothing random is drawn from a global generator, and the number of
    workers changes no batch.

    Args:
        shards: folder with ``manifest.json`` and the tars.
        batch_size: samples of a global batch, all processes together.
        resolution: side of the images in a batch, in pixels.
        crop_size: side of the square cut out of a photo before resizing, at random in training
            and centered in validation; None takes the largest centered square.
        horizontal_flip: flip half of the training samples, labels too.
        require_labels: refuse shards with unlabeled samples; otherwise those get label map 0.
        num_workers: loader processes beside each training process; 0 reads in the process itself.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        *,
        shards: str | Path,
        batch_size: int,
        resolution: int,
        crop_size: int | None = None,
        horizontal_flip: bool = False,
        require_labels: bool = True,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {
            "batch_size": batch_size,
            "resolution": resolution,
            "crop_size": 1 if crop_size is None else crop_size,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.shards = Path(shards)
        self.batch_size = batch_size
        self.resolution = resolution
        self.crop_size = crop_size
        self.horizontal_flip = horizontal_flip
        self.require_labels = require_labels
        self.num_workers = num_workers
        self.seed = seed
        self._reader: ShardReader | None = None

    @property
    def manifest(self) -> ShardManifest:
        return self.reader.manifest

    @property
    def reader(self) -> ShardReader:
        if self._reader is None:
            self._reader = ShardReader(self.shards)
        return self._reader

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Open the shards and check that they have what training needs.

        Raises:
            ValueError: see `ShardReader`; or labels are required and missing.
        """
        unlabeled = [key for shard in self.manifest.shards for key in shard.unlabeled]
        if self.require_labels and unlabeled:
            raise ValueError(
                f"{len(unlabeled)} of {len(self.reader)} samples in {self.shards} have no label "
                f"map, for example {unlabeled[0]}: label them, or set require_labels=false for a "
                "training that uses photos alone"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        sampler = TrainBatchSampler(
            self.reader.sample_ids("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        return self._loader(sampler, augment=True, trainer=self.trainer)

    def val_dataloader(self) -> DataLoader[Batch]:
        sampler = ValidationBatchSampler(
            self.reader.sample_ids("val"),
            batch_size=self.batch_size,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        return self._loader(sampler, augment=False)

    def _loader(
        self, sampler: Sampler[BatchRequest], *, augment: bool, trainer: Trainer | None = None
    ) -> DataLoader[Batch]:
        dataset = ShardDataset(
            self.reader,
            resolution=self.resolution,
            crop_size=self.crop_size,
            augment=augment,
            horizontal_flip=self.horizontal_flip,
            seed=self.seed,
        )
        return _Loader(
            dataset,
            trainer,
            batch_size=None,  # The sampler yields requests for whole batches.
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # Leaves torch's global one alone.
        )


class _Loader(DataLoader[Batch]):
    """A DataLoader whose training sampler starts where the trainer's progress says.

    Lightning asks for the iterator before it has restored and set the epoch, and loader workers
    read ahead at once. As a generator the iterator starts with its first batch instead.
    """

    def __init__(self, dataset: ShardDataset, trainer: Trainer | None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.trainer = trainer

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.trainer is not None and isinstance(self.sampler, TrainBatchSampler):
            fit_loop = self.trainer.fit_loop
            self.sampler.set_epoch(
                fit_loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
                first_step=fit_loop.epoch_loop.batch_progress.current.ready,
            )
        yield from super().__iter__()

    # The trainer's progress is all the state there is; with these two Lightning knows that
    # resuming within an epoch is exact and does not warn.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
