"""The model behind docs/scaling.md: bytes and seconds of a step on several GPUs."""

from typing import NamedTuple

BYTES = 4  # of a weight or gradient: float32, also with bf16-mixed
BACKWARD = 2 / 3
"""Share of a step's computing that is the backward pass, during which DDP sends gradients."""
BUCKET = 25 * 2**20
"""Bytes of gradients that DDP sends at once; the last of them when nothing is left to compute."""
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


def waiting_seconds(sending: float, *, computing: float, parameters: int, strategy: str) -> float:
    """Return how many seconds of a step's sending its computing does not hide.

    DDP's reduction hides behind the backward pass, but for its last bucket. FSDP's collectives
    hide behind the whole step, as each block's weights are gathered while the one before it
    computes.
    """
    if strategy == "fsdp":
        return max(0.0, sending - computing)
    last_bucket = sending * min(1.0, BUCKET / (BYTES * parameters))
    return max(last_bucket, sending - BACKWARD * computing)


def step_seconds(training: Training, cluster: Cluster) -> tuple[float, float]:
    """Return the seconds of a step, and how many of them its computing waits for the wires."""
    computing = training.flops * training.batch / cluster.gpus / cluster.flops
    sent = bytes_sent(
        training.parameters, processes=cluster.gpus, strategy=training.strategy, passes=1
    )
    waiting = waiting_seconds(
        sent / cluster.wire + 2 * (cluster.gpus - 1) * LATENCY_S,
        computing=computing,
        parameters=training.parameters,
        strategy=training.strategy,
    )
    return computing + waiting, waiting
