import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from neural_photo_editor.training.resume import (
    check_settings,
    checkpoint_to_continue,
    is_finished,
    remove_checkpoints,
)

CONFIG: dict[str, Any] = {
    "seed": 0,
    "data": {"shards": "a", "batch_size": 8, "num_workers": 2, "color_jitter": None},
    "module": {
        "network": {"widths": [8, 16]},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1},
        "lr_scheduler": {"total_steps": 10},
        "perceptual": {"vgg19_weights": None},
    },
    "trainer": {"max_steps": 10, "devices": 1},
}


def changed(name: str, value: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONFIG))
    section = config
    *parts, last = name.split(".")
    for part in parts:
        section = section[part]
    section[last] = value
    return config


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, step in {"step-000100": 100, "step-001000": 1000, "best": 700, "last": 1200}.items():
        torch.save({"global_step": step, "weight": torch.ones(999)}, folder / f"{name}.ckpt")
    return tmp_path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_a_damaged_checkpoint_leads_to_the_newest_good_one(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_dir / "checkpoints"
    (folder / "last.ckpt.partial").write_bytes(b"half")
    assert checkpoint_to_continue(run_dir) == folder / "last.ckpt"
    assert not caplog.records
    for damaged, next_one in (
        ("last.ckpt", "step-001000.ckpt"),
        ("step-001000.ckpt", "step-000100.ckpt"),
        ("step-000100.ckpt", "best.ckpt"),
    ):
        cut(folder / damaged)
        assert checkpoint_to_continue(run_dir) == folder / next_one
    assert "last.ckpt is damaged or gone: going on from step-001000.ckpt, of step 1000" in (
        caplog.text
    )
    cut(folder / "best.ckpt")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read.*ckpt_path=null"):
        checkpoint_to_continue(run_dir)


def test_damage_that_no_checksum_covers_is_seen(run_dir: Path) -> None:
    folder = run_dir / "checkpoints"
    whole = (folder / "last.ckpt").read_bytes()
    for position in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[position] ^= 0x55
        (folder / "last.ckpt").write_bytes(flipped)
        found = checkpoint_to_continue(run_dir)
        assert found is not None
        assert torch.load(found, weights_only=True)["global_step"] in (1000, 1200)


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (999_999, 1_000_000):
        torch.save({"global_step": step}, folder / f"step-{step:06d}.ckpt")
    assert checkpoint_to_continue(tmp_path) == folder / "step-1000000.ckpt"


def test_a_new_run_starts_from_nothing(tmp_path: Path, run_dir: Path) -> None:
    assert checkpoint_to_continue(tmp_path / "elsewhere") is None
    remove_checkpoints(run_dir)
    assert checkpoint_to_continue(run_dir) is None
    assert (run_dir / "config.yaml").is_file()


def test_a_run_is_finished_at_its_last_step(run_dir: Path) -> None:
    last = run_dir / "checkpoints" / "last.ckpt"
    assert is_finished(last, max_steps=1200, run_dir=run_dir)
    assert is_finished(os.path.relpath(last), max_steps=1000, run_dir=run_dir)
    assert not is_finished(last, max_steps=1201, run_dir=run_dir)
    assert not is_finished(None, max_steps=1, run_dir=run_dir)


def test_another_runs_last_step_leaves_steps_to_train(run_dir: Path, tmp_path: Path) -> None:
    other, last = tmp_path / "finetune", run_dir / "checkpoints" / "last.ckpt"
    assert not is_finished(last, max_steps=1201, run_dir=other)
    with pytest.raises(ValueError, match=r"ckpt_path: .* set trainer\.max_steps above 1200"):
        is_finished(last, max_steps=1200, run_dir=other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data.shards", "elsewhere"),
        ("data.num_workers", 0),
        ("trainer.max_steps", 99),
        ("trainer.devices", 4),
    ],
)
def test_what_changes_no_result_may_change(
    name: str, value: Any, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_settings(changed(name, value), run_dir, strict=True)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"), [("module.optimizer.lr", 0.2), ("module.lr_scheduler.total_steps", 20)]
)
def test_a_rate_may_change_with_a_warning(
    name: str, value: Any, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_settings(changed(name, value), run_dir, strict=True)
    assert f"the run goes on with another setting: {name}: " in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("data.batch_size", 16),
        ("module.network.widths", [8, 32]),
        ("module.optimizer._target_", "torch.optim.AdamW"),
        ("module.perceptual.vgg19_weights", "other.safetensors"),
        ("data.color_jitter", {"brightness": 0.1}),
        ("data.placement", {"rotation_deg": 5.0}),
    ],
)
def test_another_training_in_the_same_folder_is_refused(
    name: str, value: Any, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=rf"other settings: {name}.*: .* -> .*run_dir"):
        check_settings(changed(name, value), run_dir, strict=True)
    check_settings(changed(name, value), run_dir, strict=False)
    assert name in caplog.text
    (run_dir / "config.yaml").write_text(yaml.safe_dump(changed(name, value)))
    with pytest.raises(ValueError, match=rf"other settings: {name}.*: .* -> .*run_dir"):
        check_settings(CONFIG, run_dir, strict=True)  # and back


@pytest.mark.parametrize("content", [None, "", "data: [", "data: {a: 1"])
def test_a_configuration_that_is_missing_or_cut_off_is_none(
    content: str | None, run_dir: Path
) -> None:
    path = run_dir / "config.yaml"
    path.unlink()
    if content is not None:
        path.write_text(content)
    check_settings(CONFIG, run_dir, strict=True)
    shutil.rmtree(run_dir)
    check_settings(CONFIG, run_dir, strict=True)
