import contextlib
import logging
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.training.lr_schedule import warmup_cosine
from neural_photo_editor.training.portrait_module import Batch

SIDE = 32


@pytest.fixture(scope="session")
def batches() -> list[Batch]:
    """Three batches of four drawn portraits of 32 pixels."""
    portraits = [generate_portrait(0, index, resolution=SIDE) for index in range(12)]
    photos = torch.from_numpy(np.stack([p.photo for p in portraits])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.stack([p.labels for p in portraits]))
    ids = torch.arange(12)
    return [
        {"image": photos[rows].contiguous(), "labels": labels[rows], "sample_id": ids[rows]}
        for rows in (slice(0, 4), slice(4, 8), slice(8, 12))
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield folder
    # Lazily: a process that outlives its training may still be there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all space of a disk; return the file to remove for having it back."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.fixture
def heard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> pytest.LogCaptureFixture:
    """The package's warnings, whoever configured logging before."""
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    return caplog


@pytest.fixture
def rates() -> dict[str, Any]:
    """Adam at a constant learning rate."""
    constant: Callable[..., LambdaLR] = partial(
        warmup_cosine, warmup_steps=0, total_steps=1, final_factor=1.0
    )
    return {"optimizer": partial(torch.optim.Adam, lr=1e-3), "lr_scheduler": constant}


@pytest.fixture
def fit(batches: list[Batch]) -> Callable[..., Trainer]:
    """Train a module for some steps, validate it once at the end, return the trainer.

    The trainer's arguments may be given, the batches that are held out (those it is trained with)
    and the checkpoint to continue from.
    """

    def run(
        module: LightningModule,
        *,
        max_steps: int,
        held_out: list[Batch] = batches,
        ckpt_path: Path | None = None,
        **settings: Any,
    ) -> Trainer:
        loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        held_out_loader: Any = DataLoader(held_out, batch_size=None)  # type: ignore[arg-type]
        arguments: dict[str, Any] = {
            "max_steps": max_steps,
            "accelerator": "cpu",
            "val_check_interval": max_steps,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": max_steps,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        trainer = Trainer(**{**arguments, **settings})
        trainer.fit(module, loader, held_out_loader, ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return run
