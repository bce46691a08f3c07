"""Training of the upscaler: pixel pre-training, then the adversarial phase."""

from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neural_photo_editor.imaging.degradation import bicubic_downscale
from neural_photo_editor.imaging.value_range import to_uint8
from neural_photo_editor.losses.adversarial import discriminator_loss, generator_loss
from neural_photo_editor.metrics.image_quality import psnr, ssim
from neural_photo_editor.training.portrait_module import (
    Batch,
    LRSchedulerFactory,
    OptimizerFactory,
    PortraitModule,
)


class SRGANModule(PortraitModule):
    """SRGAN (Ledig et al. 2017), section 2.2 and Eq. 3, in two phases of one run.

    Deviations: the pixel loss is L1 in both phases (Lim et al. 2017 measured a higher PSNR than
    with the paper's MSE), and it stays in the adversarial phase so that colors cannot drift.

    One batch is one global step: the discriminator's steps are taken outside Lightning's count, so
    that ``max_steps``, the schedules and ``pretrain_steps`` all count batches.

    Args:
        network: the generator, low-resolution -> high-resolution image.
        discriminator: image -> logits, positive for photographs.
        perceptual: distance of two images by a frozen network; None leaves the term out.
        scale: factor between low and high resolution.
        resolution: side of the high-resolution training images, in pixels.
        discriminator_optimizer, discriminator_lr_scheduler: as the generator's; the schedule
            counts the steps of the adversarial phase.
        pretrain_steps: steps of the first phase, 0 for none.
        pixel_weight, perceptual_weight, adversarial_weight: of the generator's losses in the
            second phase.
        num_samples: rows of the sample grid: bicubic, upscaled, truth.
        optimizer, lr_scheduler, gradient_clip_norm, channels_last: see `PortraitModule`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        discriminator: nn.Module,
        perceptual: nn.Module | None,
        scale: int,
        resolution: int,
        optimizer: OptimizerFactory,
        lr_scheduler: LRSchedulerFactory,
        discriminator_optimizer: OptimizerFactory,
        discriminator_lr_scheduler: LRSchedulerFactory,
        pretrain_steps: int,
        pixel_weight: float,
        perceptual_weight: float,
        adversarial_weight: float,
        gradient_clip_norm: float | None = None,
        channels_last: bool = False,
        num_samples: int = 4,
    ) -> None:
        super().__init__(
            network,
            kind="upscaler",
            resolution=resolution,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            gradient_clip_norm=gradient_clip_norm,
            channels_last=channels_last,
        )
        if pretrain_steps < 0:
            raise ValueError(f"pretrain_steps is {pretrain_steps}; give 0 or more")
        if resolution % scale:
            raise ValueError(f"resolution {resolution} is not divisible by scale {scale}")
        self.automatic_optimization = False
        self.discriminator = discriminator.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        # In a tuple, and so neither trained nor in the checkpoint: it has a file of its own.
        self._perceptual = (perceptual,)
        self.scale = scale
        self.discriminator_optimizer_factory = discriminator_optimizer
        self.discriminator_lr_scheduler_factory = discriminator_lr_scheduler
        self.pretrain_steps = pretrain_steps
        self.pixel_weight = pixel_weight
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.num_samples = num_samples

    def artifact_metadata(self) -> dict[str, Any]:
        return {**super().artifact_metadata(), "scale": self.scale}

    def configure_optimizers(self) -> Any:
        pairs = []
        for network, optimizer_factory, scheduler_factory in (
            (self.network, self.optimizer_factory, self.lr_scheduler_factory),
            (
                self.discriminator,
                self.discriminator_optimizer_factory,
                self.discriminator_lr_scheduler_factory,
            ),
        ):
            optimizer = optimizer_factory(network.parameters())
            pairs.append((optimizer, scheduler_factory(optimizer)))
        optimizers, schedulers = zip(*pairs, strict=True)
        return list(optimizers), list(schedulers)

    def on_fit_start(self) -> None:
        (perceptual,) = self._perceptual
        if perceptual is not None:
            perceptual.to(self.device).requires_grad_(False).eval()

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        high = self.images(batch)
        upscaled = self.network(bicubic_downscale(high, self.scale))
        pixel = F.l1_loss(upscaled.float(), high)
        losses = {"train/loss_pixel": pixel}
        if self.global_step < self.pretrain_steps:
            loss = pixel
        else:
            losses["train/loss_discriminator"] = self._step_discriminator(high, upscaled.detach())
            loss = self.pixel_weight * pixel
            self.discriminator.requires_grad_(False)
            adversarial = generator_loss(self.discriminator(upscaled))
            self.discriminator.requires_grad_(True)
            losses["train/loss_adversarial"] = adversarial
            loss = loss + self.adversarial_weight * adversarial
            (perceptual_loss,) = self._perceptual
            if perceptual_loss is not None:
                perceptual = perceptual_loss(upscaled, high)
                losses["train/loss_perceptual"] = perceptual
                loss = loss + self.perceptual_weight * perceptual
        self._step_generator(loss)
        self.add_means({"train/loss": loss, **losses}, weight=len(high))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        high = self.images(batch)
        bicubic, upscaled = self._upscale(high)
        values = {
            f"val/{name}{suffix}": metric(image, high).mean()
            for suffix, image in (("", upscaled), ("_bicubic", bicubic))
            for name, metric in (("psnr", psnr), ("ssim", ssim))
        }
        values["val/psnr_gain"] = values["val/psnr"] - values["val/psnr_bicubic"]
        self.log_validation(values, batch_size=len(high))

    def make_samples(self, batch: Batch) -> Tensor:
        """Return rows of bicubic enlargement, upscaled image and truth."""
        high = self.images(batch)[: self.num_samples]
        return torch.stack([to_uint8(image) for image in (*self._upscale(high), high)], dim=1)

    def _upscale(self, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bicubic and the network's enlargement of the shrunk image, in [-1, 1]."""
        low = bicubic_downscale(high, self.scale)
        bicubic = F.interpolate(low, scale_factor=float(self.scale), mode="bicubic")
        return bicubic.clamp(-1.0, 1.0), self.network(low).float().clamp(-1.0, 1.0)

    def _step_generator(self, loss: Tensor) -> None:
        optimizer = cast(list[LightningOptimizer], self.optimizers())[0]
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.configure_gradient_clipping(optimizer.optimizer)
        optimizer.step()
        self._scheduler(0).step()

    def _step_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        # The bare optimizer: Lightning would count its step as a global step.
        optimizer = cast(list[Optimizer], self.optimizers(use_pl_optimizer=False))[1]
        loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self._scheduler(1).step()
        return loss

    def _scheduler(self, index: int) -> LRScheduler:
        return cast(list[LRScheduler], self.lr_schedulers())[index]
