"""Steps with NaN or infinite gradients, through the real modules, optimizers and Lightning."""

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from neural_photo_editor.networks.discriminator import Discriminator
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from neural_photo_editor.training.checkpoint import read_checkpoint
from neural_photo_editor.training.ema import EMA
from neural_photo_editor.training.exit_codes import NONFINITE
from neural_photo_editor.training.nonfinite import REPORT_NAME, NonFiniteGuard
from neural_photo_editor.training.optimizers import muon
from neural_photo_editor.training.portrait_module import PortraitModule
from neural_photo_editor.training.segmenter_module import SegmenterModule
from neural_photo_editor.training.srgan_module import SRGANModule

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "fused adam": partial(torch.optim.Adam, lr=1e-3, fused=True),
    "muon": partial(muon, lr=0.02, adamw_lr=1e-3),
}


class Poison(Callback):
    """Puts a value into one weight's gradient or into the images at the given steps."""

    def __init__(self, *steps: int, value: float = float("nan"), images: bool = False) -> None:
        self.steps, self.value, self.in_images = steps, value, images
        self.states: list[dict[str, Any]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, PortraitModule)
        step = trainer.global_step + 1
        if self.in_images:
            images = PortraitModule.images(pl_module, batch) * (
                self.value if step in self.steps else 1.0
            )
            pl_module.images = lambda batch: images  # type: ignore[method-assign]

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.in_images and trainer.global_step + 1 in self.steps:
            next(p for p in pl_module.parameters() if p.grad is not None).grad[0] = self.value

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        ema = next(c for c in trainer.callbacks if isinstance(c, EMA))
        state = {
            "module": pl_module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "ema": ema._average,
        }
        self.states.append(copy.deepcopy(state))


def segmenter(rates: dict[str, Any], **settings: Any) -> SegmenterModule:
    torch.manual_seed(0)
    network = SegmentationUNet(widths=(32, 32))
    return SegmenterModule(network, resolution=32, **{**rates, **settings})


def srgan(rates: dict[str, Any]) -> SRGANModule:
    torch.manual_seed(0)
    return SRGANModule(
        SRResNet(scale=4, width=8, num_blocks=1),
        discriminator=Discriminator(widths=(8, 8), dense_width=8),
        perceptual=None,
        scale=4,
        resolution=32,
        discriminator_optimizer=rates["optimizer"],
        discriminator_lr_scheduler=rates["lr_scheduler"],
        pretrain_steps=1,
        pixel_weight=1.0,
        perceptual_weight=0.0,
        adversarial_weight=0.1,
        **rates,
    )


def train(
    fit: Callable[..., Trainer],
    module: LightningModule,
    poison: Poison,
    folder: Path,
    **kwargs: Any,
) -> NonFiniteGuard:
    """Train 6 steps, or as many as are given, with the average and the guard."""
    guard = NonFiniteGuard(run_dir=folder, **kwargs.pop("guard", {}))
    callbacks = [EMA(decay=0.9), guard, *kwargs.pop("callbacks", []), poison]
    fit(module, **{"max_steps": 6, "limit_val_batches": 0, **kwargs, "callbacks": callbacks})
    return guard


