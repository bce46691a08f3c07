from pathlib import Path
from typing import Any

import pytest
import torch

from neural_photo_editor.training.run_settings import (
    best_precision,
    check_trainer,
    num_processes,
    resolve_auto,
)

TRAINER: dict[str, Any] = {
    "max_steps": 100,
    "accelerator": "cpu",
    "devices": "auto",
    "num_nodes": "auto",
    "strategy": "auto",
    "precision": "auto",
    "val_check_interval": 50,
    "log_every_n_steps": 10,
    "accumulate_grad_batches": 1,
}


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
        ("devices", 0),
        ("devices", "two"),
        ("num_nodes", -1),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.{setting} is"):
        check_trainer({**TRAINER, setting: value}, batch_size=8)


def test_batch_must_divide_among_the_processes() -> None:
    check_trainer({**TRAINER, "devices": 2}, batch_size=8)
    with pytest.raises(ValueError, match=r"data\.batch_size is 9; it counts all 2 processes"):
        check_trainer({**TRAINER, "devices": 2}, batch_size=9)


@pytest.mark.usefixtures("torchrun")
def test_torchrun_decides_the_number_of_processes(tmp_path: Path) -> None:
    assert num_processes(TRAINER) == 12
    _, resolved = resolve_auto(TRAINER, ckpt_path=None, run_dir=tmp_path)
    assert (resolved["num_nodes"], resolved["devices"], resolved["strategy"]) == (3, 4, "ddp")
    with pytest.raises(ValueError, match=r"trainer\.devices is 2, but torchrun started 4"):
        check_trainer({**TRAINER, "devices": 2}, batch_size=12)


def test_alone_a_run_is_one_process(tmp_path: Path) -> None:
    _, resolved = resolve_auto(TRAINER, ckpt_path=None, run_dir=tmp_path)
    assert (resolved["num_nodes"], resolved["devices"], resolved["strategy"]) == (1, 1, "auto")
    _, resolved = resolve_auto({**TRAINER, "devices": 2}, ckpt_path=None, run_dir=tmp_path)
    assert (resolved["devices"], resolved["strategy"]) == (2, "ddp")


def test_a_short_run_is_still_validated(tmp_path: Path) -> None:
    _, resolved = resolve_auto({**TRAINER, "max_steps": 7}, ckpt_path=None, run_dir=tmp_path)
    assert resolved["val_check_interval"] == 7


def test_ckpt_path_auto_takes_the_last_checkpoint_if_there_is_one(tmp_path: Path) -> None:
    assert resolve_auto(TRAINER, ckpt_path="auto", run_dir=tmp_path)[0] is None
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert resolve_auto(TRAINER, ckpt_path="auto", run_dir=tmp_path)[0] == str(last)
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
