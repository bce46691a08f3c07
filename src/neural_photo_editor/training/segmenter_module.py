"""Training of the segmenter."""

import math

import torch
from torch import Tensor, nn

from neural_photo_editor.common.regions import NUM_REGIONS, REGION_NAMES, REGIONS
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.losses.segmentation import cross_entropy_dice_loss
from neural_photo_editor.metrics.segmentation import ConfusionMatrix
from neural_photo_editor.training.portrait_module import (
    Batch,
    LRSchedulerFactory,
    OptimizerFactory,
    PortraitModule,
)


class SegmenterModule(PortraitModule):
    """Cross-entropy plus Dice loss; mean and per-region IoU on the validation set.

    Args:
        network: photo -> logits of the 11 regions, see `networks.segmentation_unet`.
        num_samples: rows of the sample grid: photo, truth, prediction.
        resolution, optimizer, lr_scheduler, gradient_clip_norm, channels_last: see
            `PortraitModule`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        resolution: int,
        optimizer: OptimizerFactory,
        lr_scheduler: LRSchedulerFactory,
        gradient_clip_norm: float | None = 1.0,
        channels_last: bool = False,
        num_samples: int = 4,
    ) -> None:
        super().__init__(
            network,
            kind="segmenter",
            resolution=resolution,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            gradient_clip_norm=gradient_clip_norm,
            channels_last=channels_last,
        )
        self.num_samples = num_samples
        self._confusion = ConfusionMatrix(NUM_REGIONS)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = cross_entropy_dice_loss(self.network(self.images(batch)), batch["labels"].long())
        self.add_means({"train/loss": loss}, weight=len(batch["image"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        labels = batch["labels"].long()
        logits = self.network(self.images(batch))
        loss = cross_entropy_dice_loss(logits, labels)
        self.log_validation({"val/loss": loss}, batch_size=len(labels))
        self._confusion.update(logits.argmax(dim=1), labels)

    def on_validation_epoch_end(self) -> None:
        confusion = self._confusion
        self._confusion = ConfusionMatrix(NUM_REGIONS)
        confusion.counts = self.trainer.strategy.reduce(
            confusion.counts.to(self.device), reduce_op="sum"
        )
        # A region that neither truth nor prediction contains has no IoU.
        iou = {
            f"val/iou/{name}": value
            for name, value in zip(REGION_NAMES, confusion.iou().tolist(), strict=True)
            if not math.isnan(value)
        }
        # Equal on all processes already, because the counts were summed.
        self.log_dict({"val/mean_iou": confusion.mean_iou(), **iou}, sync_dist=True)

    def make_samples(self, batch: Batch) -> Tensor:
        """Return rows of photo, truth and prediction."""
        photos = batch["image"][: self.num_samples]
        images = to_model_range(photos).contiguous(memory_format=self.memory_format)
        palette = torch.tensor(
            [region.color for region in REGIONS], dtype=torch.uint8, device=photos.device
        )
        columns = [photos]
        for labels in (batch["labels"][: self.num_samples], self.network(images).argmax(dim=1)):
            # (N, H, W, 3) -> (N, 3, H, W)
            columns.append(palette[labels.long()].permute(0, 3, 1, 2))
        return torch.stack(columns, dim=1)
