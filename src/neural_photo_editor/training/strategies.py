"""How a run's processes share the work: DDP, or FSDP where the weights do not fit one device."""

import atexit
from datetime import timedelta

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from neural_photo_editor.training.memory import blocks, has_batch_norm

STRATEGIES = ("auto", "ddp", "fsdp")


def make_strategy(
    name: str, *, module: LightningModule, processes: int, timeout_s: float
) -> Strategy | str:
    """Make Lightning's strategy.

    Args:
        name: "ddp", "fsdp", or "auto" for a single process without either.
        module: what will be trained.
        processes: of the whole run.
        timeout_s: longest wait for another process, in seconds; then the process ends.

    Raises:
        ValueError: fsdp with a module whose optimization is manual, or with batch normalization,
            whose running averages FSDP, unlike DDP, leaves different on each process.
    """
    timeout = timedelta(seconds=timeout_s)
    if name == "fsdp":
        if not module.automatic_optimization:
            raise ValueError(
                f"trainer.strategy is fsdp, but {type(module).__name__} trains two networks in "
                "turns: set trainer.strategy=ddp; its networks are small"
            )
        if has_batch_norm(module):
            raise ValueError(
                f"trainer.strategy is fsdp, but {type(module).__name__} has batch normalization, "
                "whose running averages would differ between processes: set trainer.strategy=ddp; "
                "its network is small"
            )
        return ModelParallelStrategy(
            data_parallel_size=processes,
            tensor_parallel_size=1,
            # One file with whole weights, the format of all other runs.
            save_distributed_checkpoint=False,
            timeout=timeout,
        )
    if name == "ddp":
        return DDPStrategy(
            timeout=timeout,
            gradient_as_bucket_view=True,  # One copy of the gradients less.
            # Either half of a GAN's step leaves the other network without gradients.
            find_unused_parameters=not module.automatic_optimization,
        )
    return "auto"


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    """Spread weights, gradients and optimizer state over the processes, in place (FSDP2).

    Blocks gather their weights when they run and drop them again. The root does so too, contrary
    to the library's default: it would compute validation with weights gathered before the EMA
    swapped them.
    """
    # FSDP takes weights apart by rows. With channels_last, activations stay in NHWC order: it is
    # enough for a convolution that its input is.
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    data_parallel = mesh["data_parallel"]
    for module in (*blocks(network), network):
        fully_shard(module, mesh=data_parallel, reshard_after_forward=True)


def leave_group_at_exit() -> None:
    """Let this process leave its group of processes before the interpreter ends, if that is gloo's.

    Gloo's threads may hold tensors longer than Python lives, and a process that had finished then
    ends with SIGABRT (pytorch#179291). Lightning does this for NCCL.
    """
    atexit.register(_leave_group)


def _leave_group() -> None:
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if distributed.get_backend() == "gloo":
        distributed.destroy_process_group()
