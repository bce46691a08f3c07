"""The order of an epoch: a pure function of seed and epoch that touches few shards at a time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.common.seeding import numpy_generator


def shard_windows(
    num_shards: int, *, seed: int, epoch: int, shuffle_shards: int
) -> list[NDArray[np.int64]]:
    """Permute the shards and cut them into windows of `shuffle_shards`; the last may be smaller.

    Returns the shards' numbers, int64, of each window in ascending order.
    """
    if num_shards <= shuffle_shards:
        return [np.arange(num_shards)]
    order = numpy_generator(seed, "shards", epoch).permutation(num_shards)
    return [
        np.sort(order[start : start + shuffle_shards])
        for start in range(0, num_shards, shuffle_shards)
    ]


def epoch_order(
    shard_sizes: Sequence[int], *, seed: int, epoch: int, shuffle_shards: int
) -> NDArray[np.int64]:
    """Return an order of all samples, int64, as positions in the shards' concatenation.

    All samples of a window are permuted jointly, and the windows follow each other. With no more
    shards than fit into one window this is a permutation of all samples.

    Args:
        shard_sizes: number of samples of each shard.
        shuffle_shards: shards of a window; more shuffle better, fewer need less cache.
    """
    ends = np.cumsum(shard_sizes, dtype=np.int64)
    generator = numpy_generator(seed, "order", epoch)
    parts = []
    for window in shard_windows(
        len(shard_sizes), seed=seed, epoch=epoch, shuffle_shards=shuffle_shards
    ):
        positions = [np.arange(ends[shard] - shard_sizes[shard], ends[shard]) for shard in window]
        parts.append(generator.permutation(np.concatenate(positions)))
    return np.concatenate(parts)
