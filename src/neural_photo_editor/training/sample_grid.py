"""Pictures of what the network does, at every validation."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from neural_photo_editor.training.optional_file import write_optional
from neural_photo_editor.training.portrait_module import Batch, PortraitModule

MAX_FRAMES = 120
"""Of the film; a minute."""


class SampleGrid(Callback):
    """Writes ``run_dir/samples/step-000500.png`` and, at the end, all of them as ``film.webp``.

    Always the first validation photos and the same seeds, with the averaged weights if the run
    keeps them; process 0 alone does it. W&B takes the pictures from the folder (`wandb_follower`).
    """

    def __init__(self, *, run_dir: str | Path) -> None:
        self.folder = Path(run_dir) / "samples"

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        assert isinstance(pl_module, PortraitModule)
        # A sharded network runs on all processes at once or not at all.
        takes_part = trainer.is_global_zero or isinstance(pl_module.network, FSDPModule)
        if batch_idx != 0 or not takes_part:
            return
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            picture = tile(pl_module.make_samples(batch))
        if not trainer.is_global_zero:
            return
        save_picture(picture, self.folder / f"step-{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # Trackers count steps from 0, as Lightning does for metrics.
                logger.experiment.add_image(
                    "samples", np.asarray(picture), trainer.global_step - 1, dataformats="HWC"
                )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.is_global_zero:
            make_film(self.folder)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG; see `write_optional`."""
    write_optional(path, lambda partial: picture.save(partial, format="PNG"))


def make_film(folder: Path) -> None:
    """Put a folder's ``step-*.png`` into ``film.webp``, half a second each; two make a film."""
    paths = sorted(folder.glob("step-*.png"))[-MAX_FRAMES:]
    if len(paths) > 1:
        write_optional(folder / "film.webp", lambda partial: _write_film(paths, partial))


def _write_film(paths: list[Path], film: Path) -> None:
    frames = []
    for path in paths:
        with Image.open(path) as frame:
            frames.append(frame.convert("RGB"))
    size = frames[-1].size  # Another setting after a resume: the film is of the run as it is now.
    same = [frame for frame in frames if frame.size == size]
    same[0].save(
        film, format="WEBP", save_all=True, append_images=same[1:], duration=500, quality=80
    )


def tile(grid: Tensor, *, gap_px: int = 2) -> Image.Image:
    """Put a grid of pictures, uint8 (rows, columns, 3, H, W), into one, with white gaps."""
    rows, columns, _, height, width = grid.shape
    canvas = torch.full(
        (3, rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px),
        255,
        dtype=torch.uint8,
    )
    for row, pictures in enumerate(grid.cpu()):
        for column, picture in enumerate(pictures):
            top, left = row * (height + gap_px), column * (width + gap_px)
            canvas[:, top : top + height, left : left + width] = picture
    return Image.fromarray(canvas.permute(1, 2, 0).contiguous().numpy())
