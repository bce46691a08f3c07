"""Optimizers that need more than a list of parameters."""

from collections.abc import Iterable

from pytorch_optimizer import Muon
from torch import nn
from torch.optim import Optimizer

SMALLEST_HIDDEN_SIDE = 32
"""Matrices with a shorter side take or give few colors or classes: they have few directions."""


def muon(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    adamw_lr: float,
    momentum: float = 0.95,
    adamw_betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> Optimizer:
    """Muon (Jordan et al. 2024) for hidden weights, AdamW for everything else.

    Muon replaces the averaged gradient of a weight matrix by the nearest orthogonal matrix, so
    that all its directions learn at one rate. A convolution counts as the matrix of its output
    channels by the rest. Biases, norms, and matrices with a side below SMALLEST_HIDDEN_SIDE are
    left to AdamW: the first and last layer, as its authors advise. Where a network's first layer
    takes in patches, as a stem of factor 2 does, its matrix has 108 columns and counts as hidden.

    Args:
        parameters: a network's parameters.
        lr: learning rate of the hidden weights. An update has spectral norm lr, times
            sqrt(rows / columns) where there are more rows.
        adamw_lr: learning rate of the rest.
        momentum: of the hidden weights' gradients, in [0, 1).
        adamw_betas: decay of AdamW's moments.
        weight_decay: decoupled, of both.

    Raises:
        ValueError: a rate is negative, or a decay is out of range.
    """
    if lr < 0.0 or adamw_lr < 0.0:
        raise ValueError(f"lr={lr}, adamw_lr={adamw_lr}: learning rates cannot be negative")
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in parameters:
        (hidden if _is_hidden_matrix(parameter) else rest).append(parameter)
    groups = [
        {"params": params, "use_muon": use_muon}
        for params, use_muon in ((hidden, True), (rest, False))
        if params
    ]
    optimizer: Optimizer = Muon(
        groups,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        adamw_lr=adamw_lr,
        adamw_betas=(adamw_betas[0], adamw_betas[1]),
        adamw_wd=weight_decay,
    )
    return optimizer


def _is_hidden_matrix(parameter: nn.Parameter) -> bool:
    rows = len(parameter) if parameter.ndim else 1
    return parameter.ndim >= 2 and min(rows, parameter.numel() // rows) >= SMALLEST_HIDDEN_SIDE
