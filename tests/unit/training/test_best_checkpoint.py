from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.best_checkpoint import BestCheckpoint
from neural_photo_editor.training.checkpoint import WholeFileCheckpointIO, read_checkpoint
from neural_photo_editor.training.last_checkpoint import LastCheckpoint
from neural_photo_editor.training.segmenter_module import SegmenterModule


class Scores(Callback):
    """Logs a metric with the given values: step -> value."""

    def __init__(self, values: dict[int, float]) -> None:
        self.values = values

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("val/score", self.values[trainer.global_step])


Train = Callable[..., int]


@pytest.fixture
def train(fit: Callable[..., Trainer], rates: dict[str, Any]) -> Train:
    """Train to the last of some steps, each with its score; return the step of the best one."""

    def run(run_dir: Path, values: dict[int, float], start: Path | None = None) -> int:
        torch.manual_seed(0)
        module = SegmenterModule(SegmentationUNet(widths=(8, 8)), resolution=32, **rates)
        fit(
            module,
            max_steps=max(values),
            val_check_interval=2,
            limit_val_batches=1,
            enable_checkpointing=True,
            plugins=[WholeFileCheckpointIO()],
            ckpt_path=start,
            callbacks=[
                Scores(values),
                BestCheckpoint(run_dir=run_dir, monitor="val/score", mode="max"),
                LastCheckpoint(run_dir=run_dir, every_n_steps=2, keep_every_n_steps=1),
            ],
        )
        step: int = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")["global_step"]
        return step

    return run


@pytest.mark.parametrize("folder", ["run", "moved"])
def test_only_a_better_one_replaces_it_wherever_the_run_goes_on(
    folder: str, train: Train, tmp_path: Path
) -> None:
    assert train(tmp_path / "run", {2: 0.7, 4: 0.9, 6: 0.8}) == 4
    run_dir = (tmp_path / "run").rename(tmp_path / folder)
    last = run_dir / "checkpoints" / "last.ckpt"
    assert train(run_dir, {8: 0.6}, last) == 4
    assert train(run_dir, {10: 0.95}, last) == 10
    assert [path.name for path in last.parent.glob("best*")] == ["best.ckpt"]


def test_another_run_has_a_best_one_of_its_own(train: Train, tmp_path: Path) -> None:
    first = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert train(tmp_path / "first", {2: 0.9}) == 2
    assert train(tmp_path / "second", {4: 0.5}, first) == 4
    # The same command again: what the second run left is not the first one's best.
    assert train(tmp_path / "second", {4: 0.4, 6: 0.6}, first) == 6
    assert train(tmp_path / "first", {4: 0.5}, first) == 2


def test_one_that_was_lost_is_written_anew(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    train(tmp_path, {2: 0.9})
    (folder / "best.ckpt").unlink()
    assert train(tmp_path, {4: 0.5}, folder / "last.ckpt") == 4


def test_a_run_goes_on_from_before_its_first_validation(train: Train, tmp_path: Path) -> None:
    assert train(tmp_path, {2: 0.9, 4: 0.8}) == 2
    assert train(tmp_path, {2: 0.5, 4: 0.6}, tmp_path / "checkpoints" / "step-000001.ckpt") == 4
