"""Training of the segmenter."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neural_photo_editor.common.regions import NUM_REGIONS, REGION_NAMES, REGIONS
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.losses.segmentation import balanced_weights, cross_entropy_dice_loss
from neural_photo_editor.metrics.boundary import BoundaryF1
from neural_photo_editor.metrics.segmentation import ConfusionMatrix, by_region
from neural_photo_editor.training.portrait_module import (
    Batch,
    LRSchedulerFactory,
    OptimizerFactory,
    PortraitModule,
)


class SegmenterModule(PortraitModule):
    """Cross-entropy plus Dice loss; IoU, F1 and boundary F1 on the validation set.

    Args:
        network: photo -> logits of the 11 regions, see `networks.segmentation_unet`.
        class_balance: how far rare regions' pixels weigh more in the cross-entropy: 0 not at all,
            1 until all regions weigh alike, see `losses.segmentation.balanced_weights`.
        region_shares: each region's share of the training pixels; only `class_balance` needs it.
        num_samples: rows of the sample grid: photo, truth, prediction.
        resolution, optimizer, lr_scheduler, gradient_clip_norm, channels_last: see
            `PortraitModule`.

    Attributes:
        confusion: of the last validation, all processes together; None before it.

    Raises:
        ValueError: balance or shares out of range, or the shares that the balance needs are absent.
    """

    class_weights: Tensor | None

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
        class_balance: float = 0.0,
        region_shares: Sequence[float] | None = None,
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
        weights = None
        if class_balance:
            if region_shares is None or len(region_shares) != NUM_REGIONS:
                raise ValueError(
                    f"class_balance is {class_balance} but region_shares are {region_shares}: give "
                    f"the {NUM_REGIONS} shares, or null to pipelines/train.py, which counts them"
                )
            weights = balanced_weights(region_shares, exponent=class_balance)
        # Not in checkpoints: the configuration has what they come from.
        self.register_buffer("class_weights", weights, persistent=False)
        self.confusion: ConfusionMatrix | None = None
        self._confusion = ConfusionMatrix(NUM_REGIONS)
        self._boundary = BoundaryF1(NUM_REGIONS)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy_dice_loss(logits, labels, class_weights=self.class_weights)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = self._loss(self.network(self.images(batch)), batch["labels"].long())
        self.add_means({"train/loss": loss}, weight=len(batch["image"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        labels = batch["labels"].long()
        logits = self.network(self.images(batch))
        loss = self._loss(logits, labels)
        self.log_validation({"val/loss": loss}, batch_size=len(labels))
        predicted = logits.argmax(dim=1)
        self._confusion.update(predicted, labels)
        self._boundary.update(predicted, labels)

    def on_validation_epoch_end(self) -> None:
        confusion, boundary = self._confusion, self._boundary
        self._confusion, self._boundary = ConfusionMatrix(NUM_REGIONS), BoundaryF1(NUM_REGIONS)
        confusion.counts = self._sum_over_processes(confusion.counts)
        boundary.totals = self._sum_over_processes(boundary.totals)
        self.confusion = confusion
        metrics = {
            "val/mean_iou": confusion.mean_iou(),
            "val/mean_f1": confusion.mean_f1(),
            "val/boundary_f1": boundary.mean(),
            **by_region("val/iou", confusion.iou(), REGION_NAMES),
            **by_region("val/f1", confusion.f1(), REGION_NAMES),
        }
        # Equal on all processes already, because the sums were.
        self.log_dict(metrics, sync_dist=True)

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        total: Tensor = self.trainer.strategy.reduce(values.to(self.device), reduce_op="sum")
        return total

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
