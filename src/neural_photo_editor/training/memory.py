"""Activation checkpointing, and the blocks of a network that it and FSDP work on."""

from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the innermost parts of a network that join several layers: residual, attention ..."""
    return [
        module
        for module in network.modules()
        if module is not network
        and not isinstance(module, nn.ModuleList)
        and not any(True for child in module.children() for _ in child.children())
        and sum(any(True for _ in child.parameters()) for child in module.children()) >= 2
    ]


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network keeps running averages of its activations."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def checkpoint_activations(network: nn.Module) -> None:
    """Let each block keep its input alone and compute the rest again in the backward pass.

    Gradients and the names in the state dict stay the same; a step costs one more forward pass.

    Raises:
        ValueError: the network has batch normalization, whose running averages would move twice.
    """
    if has_batch_norm(network):
        raise ValueError(
            f"activation_checkpointing is true, but {type(network).__name__} has batch "
            "normalization, whose averages would move twice a step: set it to false and lower "
            "data.max_batch_per_device"
        )
    for block in blocks(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
