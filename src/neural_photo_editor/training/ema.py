"""Exponential moving average of the exported network's weights."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from neural_photo_editor.common.log import get_logger

log = get_logger(__name__)


class EMA(Callback):
    """Keeps averaged weights of ``module.network``, validates with them and checkpoints both.

    Lightning's EMAWeightAveraging has no warm-up (a short run would keep its random start),
    averages the whole module (a discriminator and frozen networks included) and replaces the raw
    weights when training ends, so that a run could not be continued. Here the checkpoint's
    ``state_dict`` stays raw and ``checkpoint["ema"]`` holds the average. With FSDP each process
    averages its own part of the weights; the checkpoint has the whole ones.

    Args:
        decay: part of the average that stays at each step, in [0, 1). Update n uses
            min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; choose a number from 0 to below 1")
        self.decay = decay
        self.num_updates = 0
        self._average: dict[str, Tensor] = {}
        self._restored: dict[str, Tensor] | None = None
        self._seen_step = 0
        self._swapped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Here the weights are on their device, and a checkpoint is loaded with every strategy.
        current = _network(pl_module).state_dict()
        start = current if self._restored is None else self._restored
        self._average = {name: _copy_like(value, start[name]) for name, value in current.items()}
        self._restored = None
        self._seen_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        if trainer.global_step > self._seen_step:
            self._seen_step = trainer.global_step
            if not getattr(pl_module, "step_skipped", False):
                self.update(pl_module)

    @torch.no_grad()
    def update(self, pl_module: LightningModule) -> None:
        """Move the average one step towards the current weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in _network(pl_module).state_dict().items():
            if value.is_floating_point():
                averages.append(_own_part(self._average[name]))
                values.append(_own_part(value))
            else:
                self._average[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1.0 - decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._swap(pl_module)

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        exception: BaseException,  # noqa: ARG002
    ) -> None:
        if self._swapped:
            self._swap(pl_module)

    @torch.no_grad()
    def _swap(self, pl_module: LightningModule) -> None:
        if not self._average:
            return
        for name, value in _network(pl_module).state_dict().items():
            weights, average = _own_part(value), _own_part(self._average[name])
            held = weights.clone()
            weights.copy_(average)
            average.copy_(held)
        self._swapped = not self._swapped

    def on_save_checkpoint(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        checkpoint["ema"] = {
            "decay": self.decay,
            "num_updates": self.num_updates,
            "state_dict": {name: _whole(value) for name, value in self._average.items()},
        }

    def on_load_checkpoint(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        if "ema" not in checkpoint:
            log.warning("the checkpoint has no averaged weights: starting from its raw ones")
            return
        self.num_updates = checkpoint["ema"]["num_updates"]
        self._restored = checkpoint["ema"]["state_dict"]


def _copy_like(weights: Tensor, source: Tensor) -> Tensor:
    """Copy to the device, type and processes of weights; the source is whole or as they are."""
    if isinstance(weights, DTensor) and not isinstance(source, DTensor):
        whole = source.to(weights.device, weights.dtype)
        return distribute_tensor(whole, weights.device_mesh, weights.placements)
    return source.to(weights, copy=True)


def _own_part(weights: Tensor) -> Tensor:
    """Return what this process has of weights: all of them without FSDP."""
    return weights.to_local() if isinstance(weights, DTensor) else weights


def _whole(weights: Tensor) -> Tensor:
    """Gather weights from all processes."""
    return weights.full_tensor().cpu() if isinstance(weights, DTensor) else weights


def _network(pl_module: LightningModule) -> nn.Module:
    assert isinstance(pl_module.network, nn.Module)
    return pl_module.network
