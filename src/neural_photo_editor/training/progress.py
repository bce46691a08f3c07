"""Speed and progress of a run, as plain lines that stay readable in a log file."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.training.portrait_module import Batch

log = get_logger(__name__)


class Progress(Callback):
    """Writes one line every few seconds: steps, rate, loss, wait for data, time left.

    Args:
        label: what the line calls the run.
        every_s: seconds between two lines.
    """

    def __init__(self, *, label: str, every_s: float) -> None:
        self.label = label
        self.every_s = every_s
        self._start_step = 0
        self._start = self._last_line = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._start_step = trainer.global_step
        self._start = self._last_line = time.monotonic()
        log.info(
            "%s: training from step %d to %d on %d process(es), precision %s",
            self.label,
            trainer.global_step,
            trainer.max_steps,
            trainer.world_size,
            trainer.precision,
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        now = time.monotonic()
        if now - self._last_line >= self.every_s or trainer.global_step == self._start_step + 1:
            self._last_line = now
            self._write_line(trainer, now)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/") and name.count("/") == 1
        }
        text = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
        log.info("%s: validation at step %d: %s", self.label, trainer.global_step, text)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        log.info(
            "%s: stopped at step %d after %s",
            self.label,
            trainer.global_step,
            _duration(time.monotonic() - self._start),
        )

    def _write_line(self, trainer: Trainer, now: float) -> None:
        step, last = trainer.global_step, trainer.max_steps
        rate = (step - self._start_step) / max(1e-9, now - self._start)
        loss = trainer.callback_metrics.get("train/loss")
        wait = trainer.callback_metrics.get("train/data_wait_share")
        log.info(
            "%s: step %d/%d (%d %%), %.2f steps/s%s%s, %s left",
            self.label,
            step,
            last,
            100 * step // max(1, last),
            rate,
            "" if loss is None else f", loss {float(loss):.4f}",
            "" if wait is None else f", {100 * float(wait):.0f} % waiting for data",
            _duration((last - step) / rate) if rate > 0 else "?",
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
