"""What the three LightningModules share: batches, optimizer, gradient norm and averaged logging."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.training.strategies import shard_network

Batch = Mapping[str, Tensor]
"""``image`` uint8 (N, 3, H, W), ``labels`` uint8 (N, H, W), ``sample_id`` int64 (N,).

In a module's steps ``sample_id`` is a NumPy array, which offers what is asked of it: ``tolist``."""
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
LRSchedulerFactory = Callable[[Optimizer], LRScheduler]


def logs_now(trainer: Trainer) -> bool:
    """Whether the pass just made completed a step whose metrics are logged."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return step_complete(trainer) and trainer.global_step % every == 0


def step_complete(trainer: Trainer) -> bool:
    """Whether the pass just made was the last one of an optimizer step."""
    passes = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return passes % trainer.accumulate_grad_batches == 0


class RunningMeans:
    """Weighted means of named values, kept on the device so that adding one waits for nothing."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def add(self, names: tuple[str, ...], sums: Tensor, weights: Tensor) -> None:
        """Add one weighted sum and one weight per name, both of shape (len(names),).

        A sum that is not finite is left out with its weight: one step must not hide all others.
        """
        sums = sums.detach().float()
        finite = sums.isfinite()
        sums, weights = sums.where(finite, 0.0), weights.detach().float().where(finite, 0.0)
        if names in self._sums:
            sums, weights = self._sums[names][0] + sums, self._sums[names][1] + weights
        self._sums[names] = (sums, weights)

    def pop(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means since the last call, without those of weight 0.

        Args:
            reduce: sums a tensor over all processes; called once.
        """
        if not self._sums:
            return {}
        names = [name for group in self._sums for name in group]
        totals = torch.stack(
            [torch.cat([pair[row] for pair in self._sums.values()]) for row in (0, 1)]
        )
        sums, weights = reduce(totals).tolist()
        self._sums = {}
        rows = zip(names, sums, weights, strict=True)
        return {name: total / weight for name, total, weight in rows if weight > 0}


class BufferCopy:
    """A copy of a module's buffers, such as the running statistics of batch norms."""

    def __init__(self, module: nn.Module) -> None:
        self._module = (module,)  # In a tuple, and so no submodule of it.
        self._copies: list[Tensor] = []

    def save(self) -> None:
        buffers = list(self._module[0].buffers())
        if [b.device for b in buffers] != [c.device for c in self._copies]:
            self._copies = [buffer.clone() for buffer in buffers]
        elif buffers:
            torch._foreach_copy_(self._copies, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        for buffer, copy in zip(self._module[0].buffers(), self._copies, strict=True):
            buffer.copy_(copy)


def gradient_norm(network: nn.Module) -> Tensor:
    """Return the 2-norm of a network's gradients, a scalar."""
    return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


def learning_rates(optimizers: Sequence[Optimizer]) -> dict[str, float]:
    """Return the rate of each group of weights by the name under which it is logged.

    Args:
        optimizers: of the network, and of a discriminator if there is one.
    """
    rates = {}
    for network, optimizer in zip(("", "_discriminator"), optimizers, strict=False):
        for index, group in enumerate(optimizer.param_groups):
            # The second group of Muon is what it leaves to AdamW.
            part = "" if index == 0 else "_adamw" if "use_muon" in group else f"_{index}"
            rates[f"train/lr{network}{part}"] = group["lr"]
    return rates


class PortraitModule(LightningModule):
    """Base of the three modules; ``network`` is the part that is exported.

    Args:
        network: the network to train, with its JSON-able arguments in ``config``.
        kind: "denoiser", "segmenter" or "upscaler".
        resolution: side of the training images, in pixels.
        optimizer: makes the network's optimizer from its parameters.
        lr_scheduler: makes the learning rate's schedule from the optimizer; stepped each step.
        gradient_clip_norm: longest gradient, None for no limit. Lightning's own flag works neither
            with fused optimizers nor in manual optimization.
        channels_last: keep images and weights in NHWC order.

    Attributes:
        step_skipped: whether the step just taken left the weights alone, because a gradient was NaN
            or infinite; equal on all processes.
        last_loss: ``train/loss`` of the pass just made, a scalar of this process.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        kind: str,
        resolution: int,
        optimizer: OptimizerFactory,
        lr_scheduler: LRSchedulerFactory,
        gradient_clip_norm: float | None,
        channels_last: bool,
    ) -> None:
        super().__init__()
        if gradient_clip_norm is not None and gradient_clip_norm <= 0:
            raise ValueError(
                f"gradient_clip_norm is {gradient_clip_norm}; give a positive number, or null"
            )
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self._network_name = type(network).__name__  # FSDP changes the class.
        self.kind = kind
        self.resolution = resolution
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.gradient_clip_norm = gradient_clip_norm
        self.means = RunningMeans()
        self.step_skipped = False
        self.last_loss = torch.tensor(torch.nan)
        self._buffers_before = BufferCopy(self)
        self._logged_step = -1

    def artifact_metadata(self) -> dict[str, Any]:
        """Return what an exported artifact says about the network beside its weights."""
        return {"kind": self.kind, "resolution": self.resolution, "schedule": None, "scale": None}

    @abstractmethod
    def make_samples(self, batch: Batch) -> Tensor:
        """Return pictures to look at, uint8 (rows, columns, 3, H, W), from a validation batch."""

    def images(self, batch: Batch) -> Tensor:
        """Return the batch's photos as float, (N, 3, H, W), in [-1, 1], on the device."""
        return to_model_range(batch["image"]).contiguous(memory_format=self.memory_format)

    # Optimization.

    def configure_model(self) -> None:
        if self.device_mesh is not None and not isinstance(self.network, FSDPModule):
            shard_network(self.network, self.device_mesh)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_factory(self.network.parameters())
        scheduler = {"scheduler": self.lr_scheduler_factory(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,  # noqa: ARG002
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """Clip by ``gradient_clip_norm`` and note the norm before clipping, in one pass."""
        norm = gradient_norm(self.network)
        if self.gradient_clip_norm is not None:
            parameters = [p for p in self.network.parameters() if p.grad is not None]
            nn.utils.clip_grads_with_norm_(parameters, self.gradient_clip_norm, norm)
        if isinstance(norm, DTensor):  # With FSDP each process has a part of the gradients.
            norm = norm.full_tensor()
        self.add_means({"train/grad_norm": norm})
        self.skip_nonfinite(norm, optimizer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self.step_skipped = False
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._buffers_before.save()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        # An infinite loss can have finite gradients, and on one process alone. NaN gradients
        # reach all processes through the reduction that there is anyway.
        guard = torch.where(loss.detach().isfinite(), 1.0, torch.nan)
        super().backward(loss * guard, *args, **kwargs)

    def skip_nonfinite(self, norm: Tensor, optimizer: Optimizer) -> None:
        """Take the optimizer's next step away if the norm is NaN or infinite.

        Weights, the optimizer's state and the running statistics of batch norms stay as they were.
        In manual optimization: call it between backward and ``optimizer.step()``.

        Args:
            norm: of the reduced gradients, and so equal on all processes.
            optimizer: of those gradients.
        """
        # Here the host waits for the device, which is idle afterwards until the next batch has its
        # noise and the first layers are launched: a few milliseconds of a step.
        if not self.step_skipped and bool(norm.isfinite()):
            return
        self.step_skipped = True
        self._buffers_before.restore()
        optimizer.zero_grad(set_to_none=True)  # Optimizers pass over weights without a gradient.
        for group in optimizer.param_groups:
            if "use_muon" in group:  # Muon counts a step whether there are gradients or not.
                group["step"] = group.get("step", 0) - 1

    # Batches and logging.

    def transfer_batch_to_device(
        self,
        batch: Batch,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002
    ) -> Batch:
        # The ids seed generators on the host: on the device, reading them would wait for the
        # previous step to end. As an array, because DDP moves all tensors to the device.
        moved: dict[str, Any] = {
            name: value.numpy() if name == "sample_id" else value.to(device, non_blocking=True)
            for name, value in batch.items()
        }
        return moved

    def add_means(self, values: Mapping[str, Tensor], *, weight: int = 1) -> None:
        """Average scalars into the next logged row, ``weight`` counting like so many steps."""
        self.last_loss = values.get("train/loss", self.last_loss).detach()
        names = tuple(values)
        sums = torch.stack([value.detach().float() for value in values.values()]) * weight
        self.means.add(names, sums, torch.full_like(sums, float(weight)))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        if self.global_step == self._logged_step or not logs_now(self.trainer):
            return
        self._logged_step = self.global_step
        means = self.means.pop(lambda t: self.trainer.strategy.reduce(t, reduce_op="sum"))
        self.log_dict(means | learning_rates(self.trainer.optimizers))

    def log_validation(self, values: Mapping[str, Tensor], *, batch_size: int) -> None:
        """Log means over the validation set, all processes together."""
        # Lightning averages whole numbers over processes by integer division.
        weight = float(batch_size)
        self.log_dict(dict(values), on_epoch=True, sync_dist=True, batch_size=weight)  # type: ignore[arg-type]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["network"] = {
            "name": self._network_name,
            "config": self.network.config,
        }
        checkpoint["artifact_metadata"] = self.artifact_metadata()
