"""Training of the denoiser."""

from typing import Any

from torch import Tensor, nn

from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.diffusion.noise import training_noise
from neural_photo_editor.diffusion.objective import denoising_loss, min_snr_table, min_snr_weights
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.diffusion.timestep_ranges import (
    sum_by_timestep_range,
    timestep_range_names,
)
from neural_photo_editor.imaging.value_range import to_uint8
from neural_photo_editor.training.portrait_module import (
    Batch,
    LRSchedulerFactory,
    OptimizerFactory,
    PortraitModule,
)


class DDPMModule(PortraitModule):
    """DDPM (Ho et al. 2020), Algorithm 1, with the noise of each sample derived, not drawn.

    Timestep and noise are functions of (seed, epoch, sample id), so a resumed run, or one on
    another number of processes, trains on the same ones. "train/loss" is what is minimized; the
    losses by timestep and "val/loss" are mean squared errors without weights, which compare across
    weightings (not across what is predicted, nor across schedules).

    Args:
        network: puts out eps or v, as the schedule says; see `networks.denoising_unet`.
        schedule: the noise schedule.
        seed: of the training noise, the fixed validation noise and the sample grid.
        min_snr_gamma: weighs the timesteps' losses, see `objective.min_snr_weights`; None counts
            all alike, as DDPM does.
        sample_steps: DDIM steps of the sample grid.
        num_samples: images in the sample grid; the largest square number below is used. Where the
            schedule leaves a trace of the photo at T, they start from the mean color of process
            0's first validation photos.
        resolution, optimizer, lr_scheduler, gradient_clip_norm, channels_last: see
            `PortraitModule`.

    Raises:
        ValueError: a number is out of range, or the network cannot take images of the resolution.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        schedule: NoiseSchedule,
        resolution: int,
        optimizer: OptimizerFactory,
        lr_scheduler: LRSchedulerFactory,
        seed: int,
        gradient_clip_norm: float | None = 1.0,
        channels_last: bool = False,
        min_snr_gamma: float | None = None,
        sample_steps: int = 50,
        num_samples: int = 16,
    ) -> None:
        super().__init__(
            network,
            kind="denoiser",
            resolution=resolution,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            gradient_clip_norm=gradient_clip_norm,
            channels_last=channels_last,
        )
        for name, value in {"sample_steps": sample_steps, "num_samples": num_samples}.items():
            if value < 1:
                raise ValueError(
                    f"{name} is {value}; give at least 1, or set callbacks.samples=null to leave "
                    "the sample grid out"
                )
        multiple: Any = network.image_multiple
        if resolution % multiple:
            raise ValueError(
                f"resolution is {resolution}, but the network takes multiples of {multiple}: set "
                "data.resolution to one, or leave out one of network.widths"
            )
        if min_snr_gamma is not None:
            min_snr_weights(schedule, gamma=min_snr_gamma)  # Says now what does not fit.
        self.schedule = schedule
        self.seed = seed
        self.min_snr_gamma = min_snr_gamma
        self.sample_steps = sample_steps
        self.samples_per_side = int(num_samples**0.5)
        # Names such as "train/loss_t001-125".
        self._range_names = tuple(
            f"train/loss_{name}" for name in timestep_range_names(schedule.num_timesteps)
        )

    def artifact_metadata(self) -> dict[str, Any]:
        return {**super().artifact_metadata(), "schedule": self.schedule.to_spec()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        losses, t = self._losses(batch, seed=self.seed, epoch=self.current_epoch)
        sums, counts = sum_by_timestep_range(
            losses.detach(), t, num_timesteps=self.schedule.num_timesteps
        )
        self.means.add(self._range_names, sums, counts)
        if self.min_snr_gamma is not None:
            losses = losses * min_snr_table(self.schedule, self.min_snr_gamma, losses.device)[t]
        loss = losses.mean()
        self.add_means({"train/loss": loss}, weight=len(losses))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        # The same noise in every validation, so that two of them differ by the weights alone.
        losses, _ = self._losses(batch, seed=derive_seed(self.seed, "validation"), epoch=0)
        self.log_validation({"val/loss": losses.mean()}, batch_size=len(losses))

    def make_samples(self, batch: Batch) -> Tensor:
        """Return a square grid of images from pure noise, the same seeds every time.

        The batch says what color photos have on average: some schedules leave a trace of it at T.
        """
        side = self.samples_per_side
        height, width = batch["image"].shape[-2:]
        images = sample(
            self.network,
            shape=(3, height, width),
            schedule=self.schedule,
            seeds=[derive_seed(self.seed, "sample grid", i) for i in range(side**2)],
            sampler="ddim",
            steps=min(self.sample_steps, self.schedule.num_timesteps),
            # Not the mean photo: of a process's few photos it would show them.
            mean_x_0=self.images(batch).mean(dim=(0, 2, 3)).reshape(3, 1, 1),
            device=self.device,
        )
        return to_uint8(images).reshape(side, side, 3, height, width)

    def _losses(self, batch: Batch, *, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        x_0 = self.images(batch)
        t, eps = training_noise(
            seed,
            epoch=epoch,
            sample_ids=batch["sample_id"],
            shape=x_0.shape[1:],
            num_timesteps=self.schedule.num_timesteps,
            device=x_0.device,
        )
        eps = eps.contiguous(memory_format=self.memory_format)
        return denoising_loss(self.network, x_0, t=t, eps=eps, schedule=self.schedule), t
