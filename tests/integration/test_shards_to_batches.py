"""Shards through Lightning's trainer: each step's samples, resumed or on several processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor

from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_stream import Batch
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.training.strategies import leave_group_at_exit

ROOT = Path(__file__).parents[2]

# (split, epoch, step) -> (sample id, sum of its pixels) of the global batch's samples
Record = dict[tuple[str, int, int], list[tuple[int, int]]]


class Recorder(LightningModule):
    """Writes the sample ids of each step, and a checksum of the pixels, to a file per process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def setup(self, stage: str) -> None:
        leave_group_at_exit()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._record("train", batch, batch_idx)
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._record("val", batch, batch_idx)
        self.log("val/mean", batch["image"].float().mean(), sync_dist=True, on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def _record(self, split: str, batch: Batch, step: int) -> None:
        line = {
            "step": [split, self.current_epoch, step],
            "rank": self.global_rank,
            "ids": batch["sample_id"].tolist(),
            "pixels": batch["image"].flatten(1).long().sum(1).tolist(),
        }
        with (self.folder / f"rank{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(21):
        photo = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / "photos" / f"{number}.png")
    source = ImageFolder(folder=folder / "photos")
    write_shards(
        source, out_dir=folder / "shards", name="test", samples_per_shard=5, val_fraction=0.25
    )
    return folder / "shards"


def _data(shards: Path, **options: int) -> ShardDataModule:
    return ShardDataModule(
        shards=shards,
        batch_size=4,
        resolution=16,
        crop_size=16,
        horizontal_flip=True,
        require_labels=False,
        seed=11,
        **options,
    )


def _fit(
    shards: Path,
    folder: Path,
    *,
    max_epochs: int = -1,
    max_steps: int = -1,
    num_workers: int = 0,
    processes: int = 1,
    saver: ModelCheckpoint | None = None,
    checkpoint: Path | None = None,
) -> None:
    folder.mkdir(exist_ok=True)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_spawn" if processes > 1 else "auto",
        max_epochs=max_epochs,
        max_steps=max_steps,
        callbacks=[saver] if saver else [],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=saver is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Recorder(folder), _data(shards, num_workers=num_workers), ckpt_path=checkpoint)


def _record(folder: Path) -> Record:
    """Join what the processes wrote, in the order of their ranks."""
    record: Record = {}
    for path in sorted(folder.glob("rank*.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            pairs = list(zip(line["ids"], line["pixels"], strict=True))
            record.setdefault(tuple(line["step"]), []).extend(pairs)
    return record


@pytest.fixture(scope="module")
def whole_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("whole")
    _fit(shards, folder, max_epochs=3)
    return _record(folder)


def test_the_trainer_sees_the_samplers_epochs(shards: Path, whole_run: Record) -> None:
    data = _data(shards)
    loader = data.train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for step, batch in enumerate(loader):
            assert [i for i, _ in whole_run["train", epoch, step]] == batch["sample_id"].tolist()
    epochs = [[whole_run["train", epoch, step] for step in range(len(loader))] for epoch in (0, 1)]
    assert epochs[0] != epochs[1]
    val = [i for step in range(2) for i, _ in whole_run["val", 2, step]]
    assert val == data.reader.sample_ids("val").tolist()


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 6, 8])
def test_a_resumed_training_continues_with_the_next_batch(
    shards: Path, tmp_path: Path, whole_run: Record, num_workers: int, stop_after: int
) -> None:
    """A checkpoint within an epoch (of 4 steps), on its last step, and within the second."""
    checkpoint = ModelCheckpoint(tmp_path / "stop", every_n_train_steps=stop_after, filename="stop")
    _fit(shards, tmp_path / "a", max_steps=stop_after, num_workers=num_workers, saver=checkpoint)
    _fit(
        shards,
        tmp_path / "b",
        max_steps=12,
        num_workers=num_workers,
        checkpoint=tmp_path / "stop" / "stop.ckpt",
    )
    before, after = _record(tmp_path / "a"), _record(tmp_path / "b")
    train = {step for step in whole_run if step[0] == "train"}
    assert {step for step in before if step[0] == "train"} == set(sorted(train)[:stop_after])
    assert {step for step in after if step[0] == "train"} == set(sorted(train)[stop_after:])
    assert before | after == whole_run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_two_processes_continue_what_one_began(
    shards: Path, tmp_path: Path, whole_run: Record
) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "stop", every_n_train_steps=6, filename="stop")
    _fit(shards, tmp_path / "a", max_steps=6, saver=checkpoint)
    _fit(
        shards,
        tmp_path / "b",
        max_steps=12,
        processes=2,
        checkpoint=tmp_path / "stop" / "stop.ckpt",
    )
    assert len(list((tmp_path / "b").glob("rank*.jsonl"))) == 2
    assert _record(tmp_path / "a") | _record(tmp_path / "b") == whole_run


@pytest.mark.parametrize("name", ["photos", "labeled_photos", "photo_crops"])
def test_the_configurations_build_the_datamodule(shards: Path, name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = compose(f"data/{name}", overrides=[f"data.shards={shards}"])
    data = instantiate(config.data)
    assert isinstance(data, ShardDataModule)
    assert data.require_labels == (name == "labeled_photos")
    assert data.crop_size == (128 if name == "photo_crops" else None)
