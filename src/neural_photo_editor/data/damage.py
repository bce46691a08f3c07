"""What happens when a sample cannot be read, and how a training reports it."""

from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from neural_photo_editor.common.log import get_logger

_log = get_logger(__name__)

OnDamage = Literal["stop", "skip"]


class DamageRecord:
    """The damaged samples that this process has replaced.

    Attributes:
        skipped_samples: how often a damaged sample was asked for, all epochs together.
    """

    def __init__(self) -> None:
        self.skipped_samples = 0
        self._named: set[int] = set()

    def add(self, damaged: dict[int, str]) -> None:
        """Count the samples of one batch, id -> what was wrong, and warn of each id once."""
        self.skipped_samples += len(damaged)
        for sample_id, message in damaged.items():
            if sample_id not in self._named:
                self._named.add(sample_id)
                _log.warning("replaced a damaged sample: %s", message)


class SkippedSamplesLog(Callback):
    """Logs ``data/skipped_samples``, the sum over all processes, where damage is skipped."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        # Every process comes here with the same step, so all take part in the sum or none does.
        if getattr(data, "on_damage", "stop") != "skip":
            return
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step % every == 0:
            count = float(data.damage.skipped_samples)
            pl_module.log("data/skipped_samples", count, sync_dist=True, reduce_fx="sum")
