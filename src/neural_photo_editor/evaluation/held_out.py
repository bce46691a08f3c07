"""Held-out photos to measure a network on."""

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

Batch = Mapping[str, Tensor]
"""``image`` uint8 (N, 3, H, W), ``labels`` uint8 (N, H, W), ``sample_id``."""
Batches = Iterable[Batch]


def first_samples(batches: Batches, count: int | None) -> Iterator[Batch]:
    """Yield the first ``count`` samples (None = all), the same ones whatever the batches' size.

    Raises:
        ValueError: count is below 1.
    """
    if count is None:
        yield from batches
        return
    if count < 1:
        raise ValueError(f"max_samples is {count}; give 1 or more, or null for all")
    for batch in batches:
        yield {name: value[:count] for name, value in batch.items()}
        count -= len(batch["image"])
        if count <= 0:
            return