def leaves(value: Any, name: str = "") -> dict[str, Tensor]:
    """Return all numbers of a nested state, by their place in it."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, child in items for k, v in leaves(child, f"{name}/{key}").items()}
    is_rate = name.endswith(("/lr", "initial_lr"))  # The schedule may go on.
    return {name: torch.as_tensor(value)} if isinstance(value, Tensor | int) and not is_rate else {}


def different(one: dict[str, Any], two: dict[str, Any]) -> set[str]:
    first, second = leaves(one), leaves(two)
    return {
        name
        for name in first.keys() | second.keys()
        if name not in first or name not in second or not first[name].equal(second[name])
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("images", [False, True])
def test_a_bad_step_moves_nothing_at_all(
    optimizer: str,
    value: float,
    images: bool,
    rates: dict[str, Any],
    fit: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    """Also not the running statistics of batch norms, which the forward pass had changed."""
    poison = Poison(3, value=value, images=images)
    module = segmenter(rates, optimizer=OPTIMIZERS[optimizer])
    guard = train(fit, module, poison, tmp_path)
    assert guard.nonfinite_steps == 1
    assert len(poison.states) == 6
    assert not different(poison.states[1], poison.states[2])
    assert different(poison.states[2], poison.states[3])
    assert different(poison.states[0], poison.states[1])
    assert all(tensor.isfinite().all() for tensor in leaves(poison.states[-1]).values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_first_step_may_be_bad(
    optimizer: str, rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    module = segmenter(rates, optimizer=OPTIMIZERS[optimizer])
    before = copy.deepcopy(module.state_dict())
    poison = Poison(1, images=True)
    guard = train(fit, module, poison, tmp_path)
    assert guard.nonfinite_steps == 1
    assert not different(before, poison.states[0]["module"])
    assert all(tensor.isfinite().all() for tensor in leaves(poison.states[-1]).values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_the_check_the_nan_spreads(
    optimizer: str,
    rates: dict[str, Any],
    fit: Callable[..., Trainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PortraitModule, "skip_nonfinite", lambda self, norm, optimizer: None)
    poison = Poison(3, images=True)
    train(fit, segmenter(rates, optimizer=OPTIMIZERS[optimizer]), poison, tmp_path)
    for part in ("module", "optimizers", "ema"):
        state = leaves(poison.states[-1][part])
        assert not all(tensor.isfinite().all() for tensor in state.values()), part


def test_a_gans_networks_and_optimizers_stay_both(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    poison = Poison(3, images=True)
    guard = train(fit, srgan(rates), poison, tmp_path)
    assert guard.nonfinite_steps == 1
    assert not different(poison.states[1], poison.states[2])
    changed = different(poison.states[2], poison.states[3])
    assert any("discriminator" in name for name in changed)
    assert any("network" in name for name in changed)


def test_an_infinite_loss_with_finite_gradients_is_skipped(
    rates: dict[str, Any],
    fit: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    class Overflowing(SegmenterModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss + torch.inf if self.global_step == 2 else loss

    torch.manual_seed(0)
    poison = Poison()
    module = Overflowing(SegmentationUNet(widths=(32, 32)), resolution=32, **rates)
    assert train(fit, module, poison, tmp_path).nonfinite_steps == 1
    assert not different(poison.states[1], poison.states[2])


def test_the_row_that_is_logged_leaves_a_bad_step_out(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    module, trainer = segmenter(rates, optimizer=OPTIMIZERS["muon"]), None

    class Row(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.values = dict(trainer.callback_metrics)

    row = Row()
    train(fit, module, Poison(3, images=True), tmp_path, callbacks=[row])
    assert row.values["train/nonfinite_steps"] == 1
    assert row.values["train/loss"].isfinite()
    assert row.values["train/grad_norm"].isfinite()
    assert float(row.values["train/lr"]) == pytest.approx(0.02)
    assert float(row.values["train/lr_adamw"]) == pytest.approx(1e-3)
    assert trainer is None


class SaveAt(Callback):
    """Saves the checkpoint that a rollback goes to, after the given step."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.step = folder / "checkpoints" / "last.ckpt", step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_in_a_row_go_back_to_the_checkpoint_and_the_data_goes_on(
    optimizer: str, rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    poison = Poison(4, 5, 6, images=True)
    module = segmenter(rates, optimizer=OPTIMIZERS[optimizer])
    guard = train(fit, module, poison, tmp_path, max_steps=7, callbacks=[SaveAt(tmp_path, 2)])
    assert (guard.nonfinite_steps, guard.rollbacks) == (3, 1)
    assert not different(poison.states[2], poison.states[4])  # Two of them: nothing moves.
    assert not different(poison.states[1], poison.states[5])  # The third: back at step 2.
    assert different(poison.states[1], poison.states[6])
    report = json.loads((tmp_path / REPORT_NAME).read_text())
    assert [row["step"] for row in report["skipped"]] == [4, 5, 6]
    assert [row["sample_ids"][0] for row in report["skipped"]] == [0, 4, 8]
    assert [row["losses"] for row in report["skipped"]] == [["nan"]] * 3


