"""How a global batch is dealt out: to processes, and to passes through the network."""

from typing import NamedTuple


class BatchSplit(NamedTuple):
    """A global batch is processes x accumulation x per_device samples.

    per_device: samples that a device takes at once. accumulation: passes through the network whose
    gradients make one optimizer step.
    """

    per_device: int
    accumulation: int


def split_batch(
    batch_size: int, *, processes: int, max_batch_per_device: int | None = None
) -> BatchSplit:
    """Split a global batch evenly, with as few passes as the limit allows.

    Passes of one size keep the step exact: the mean of their losses is the loss of the whole.

    Args:
        batch_size: samples of a global batch, all processes together.
        processes: number of processes.
        max_batch_per_device: samples that a device can take at once; None for no limit.

    Raises:
        ValueError: the batch is no whole multiple of the processes, or the limit is below 1.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"data.batch_size is {batch_size!r}; give a whole number of at least 1")
    if batch_size % processes:
        raise ValueError(
            f"data.batch_size is {batch_size!r}; it counts all {processes} processes together and "
            "must be a whole multiple of their number"
        )
    share = limit = batch_size // processes
    if max_batch_per_device is not None:
        limit = max_batch_per_device
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(
                f"data.max_batch_per_device is {limit!r}; give a whole number of at least 1, or "
                "null for no limit"
            )
    per_device = next(size for size in range(min(share, limit), 0, -1) if share % size == 0)
    return BatchSplit(per_device, share // per_device)
