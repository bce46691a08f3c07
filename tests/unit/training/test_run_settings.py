from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import StepLR

from neural_photo_editor.common.batch_split import BatchSplit
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from neural_photo_editor.training.lr_schedule import warmup_cosine
from neural_photo_editor.training.run_settings import (
    adapt_networks,
    best_precision,
    check_parts,
    check_trainer,
    make_trainer,
    num_processes,
    resolve_auto,
    split_for_devices,
    trainer_arguments,
)
from neural_photo_editor.training.segmenter_module import SegmenterModule
from neural_photo_editor.training.strategies import make_strategy

TRAINER: dict[str, Any] = {
    "max_steps": 100,
    "accelerator": "cpu",
    "devices": "auto",
    "num_nodes": "auto",
    "strategy": "auto",
    "precision": "auto",
    "val_check_interval": 50,
    "log_every_n_steps": 10,
    "limit_val_batches": 16,
}
DATA: dict[str, Any] = {"batch_size": 8, "max_batch_per_device": None}


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables torchrun sets for 3 nodes of 4 processes."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("WORLD_SIZE", "12")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_steps", -1),
        ("max_steps", "many"),
        ("max_steps", True),
        ("val_check_interval", 0.5),
        ("log_every_n_steps", 0),
        ("precision", "16-mixed"),
        ("strategy", "ddp_spawn"),
        ("devices", 0),
        ("devices", "two"),
        ("num_nodes", -1),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.{setting} is"):
        check_trainer({**TRAINER, setting: value})


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("accumulate_grad_batches", r"no setting, .* data\.max_batch_per_device"),
        ("gradient_clip_val", r"no setting, .*: set module\.gradient_clip_norm"),
        ("callbacks", r"no setting, .*: add \+callbacks\.NAME"),
        ("typo", r"no argument of .*: correct the name"),
    ],
)
def test_what_the_trainer_would_ignore_is_no_setting(setting: str, remedy: str) -> None:
    check_trainer({**TRAINER, "max_time": "00:01:00:00"})
    with pytest.raises(ValueError, match=rf"trainer\.{setting} is {remedy}"):
        check_trainer({**TRAINER, setting: 2})


def test_what_no_configuration_changes_is_no_setting() -> None:
    module, split = LightningModule(), BatchSplit(8, 1)
    made = trainer_arguments(
        {**TRAINER, "devices": 1}, module=module, split=split, collective_timeout_s=60.0
    )
    for name in made.keys() - TRAINER.keys():
        with pytest.raises(ValueError, match=rf"trainer\.{name} is no setting"):
            check_trainer({**TRAINER, name: made[name]})


@pytest.mark.parametrize("setting", [{"limit_val_batches": "a"}, {"max_time": 5}])
def test_a_wrong_type_is_a_wrong_setting(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="trainer: a setting has a wrong type: "):
        make_trainer(accelerator="cpu", **setting)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optimizer": partial(torch.optim.Adam, momentum=0.9)}, "'momentum'; leave the argument"),
        ({"lr_scheduler": partial(warmup_cosine, warmup=1)}, "'warmup'; leave the argument"),
        ({"lr_scheduler": partial(StepLR, step_size=1)}, r"a StepLR, but .*\.warmup_cosine"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    changes: dict[str, Any], named: str, rates: dict[str, Any]
) -> None:
    data = LightningDataModule.from_datasets([0])
    network = SegmentationUNet(widths=(8, 8))
    check_parts(SegmenterModule(network, resolution=32, **rates), data)
    module = SegmenterModule(network, resolution=32, **{**rates, **changes})
    with pytest.raises(ValueError, match=f"module: .*{named}"):
        check_parts(module, data)


def test_lightning_counts_passes_where_the_configuration_counts_global_batches() -> None:
    module = LightningModule()
    trainer, data = {**TRAINER, "devices": 2}, {**DATA, "max_batch_per_device": 2}
    split = split_for_devices(trainer, data, module=module)
    assert split == (2, 2)
    arguments = trainer_arguments(trainer, module=module, split=split, collective_timeout_s=60.0)
    assert arguments["accumulate_grad_batches"] == 2
    assert arguments["val_check_interval"] == 100
    assert arguments["limit_val_batches"] == 32


