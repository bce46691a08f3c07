from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from neural_photo_editor.training.checkpoint import load_ema_weights, read_checkpoint
from neural_photo_editor.training.ema import EMA


class Regression(LightningModule):
    """Small module with a batch normalization, for its integer and its running buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.history: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.network(batch) - batch.sum(1, keepdim=True)).square().mean()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.history.append(copy_state(self.network))

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(copy_state(self.network))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def fit(
    module: LightningModule, folder: Path, *, max_steps: int, ckpt_path: Path | None = None
) -> None:
    torch.manual_seed(1)
    loader = DataLoader(torch.randn(40, 3), batch_size=4)
    trainer = Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        callbacks=[EMA(decay=0.8)],
        val_check_interval=max_steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, loader, loader, ckpt_path=ckpt_path, weights_only=True)
    trainer.save_checkpoint(folder / f"{max_steps}.ckpt", weights_only=False)


def reference(start: dict[str, Tensor], history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    average = {name: value.double() for name, value in start.items()}
    for n, state in enumerate(history, start=1):
        decay = min(0.8, (1 + n) / (10 + n))
        for name, value in state.items():
            average[name] = decay * average[name] + (1 - decay) * value.double()
    return average


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        if actual[name].is_floating_point():
            torch.testing.assert_close(actual[name].double(), value, atol=1e-6, rtol=1e-5)


def test_average_is_the_weighted_sum_and_the_raw_weights_stay(tmp_path: Path) -> None:
    module = Regression()
    start = copy_state(module.network)
    fit(module, tmp_path, max_steps=8)
    expected = reference(start, module.history)
    content = read_checkpoint(tmp_path / "8.ckpt")
    assert_close(content["ema"]["state_dict"], expected)
    # Validation ran with the average; training ended with the raw weights.
    assert_close(module.validated[0], expected)
    for name, value in module.network.state_dict().items():
        torch.testing.assert_close(value, module.history[-1][name])
        torch.testing.assert_close(content["state_dict"][f"network.{name}"], value)
    assert content["ema"]["state_dict"]["1.num_batches_tracked"].item() == 8


def test_load_ema_weights_reads_the_average_or_else_the_raw_weights(tmp_path: Path) -> None:
    module = Regression()
    fit(module, tmp_path, max_steps=5)
    content = read_checkpoint(tmp_path / "5.ckpt")
    other = Regression()
    load_ema_weights(other, tmp_path / "5.ckpt")
    for name, value in other.network.state_dict().items():
        torch.testing.assert_close(value, content["ema"]["state_dict"][name])
    assert not torch.equal(other.network[0].weight, module.network[0].weight)
    del content["ema"]
    torch.save(content, tmp_path / "raw.ckpt")
    load_ema_weights(other, tmp_path / "raw.ckpt")
    torch.testing.assert_close(other.network[0].weight, module.network[0].weight)


def test_resumed_average_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    module = Regression()
    start = copy_state(module.network)
    fit(module, tmp_path, max_steps=6)
    resumed = Regression()  # Other weights, as in a new process.
    fit(resumed, tmp_path, max_steps=12, ckpt_path=tmp_path / "6.ckpt")
    average = read_checkpoint(tmp_path / "12.ckpt")["ema"]
    assert average["num_updates"] == 12
    assert_close(average["state_dict"], reference(start, module.history + resumed.history))


def test_absent_checkpoint_and_bad_decay_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint at"):
        load_ema_weights(Regression(), tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match="decay is 1"):
        EMA(decay=1.0)


def test_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("unpickled",))

    torch.save({"state_dict": Payload()}, tmp_path / "bad.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        read_checkpoint(tmp_path / "bad.ckpt")
