"""A callback that measures the bytes and seconds of a training's steps, for scaling.py."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

WARM_UP = 5
"""Steps before the measurement: connections, first epochs and memory."""


class Traffic(Callback):
    """Writes ``path`` with the bytes all processes sent and the time they took, per step.

    The bytes are those of the loopback device, and so of this training alone where it has a
    network namespace to itself.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._start = (0, 0.0)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        if not trainer.is_global_zero:
            return
        if trainer.global_step == WARM_UP:
            self._start = (_sent_bytes(), time.perf_counter())
        elif trainer.global_step == trainer.max_steps:
            steps = trainer.max_steps - WARM_UP
            sent, seconds = _sent_bytes() - self._start[0], time.perf_counter() - self._start[1]
            self.path.write_text(json.dumps({"bytes": sent / steps, "seconds": seconds / steps}))


def _sent_bytes() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise ValueError("there is no loopback device")
