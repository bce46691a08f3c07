"""A callback that measures bytes and seconds of a training's steps, for scaling.py."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

WARM_UP = 5
"""Steps before the measurement: connections, first epochs and memory."""


class Traffic(Callback):
    """Writes ``path``: per step the bytes all processes sent, and process 0's seconds.

    The bytes are those of the loopback device, and so of this training alone where it has a
    network namespace to itself. CPU seconds are for a machine that has other work, too.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._start = _Counts(0, 0.0, 0.0)

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
            self._start = _counts()
        elif trainer.global_step == trainer.max_steps:
            steps = trainer.max_steps - WARM_UP
            pairs = zip(_Counts._fields, self._start, _counts(), strict=True)
            content = {name: (end - start) / steps for name, start, end in pairs}
            self.path.write_text(json.dumps(content))


class _Counts(NamedTuple):
    bytes: int
    seconds: float
    cpu_seconds: float


def _counts() -> _Counts:
    return _Counts(_sent_bytes(), time.perf_counter(), time.process_time())


def _sent_bytes() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise ValueError("there is no loopback device")