def test_a_module_that_optimizes_by_itself_takes_its_share_at_once() -> None:
    module = LightningModule()
    module.automatic_optimization = False
    trainer, data = {**TRAINER, "devices": 2}, {**DATA, "max_batch_per_device": 2}
    assert split_for_devices({**trainer, "devices": 4}, data, module=module) == (2, 1)
    with pytest.raises(ValueError, match=r"data\.max_batch_per_device is 2.*start more processes"):
        split_for_devices(trainer, data, module=module)
    with pytest.raises(ValueError, match=r"trainer\.strategy is fsdp.*set trainer\.strategy=ddp"):
        make_strategy("fsdp", module=module, processes=2, timeout_s=60.0)


def test_networks_adapt_in_place() -> None:
    """Compiled and checkpointed, they have the gradients and the names in checkpoints of before."""

    def gradients() -> list[Tensor]:
        network.zero_grad()
        network(torch.linspace(-1, 1, 192).view(1, 3, 8, 8)).square().mean().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    module, network = LightningModule(), SRResNet(width=8, num_blocks=1)
    module.network = network
    names, expected = list(module.state_dict()), gradients()
    # The default backend needs a minute, and a C++ compiler on a CPU.
    network.compile = partial(network.compile, backend="eager")
    adapt_networks(module, compiled=True, activation_checkpointing=True)
    assert list(module.state_dict()) == names
    torch.testing.assert_close(gradients(), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.usefixtures("torchrun")
def test_torchrun_decides_the_number_of_processes(tmp_path: Path) -> None:
    assert num_processes(TRAINER) == 12
    _, resolved = resolve_auto(TRAINER, ckpt_path=None, run_dir=tmp_path)
    assert (resolved["num_nodes"], resolved["devices"], resolved["strategy"]) == (3, 4, "ddp")
    with pytest.raises(ValueError, match=r"trainer\.devices is 2, but torchrun started 4"):
        check_trainer({**TRAINER, "devices": 2})


def test_alone_a_run_is_one_process(tmp_path: Path) -> None:
    _, resolved = resolve_auto(TRAINER, ckpt_path=None, run_dir=tmp_path)
    assert (resolved["num_nodes"], resolved["devices"], resolved["strategy"]) == (1, 1, "auto")
    _, resolved = resolve_auto({**TRAINER, "devices": 2}, ckpt_path=None, run_dir=tmp_path)
    assert (resolved["devices"], resolved["strategy"]) == (2, "ddp")


def test_a_short_run_is_still_validated(tmp_path: Path) -> None:
    _, resolved = resolve_auto({**TRAINER, "max_steps": 7}, ckpt_path=None, run_dir=tmp_path)
    assert resolved["val_check_interval"] == 7


@pytest.mark.parametrize("launcher", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
@pytest.mark.parametrize("other_run", [True, False])
def test_a_launcher_that_starts_a_run_again_loses_nothing(
    launcher: str, other_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, last = tmp_path / "other.ckpt", tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    for path in (named, last):
        torch.save({"global_step": 5}, path)
    asked = str(named) if other_run else None
    monkeypatch.setenv(launcher, "0")
    assert resolve_auto(TRAINER, ckpt_path=asked, run_dir=tmp_path)[0] == asked
    monkeypatch.setenv(launcher, "1")
    assert resolve_auto(TRAINER, ckpt_path=asked, run_dir=tmp_path)[0] == str(last)
    last.unlink()  # It was stopped before the first checkpoint.
    assert resolve_auto(TRAINER, ckpt_path=asked, run_dir=tmp_path)[0] == asked


def test_a_checkpoint_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ckpt_path: there is no file .*typo\.ckpt"):
        resolve_auto(TRAINER, ckpt_path="typo.ckpt", run_dir=tmp_path)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ({"avx2": True, "avx512_f": True}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_cpu_precision_follows_the_hardware(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert best_precision(accelerator="cpu") == precision
