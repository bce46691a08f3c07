"""How fast a training is, what holds it up, and how much memory it takes."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from neural_photo_editor.training.hardware import describe_hardware, peak_flops
from neural_photo_editor.training.portrait_module import Batch, logs_now

HARDWARE_FILE = "hardware.json"
FETCH = "train_dataloader_next"
"""How Lightning calls the wait for the next batch, behind the name of its loop."""


class DataWait(Profiler):
    """Adds up how long a training waits for its loader; does nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._start = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(FETCH):
            self._start = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(FETCH):
            self.seconds += time.perf_counter() - self._start


class FlopCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of products, convolutions and attention, by torch's own formulas.

    Unlike torch's FlopCounterMode it replaces no operator by others, which round differently: a
    training is the same, bit by bit, with and without it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=output)
        return output


class Throughput(Callback):
    """Logs, with the other metrics of a step, the speed since the last ones; writes the hardware.

    * ``train/images_per_second``: of all processes, without the time for validation.
    * ``train/data_wait_seconds``, ``train/data_wait_share``: of a step, waiting for the loader; of
      the process that waits longest. A share of 0.1 means that a perfect loader saves 10 %.
    * ``train/mfu``: share of the device's peak (`hardware.peak_flops`) that the network's
      arithmetic takes up; left out where the peak is not known.
    * ``train/memory_gib``, ``train/gpu_memory_peak_gib``: of the process that takes most; resident
      now, and highest on the GPU so far.

    Operations are counted in the first step and in the first after each validation, which take
    about twice as long; with activation checkpointing they contain what is computed again.

    Args:
        run_dir: run folder.
    """

    def __init__(self, *, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.data_wait = DataWait()
        self._waits = False
        self._peak_flops: float | None = None
        self._counter: contextlib.ExitStack | None = None
        self._flops = FlopCount()
        self._flops_per_image = 0.0
        self._count_next = True
        self._images = 0
        self._start = self._validation_start = self._wait_start = 0.0
        self._start_step = self._logged_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]
        self._waits = isinstance(profiler, PassThroughProfiler)  # Nobody asked for another one.
        if self._waits:
            trainer.profiler = self.data_wait  # type: ignore[attr-defined]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bf16 = str(trainer.precision).startswith("bf16")
        self._peak_flops = peak_flops(pl_module.device, bf16=bf16)
        if trainer.is_global_zero:
            hardware = {
                **describe_hardware(),
                "num_nodes": trainer.num_nodes,
                "processes": trainer.world_size,
                "precision": str(trainer.precision),
                "peak_tflops_per_process": self._peak_flops and self._peak_flops / 1e12,
            }
            self.run_dir.mkdir(parents=True, exist_ok=True)
            text = json.dumps(hardware, indent=2) + "\n"
            (self.run_dir / HARDWARE_FILE).write_text(text)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._start_window(trainer)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Batch,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        if self._count_next and self._peak_flops and trainer.is_global_zero:
            self._counter = contextlib.ExitStack()
            if _run_uncompiled(pl_module, self._counter) and pl_module.device.type == "cuda":
                self._counter.enter_context(save_on_cpu())  # It takes more memory than compiled.
            self._flops = self._counter.enter_context(FlopCount())

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        self._stop_counting(len(batch["image"]))
        self._count_next = False
        self._images += len(batch["image"])
        step = trainer.global_step
        if step > self._logged_step and logs_now(trainer):
            pl_module.log_dict(self._metrics(trainer, pl_module.device))
            self._start_window(trainer)

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        exception: BaseException,  # noqa: ARG002
    ) -> None:
        self._stop_counting(0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._start += time.perf_counter() - self._validation_start
        # By now another phase of a GAN may have begun.
        self._count_next = True

    def _stop_counting(self, images: int) -> None:
        if self._counter is None:
            return
        self._counter.close()
        self._counter = None
        if images:
            self._flops_per_image = self._flops.flops / images

    def _start_window(self, trainer: Trainer) -> None:
        self._start = time.perf_counter()
        self._start_step = self._logged_step = trainer.global_step
        self._wait_start = self.data_wait.seconds
        self._images = 0

    def _metrics(self, trainer: Trainer, device: torch.device) -> dict[str, float]:
        seconds = time.perf_counter() - self._start
        steps = trainer.global_step - self._start_step
        waited = self.data_wait.seconds - self._wait_start
        values = {"train/memory_gib": psutil.Process().memory_info().rss / 2**30}
        if self._waits:
            values["train/data_wait_seconds"] = waited / steps
            values["train/data_wait_share"] = waited / seconds
        if device.type == "cuda":
            values["train/gpu_memory_peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        largest = trainer.strategy.reduce(
            torch.tensor(list(values.values()), device=device), reduce_op="max"
        ).tolist()
        metrics = dict(zip(values, largest, strict=True))
        metrics["train/images_per_second"] = self._images * trainer.world_size / seconds
        if self._peak_flops and self._flops_per_image:
            flops = self._flops_per_image * self._images / seconds
            metrics["train/mfu"] = flops / self._peak_flops
        return metrics


def _run_uncompiled(module: nn.Module, until: contextlib.ExitStack) -> bool:
    """Let compiled modules run as they are until the stack closes; return whether there are any.

    Under a dispatch mode Dynamo compiles nothing, and never tries those functions again.
    """
    compiled = [m for m in module.modules() if m._compiled_call_impl is not None]
    for child in compiled:
        until.callback(setattr, child, "_compiled_call_impl", child._compiled_call_impl)
        child._compiled_call_impl = None
    return bool(compiled)
