"""Losses by timestep: between little and much noise they differ tenfold, which a mean hides."""

from itertools import pairwise

from torch import Tensor

NUM_RANGES = 4


def timestep_range_names(num_timesteps: int) -> tuple[str, ...]:
    """Return the names of the quarters of 1..T: of 500 timesteps t001-125 to t376-500."""
    bounds = [num_timesteps * i // NUM_RANGES for i in range(NUM_RANGES + 1)]
    return tuple(f"t{low + 1:03d}-{high:03d}" for low, high in pairwise(bounds))


def sum_by_timestep_range(
    losses: Tensor, t: Tensor, *, num_timesteps: int
) -> tuple[Tensor, Tensor]:
    """Sum losses by the quarter that their timesteps are in.

    Args:
        losses: float, (N,).
        t: int64, (N,), in 1..T.
        num_timesteps: T.

    Returns:
        Sums and how many were summed, both of the losses' type, (4,), in the names' order.
    """
    index = (t * NUM_RANGES - 1) // num_timesteps
    zeros = losses.new_zeros(NUM_RANGES)
    return zeros.index_add(0, index, losses), zeros.index_add(0, index, losses.new_ones(len(t)))