@pytest.mark.parametrize(
    ("optimizer", "setting", "value"),
    [("adam", "betas", (0.5, 0.9)), ("muon", "weight_decay", 0.25)],
)
def test_settings_that_changed_since_the_checkpoint_stay_changed(
    optimizer: str,
    setting: str,
    value: Any,
    rates: dict[str, Any],
    fit: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    class Change(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            (self.optimizer,) = trainer.optimizers
            for group in self.optimizer.param_groups if trainer.global_step == 2 else ():
                group[setting] = value

    module = segmenter(rates, optimizer=OPTIMIZERS[optimizer])
    change, poison = Change(), Poison(4, 5, 6, images=True)
    guard = train(fit, module, poison, tmp_path, callbacks=[SaveAt(tmp_path, 2), change])
    assert guard.rollbacks == 1
    assert all(group[setting] == value for group in change.optimizer.param_groups)


def test_losses_that_stay_nan_end_the_training_with_their_samples(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    poison = Poison(*range(3, 100), images=True)
    guard = {"skips_before_rollback": 2, "max_rollbacks": 2}
    with pytest.raises(SystemExit) as ended:
        train(
            fit, segmenter(rates), poison, tmp_path,
            max_steps=50, guard=guard, callbacks=[SaveAt(tmp_path, 2)],
        )  # fmt: skip
    assert ended.value.code == NONFINITE
    report = json.loads((tmp_path / REPORT_NAME).read_text())
    assert report["rollbacks"] == 2
    assert [row["step"] for row in report["skipped"]] == [7, 8]
    assert report["skipped"][0]["sample_ids"] == [0, 1, 2, 3]
    assert report["skipped"][0]["epoch"] == 2


def test_good_steps_forgive_and_the_count_survives_a_resume(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    poison = Poison(2, 3, 6, 7, 10, 11, images=True)
    settings = {"skips_before_rollback": 2, "max_rollbacks": 1, "good_steps": 2}
    guard = train(fit, segmenter(rates), poison, tmp_path, max_steps=12, guard=settings)
    assert guard.nonfinite_steps == 6
    resumed = NonFiniteGuard(run_dir=tmp_path)
    resumed.load_state_dict(guard.state_dict())
    assert resumed.nonfinite_steps == 6


class PoisonOneRank(Poison):
    """Poisons the images of process 1 alone, and writes down where each process ends."""

    def __init__(self, *steps: int, folder: Path) -> None:
        super().__init__(*steps, images=True)
        self.folder, self.poisoned = folder, steps

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.steps = self.poisoned if trainer.global_rank == 1 else ()
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        guard = next(c for c in trainer.callbacks if isinstance(c, NonFiniteGuard))
        content = {"guard": guard.state_dict(), "module": pl_module.state_dict()}
        torch.save(content, self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_one_process_with_nan_makes_all_of_them_skip(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    """No message but the gradients tells the other; the report has the samples of both."""
    poison = PoisonOneRank(2, 3, 4, folder=tmp_path)
    train(fit, segmenter(rates), poison, tmp_path, devices=2, strategy="ddp_fork")
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one["guard"] == two["guard"] == {"nonfinite_steps": 3, "rollbacks": 1}
    assert not different(
        {n: v for n, v in one["module"].items() if "running" not in n},
        {n: v for n, v in two["module"].items() if "running" not in n},
    )
    assert all(tensor.isfinite().all() for tensor in leaves(two["module"]).values())
    rows = json.loads((tmp_path / REPORT_NAME).read_text())["skipped"]
    assert [(row["step"], row["rank"]) for row in rows] == [
        (s, r) for s in (2, 3, 4) for r in (0, 1)
    ]
    assert [row["losses"] == ["nan"] for row in rows] == [False, True] * 3


def test_there_may_be_no_checkpoint_to_go_back_to(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    poison = Poison(2, 3, 4, images=True)
    guard = train(fit, segmenter(rates), poison, tmp_path)
    assert guard.rollbacks == 1
    assert not different(poison.states[0], poison.states[3])
    assert different(poison.states[3], poison.states[4])


def test_a_report_that_cannot_be_written_does_not_stop_the_rollback(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    (tmp_path / REPORT_NAME).mkdir()
    poison = Poison(4, 5, 6, images=True)
    train(fit, segmenter(rates), poison, tmp_path, max_steps=7, callbacks=[SaveAt(tmp_path, 2)])
    assert not different(poison.states[1], poison.states[5])
    assert different(poison.states[1], poison.states[6])


@pytest.mark.parametrize("name", ["skips_before_rollback", "max_rollbacks", "good_steps"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        NonFiniteGuard(run_dir="x", **{name: 0})


def test_a_checkpoint_holds_no_trace_of_the_copy_of_buffers(
    rates: dict[str, Any], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    module = segmenter(rates)
    train(fit, module, Poison(), tmp_path, callbacks=[SaveAt(tmp_path, 2)])
    content = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert content["state_dict"].keys() == {f"network.{n}" for n in module.network.state_dict()}
    assert any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
