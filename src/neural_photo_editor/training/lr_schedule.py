"""The learning rate over the steps of a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, *, warmup_steps: int, total_steps: int, final_factor: float
) -> LambdaLR:
    """SGDR (Loshchilov & Hutter 2017), Eq. 5, without restarts, after a linear warm-up.

    Args:
        optimizer: its learning rate is the highest one.
        warmup_steps: steps of linear growth, 0 for none.
        total_steps: step at which ``final_factor`` is reached; it stays there afterwards.
            0 makes it the factor of all steps.
        final_factor: last learning rate as a part of the highest; 1 keeps it constant.

    Raises:
        ValueError: steps or factor out of range.
    """
    if warmup_steps < 0 or total_steps < 0:
        raise ValueError(
            f"warmup_steps={warmup_steps}, total_steps={total_steps}: neither can be negative"
        )
    if not 0.0 <= final_factor <= 1.0:
        raise ValueError(f"final_factor is {final_factor}; choose a number from 0 to 1")
    # A run cut short by an override still reaches full speed.
    warmup_steps = min(warmup_steps, total_steps // 10)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if step >= total_steps:
            return final_factor
        progress = (step - warmup_steps) / (total_steps - warmup_steps)
        return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
