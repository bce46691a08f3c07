"""The model behind docs/scaling.md: bytes and seconds of a step on several GPUs."""

from typing import NamedTuple

BYTES = 4  # of a weight or gradient: float32, also with bf16-mixed
BACKWARD = 2 / 3
"""Share of a step's computing that is the backward pass, during which DDP sends gradients."""
LATENCY_S = 20e-6
"""Of one hop of a collective; assumed."""


class Cluster(NamedTuple):
    """gpus; flops: operations/s of one; wire: bytes/s that one sends on its slowest way."""

    gpus: int
    flops: float
    wire: float


class Training(NamedTuple):
    """parameters of the network; flops: operations per image; batch: global; strategy."""

    parameters: int
    flops: int
    batch: int
    strategy: str


def bytes_sent(
    parameters: int, *, processes: int, strategy: str, passes: int, scatter: int = 1
) -> float:
    """Return the bytes that one process sends per step with ring collectives.

    DDP reduces the gradients once per step, 2 (W - 1) / W of them. FSDP gathers the weights in
    the forward and in the backward pass and scatters the gradients, (W - 1) / W of them each,
    in every pass; `scatter` is 2 where that takes an all-reduce.
    """
    once = (processes - 1) / processes * BYTES * parameters
    return 2 * once if strategy == "ddp" else (2 + scatter) * once * passes


def step_seconds(training: Training, cluster: Cluster) -> tuple[float, float]:
    """Return the seconds of a step, and how many of them its computing waits for the wires.

    DDP's reduction hides behind the backward pass. FSDP's collectives hide behind the whole step,
    as each block's weights are gathered while the block before it computes.
    """
    computing = training.flops * training.batch / cluster.gpus / cluster.flops
    sent = bytes_sent(
        training.parameters, processes=cluster.gpus, strategy=training.strategy, passes=1
    )
    sending = sent / cluster.wire + 2 * (cluster.gpus - 1) * LATENCY_S
    hidden = computing * (BACKWARD if training.strategy == "ddp" else 1.0)
    exposed = max(0.0, sending - hidden) if cluster.gpus > 1 else 0.0
    return computing + exposed, exposed
