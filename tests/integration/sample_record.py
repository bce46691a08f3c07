"""A callback that writes down what each training step saw, one file per process."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer


class Share(NamedTuple):
    """What one process saw in one step: the samples' ids, their pixels' sum and the loss."""

    sample_ids: tuple[int, ...]
    pixels: int
    loss: float


class SampleRecord(Callback):
    """Appends a line per step to ``folder/rank{r}.jsonl``.

    A line is one write(2), so that a killed process leaves whole lines only.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {
            "step": trainer.global_step,
            "world_size": trainer.world_size,
            "sample_ids": batch["sample_id"].tolist(),
            "pixels": int(batch["image"].long().sum()),
            "loss": float(outputs["loss"]),
        }
        path = self.folder / f"rank{trainer.global_rank}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.close(descriptor)


def read_record(folder: Path) -> dict[tuple[int, int], dict[int, list[Share]]]:
    """Return (step, number of processes) -> rank -> what it saw, once per time the step ran."""
    record: dict[tuple[int, int], dict[int, list[Share]]] = defaultdict(lambda: defaultdict(list))
    for path in folder.glob("rank*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            share = Share(tuple(line["sample_ids"]), line["pixels"], line["loss"])
            record[line["step"], line["world_size"]][int(path.stem[4:])].append(share)
    return record


def read_steps(folder: Path) -> list[int]:
    """Return the steps that rank 0 took, in the order of time."""
    lines = (folder / "rank0.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]
