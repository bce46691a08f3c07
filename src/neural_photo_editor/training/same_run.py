"""All processes of a run have one configuration and go on from one checkpoint."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, tensor


class SameRun(Callback):
    """Refuses to train where a process differs from process 0, before the first step.

    Each process resolves its configuration itself, and on equal machines alike. A host with
    another checkout, other shards, a folder of its own instead of the shared one, or a CPU that
    makes another choice of "auto" would train something else and nobody would notice.

    Args:
        config: the resolved configuration, and whatever else must be equal; JSON-able.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(_flat(config))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        theirs: dict[str, Any] = trainer.strategy.broadcast(self.config)
        different = sorted(
            name
            for name in theirs.keys() | self.config.keys()
            if theirs.get(name) != self.config.get(name)
        )
        description = "; ".join(
            f"{name} is {self.config.get(name)!r}, there {theirs.get(name)!r}" for name in different
        )
        _stop_all(
            trainer,
            stop=bool(different),
            reason="its configuration is not that of process 0: "
            f"{description}; start all with one command, checkout and folder",
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        step = trainer.strategy.broadcast(trainer.global_step)
        _stop_all(
            trainer,
            stop=step != trainer.global_step,
            reason=f"it continues from step {trainer.global_step}, process 0 from step {step}: "
            "run_dir must be one folder that all hosts share",
        )


def _stop_all(trainer: Trainer, *, stop: bool, reason: str) -> None:
    """Raise on all processes if one has a reason; the others would wait for it forever."""
    count: Tensor = trainer.strategy.reduce(
        tensor(float(stop), device=trainer.strategy.root_device), reduce_op="sum"
    )
    if stop:
        raise ValueError(f"process {trainer.global_rank} cannot join: {reason}")
    if count.item():
        raise ValueError(f"{int(count.item())} processes cannot join; their own messages say why")


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of everything that is not itself a mapping."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
