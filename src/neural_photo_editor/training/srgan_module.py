"""Training of the upscaler: pixel pre-training, then the adversarial phase."""

from typing import Any, Literal, cast, get_args

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.imaging.degradation import BICUBIC, Degradation, bicubic_upscale
from neural_photo_editor.imaging.value_range import to_uint8
from neural_photo_editor.losses.adversarial import (
    discriminator_loss,
    generator_loss,
    relative_logits,
)
from neural_photo_editor.losses.perceptual import PerceptualLoss
from neural_photo_editor.metrics.upscaling import rate_beside_bicubic
from neural_photo_editor.training.portrait_module import (
    Batch,
    LRSchedulerFactory,
    OptimizerFactory,
    PortraitModule,
    gradient_norm,
)

AdversarialLoss = Literal["vanilla", "relativistic"]


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
        segmenter: frozen; validation compares the label maps it gives upscaled photos and the
            originals. None leaves that out.
        degradation: makes the low-resolution inputs.
        seed: of the degradation.
        adversarial_loss: "vanilla" (SRGAN, Eq. 6) or "relativistic" (ESRGAN, Eq. 1 and 2).
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
        perceptual: PerceptualLoss | None,
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
        segmenter: nn.Module | None = None,
        degradation: Degradation = BICUBIC,
        seed: int = 0,
        adversarial_loss: AdversarialLoss = "vanilla",
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
        if adversarial_loss not in get_args(AdversarialLoss):
            raise ValueError(
                f"adversarial_loss is {adversarial_loss!r}; choose one of "
                f"{', '.join(get_args(AdversarialLoss))}"
            )
        self.automatic_optimization = False
        self.discriminator = discriminator.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        # In tuples, and so neither trained nor in the checkpoint: they have files of their own.
        self._perceptual = (perceptual,)
        self._segmenter = (segmenter,)
        self.scale = scale
        self.degradation = degradation
        self.seed = seed
        self.adversarial_loss = adversarial_loss
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
        for frozen in (*self._perceptual, *self._segmenter):
            if frozen is not None:
                frozen.to(self.device).requires_grad_(False).eval()

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        high = self.images(batch)
        upscaled = self.network(self._low(batch, high, seed=self.seed, epoch=self.current_epoch))
        pixel = F.l1_loss(upscaled.float(), high)
        losses = {"train/loss_pixel": pixel}
        if self.global_step < self.pretrain_steps:
            loss = pixel
        else:
            losses |= self._step_discriminator(high, upscaled.detach())
            adversarial = self._adversarial(high, upscaled)
            losses["train/loss_adversarial"] = adversarial
            loss = self.pixel_weight * pixel + self.adversarial_weight * adversarial
            (perceptual_loss,) = self._perceptual
            if perceptual_loss is not None:
                perceptual = perceptual_loss(upscaled, high)
                losses["train/loss_perceptual"] = perceptual
                loss = loss + self.perceptual_weight * perceptual
        self._step_generator(loss)
        self.add_means({"train/loss": loss, **losses}, weight=len(high))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        high = self.images(batch)
        (perceptual,), (segmenter,) = self._perceptual, self._segmenter
        bicubic, upscaled = self._upscale(batch, high)
        rated = rate_beside_bicubic(
            upscaled,
            bicubic,
            high,
            scale=self.scale,
            features=None if perceptual is None else perceptual.features,
            segmenter=segmenter,
        )
        values = {f"val/{name}": value.mean() for name, value in rated.items()}
        self.log_validation(values, batch_size=len(high))

    def make_samples(self, batch: Batch) -> Tensor:
        """Return rows of bicubic enlargement, upscaled image and truth."""
        batch = {name: value[: self.num_samples] for name, value in batch.items()}
        high = self.images(batch)
        images = (*self._upscale(batch, high), high)
        return torch.stack([to_uint8(image) for image in images], dim=1)

    def _low(self, batch: Batch, high: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Return the network's input, made from the photos and (seed, epoch, sample ids) alone."""
        low = self.degradation.shrink(
            high, self.scale, seed=seed, epoch=epoch, sample_ids=batch["sample_id"].tolist()
        )
        return low.contiguous(memory_format=self.memory_format)

    def _upscale(self, batch: Batch, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bicubic and the network's enlargement of the shrunk photos, in [-1, 1]."""
        # The same damage in every validation, so that two of them differ by the weights alone.
        low = self._low(batch, high, seed=derive_seed(self.seed, "validation"), epoch=0)
        return bicubic_upscale(low, self.scale), self.network(low).float().clamp(-1.0, 1.0)

    def _adversarial(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss; the discriminator gets no gradient from it."""
        self.discriminator.requires_grad_(False)
        logits_fake = self.discriminator(fake)
        if self.adversarial_loss == "vanilla":
            loss = generator_loss(logits_fake)
        else:
            with torch.no_grad():
                logits_real = self.discriminator(real)
            logits_real, logits_fake = self._relative(logits_real, logits_fake)
            # ESRGAN, Eq. 2: the discriminator's loss with the two exchanged.
            loss = discriminator_loss(logits_fake, logits_real)
        self.discriminator.requires_grad_(True)
        return loss

    def _relative(self, logits_real: Tensor, logits_fake: Tensor) -> tuple[Tensor, Tensor]:
        means = torch.stack([logits_real.float().mean(), logits_fake.float().mean()])
        # Over all processes: one more or less of them does not change the loss.
        gathered = cast(Tensor, self.all_gather(means, sync_grads=True))
        mean_real, mean_fake = gathered.view(-1, 2).mean(0)
        return relative_logits(logits_real, logits_fake, mean_real=mean_real, mean_fake=mean_fake)

    def _step_generator(self, loss: Tensor) -> None:
        optimizer = cast(list[LightningOptimizer], self.optimizers())[0]
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.configure_gradient_clipping(optimizer.optimizer)
        optimizer.step()
        self._scheduler(0).step()

    def _step_discriminator(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        # The bare optimizer: Lightning would count its step as a global step.
        optimizer = cast(list[Optimizer], self.optimizers(use_pl_optimizer=False))[1]
        logits = self.discriminator(real), self.discriminator(fake)
        if self.adversarial_loss == "relativistic":
            logits = self._relative(*logits)
        loss = discriminator_loss(*logits)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.skip_nonfinite(gradient_norm(self.discriminator), optimizer)
        optimizer.step()
        self._scheduler(1).step()
        d_real, d_fake = (part.detach().float().sigmoid().mean() for part in logits)
        return {
            "train/loss_discriminator": loss,
            "train/d_real": d_real,
            "train/d_fake": d_fake,
        }

    def _scheduler(self, index: int) -> LRScheduler:
        return cast(list[LRScheduler], self.lr_schedulers())[index]
