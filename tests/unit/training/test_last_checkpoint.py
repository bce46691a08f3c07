import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.checkpoint import WholeFileCheckpointIO, read_checkpoint
from neural_photo_editor.training.exit_codes import STOPPED
from neural_photo_editor.training.last_checkpoint import LastCheckpoint, kept_checkpoints
from neural_photo_editor.training.segmenter_module import SegmenterModule


class Saved(Callback):
    """Notes (steps done, step of last.ckpt, seen after validation) at the end of each step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.note(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self.note(trainer)

    def note(self, trainer: Trainer) -> None:
        step = read_checkpoint(self.path)["global_step"] if self.path.is_file() else 0
        self.seen.append((trainer.global_step, step))


class At(Callback):
    """Does something after the given steps, before their checkpoints are saved."""

    def __init__(self, actions: dict[int, Callable[[], object]]) -> None:
        self.actions = actions

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.actions.get(trainer.global_step, lambda: None)()


@pytest.fixture
def module(rates: dict[str, Any]) -> LightningModule:
    torch.manual_seed(0)
    return SegmenterModule(SegmentationUNet(widths=(8, 8)), resolution=32, **rates)


def train(
    fit: Callable[..., Trainer], module: LightningModule, run_dir: Path, *extra: Callback, **kw: Any
) -> list[tuple[int, int]]:
    settings: dict[str, Any] = {"max_steps": 8, "limit_val_batches": 0}
    settings |= {"plugins": [WholeFileCheckpointIO()], "enable_checkpointing": True}
    own = ("max_steps", "val_check_interval", "held_out", "ckpt_path")
    settings |= {name: kw.pop(name) for name in list(kw) if name in own}
    if "val_check_interval" in settings:
        settings["limit_val_batches"] = 1
    last = LastCheckpoint(run_dir=run_dir, **{"every_n_steps": 3, **kw})
    saved = Saved(last.path)
    fit(module, **settings, callbacks=[saved, *extra, last])
    return saved.seen


def test_every_few_steps_and_the_last_one_are_saved(
    module: LightningModule, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    seen = train(fit, module, tmp_path)
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6), (8, 8)]


def test_a_validation_finds_the_step_before_it_saved_and_its_own_is_saved_after_it(
    module: LightningModule, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    """So that a kill during it loses one step, and the validation is not left out."""
    last = tmp_path / "checkpoints" / "last.ckpt"
    during = []

    class During(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            during.append((trainer.global_step, read_checkpoint(last)["global_step"]))

    seen = train(fit, module, tmp_path, During(), val_check_interval=4, every_n_steps=2)
    assert during == [(4, 3), (8, 7)]
    assert seen == [(0, 0), (1, 0), (2, 2), (3, 3), (4, 4), (5, 4), (6, 6), (7, 7), (8, 8)]


def test_without_held_out_samples_all_is_saved_and_a_run_goes_on(
    module: LightningModule, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    """Lightning then skips the validation that its settings say follows a step."""
    none: dict[str, Any] = {"held_out": [], "val_check_interval": 4, "keep_every_n_steps": 4}
    seen = train(fit, module, tmp_path, **none, max_steps=4)
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 3), (4, 4)]
    last = tmp_path / "checkpoints" / "last.ckpt"
    seen = train(fit, module, tmp_path, **none, ckpt_path=last)
    assert seen == [(4, 4), (5, 4), (6, 6), (7, 6), (8, 8)]
    kept = kept_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in kept] == ["step-000008.ckpt", "step-000004.ckpt"]


def test_some_are_kept_and_the_oldest_removed(
    module: LightningModule, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    train(fit, module, tmp_path, keep_every_n_steps=2, keep=2)
    kept = kept_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in kept] == ["step-000008.ckpt", "step-000006.ckpt"]
    assert [read_checkpoint(path)["global_step"] for path in kept] == [8, 6]
    assert kept[0].stat().st_ino == (tmp_path / "checkpoints" / "last.ckpt").stat().st_ino


def test_where_links_are_impossible_a_copy_is_kept(
    module: LightningModule,
    fit: Callable[..., Trainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError("links are not supported")

    monkeypatch.setattr(os, "link", no_links)
    train(fit, module, tmp_path, keep_every_n_steps=4)
    kept = kept_checkpoints(tmp_path / "checkpoints")
    assert [read_checkpoint(path)["global_step"] for path in kept] == [8, 4]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run folder whose checkpoints lie on a file system of 2 MiB."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield folder.parent
    subprocess.run(["umount", str(folder)], check=True)


def test_training_goes_on_while_the_disk_is_full(
    module: LightningModule, fit: Callable[..., Trainer], small_disk: Path
) -> None:
    filler = small_disk / "checkpoints" / "filler"
    full = At({3: lambda: fill(filler), 7: filler.unlink})
    seen = train(fit, module, small_disk, full, every_n_steps=2, keep_every_n_steps=2, keep=1)
    assert seen == [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 8)]


def test_a_disk_that_is_full_at_the_end_is_an_error_and_keeps_the_last_good_checkpoint(
    module: LightningModule, fit: Callable[..., Trainer], small_disk: Path
) -> None:
    filler = small_disk / "checkpoints" / "filler"
    with pytest.raises(OSError, match=r"free space in .* then run the same command again"):
        train(fit, module, small_disk, At({7: lambda: fill(filler)}))
    assert read_checkpoint(small_disk / "checkpoints" / "last.ckpt")["global_step"] == 6


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_the_step_at_hand_and_ends_with_a_code_of_its_own(
    number: signal.Signals, module: LightningModule, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        # The grace ends the process, which is this one.
        train(fit, module, tmp_path, At({5: lambda: os.kill(os.getpid(), number)}), grace_s=9999.0)
    assert ended.value.code == STOPPED
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 5
    assert signal.getsignal(number) == before


def test_a_failed_training_gives_its_signals_back(
    module: LightningModule, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        train(fit, module, tmp_path, At({2: lambda: 1 // 0}))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", ["every_n_steps", "keep_every_n_steps", "keep", "grace_s"])
def test_numbers_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        LastCheckpoint(run_dir="x", **{"every_n_steps": 1, name: 0})
