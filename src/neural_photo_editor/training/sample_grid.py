"""Pictures of what the network does, at every validation."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from torch import Tensor

from neural_photo_editor.training.portrait_module import Batch, PortraitModule


class SampleGrid(Callback):
    """Writes ``run_dir/samples/step-000500.png`` and sends it to the tracker.

    Always the first validation photos and the same seeds, with the averaged weights if the run
    keeps them; process 0 alone does it.
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
        if batch_idx != 0 or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PortraitModule)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            picture = tile(pl_module.make_samples(batch))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{trainer.global_step:06d}.png"
        picture.save(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                # Trackers count steps from 0, as Lightning does for metrics.
                logger.log_image("samples", [picture], step=trainer.global_step - 1)


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
