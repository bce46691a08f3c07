"""The processes of one evaluation, as torchrun starts them; one alone needs no launcher."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

_PATIENCE = timedelta(days=2)
"""How long one process waits for another's share of the work. When one dies, torchrun ends all."""


@dataclass(frozen=True)
class Processes:
    """This process's rank among ``size`` of them."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor of one shape over the processes; all of them must ask for it.

        tensor: on the CPU; it is left as it was.
        """
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that torchrun started, and leave them at the end.

    They meet through gloo, which sums on the CPU: what is summed here is small and float64.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes()
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def device_of(name: str) -> torch.device:
    """Return a device: "auto" takes a GPU if there is one, and with torchrun one per process."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0")) if name in ("auto", "cuda") else None
    device = torch.device(name if number is None else f"cuda:{number}")
    torch.cuda.set_device(device)
    return device
