"""Checking a run's settings and turning every "auto" into what this machine offers."""

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from neural_photo_editor.training.checkpoint import WholeFileCheckpointIO

PRECISIONS = ("auto", "32-true", "bf16-mixed")
POSITIVE_INTEGERS = (
    "max_steps",
    "val_check_interval",
    "log_every_n_steps",
    "accumulate_grad_batches",
)


def check_trainer(trainer: Mapping[str, Any], *, batch_size: int) -> None:
    """Refuse settings that would fail late or in words that do not name them.

    Args:
        trainer: the configuration's ``trainer`` section.
        batch_size: ``data.batch_size``, all processes together.

    Raises:
        ValueError: a setting is out of range or contradicts another; the message names it.
    """
    for name in POSITIVE_INTEGERS:
        value = trainer[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"trainer.{name} is {value!r}; give a whole number of at least 1")
    if trainer["precision"] not in PRECISIONS:
        raise ValueError(
            f"trainer.precision is {trainer['precision']!r}; choose one of {', '.join(PRECISIONS)}"
        )
    launched = launched_processes()
    for name in ("num_nodes", "devices"):
        value = trainer[name]
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(
                f"trainer.{name} is {value!r}; give a whole number of at least 1, or auto"
            )
        if launched and value not in ("auto", launched[name]):
            raise ValueError(
                f"trainer.{name} is {value}, but torchrun started {launched[name]}; set auto"
            )
    processes = num_processes(trainer)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size % processes:
        raise ValueError(
            f"data.batch_size is {batch_size!r}; it counts all {processes} processes together and "
            "must be a whole multiple of their number"
        )


def resolve_auto(
    trainer: Mapping[str, Any], *, ckpt_path: str | None, run_dir: Path
) -> tuple[str | None, dict[str, Any]]:
    """Return the checkpoint to continue from and the trainer's settings without "auto".

    Args:
        trainer: the configuration's ``trainer`` section, checked.
        ckpt_path: a file, None to start anew, or "auto" for ``last.ckpt`` of the run folder, if
            there is one.
        run_dir: the run folder.

    Raises:
        ValueError: the named checkpoint is absent.
    """
    last = run_dir / "checkpoints" / "last.ckpt"
    if ckpt_path == "auto":
        ckpt_path = str(last) if last.is_file() else None
    elif ckpt_path is not None and not Path(ckpt_path).is_file():
        raise ValueError(
            f"ckpt_path: there is no file {ckpt_path}; correct it, or give auto to continue from "
            f"{last} if it is there"
        )
    launched = launched_processes() or {}
    resolved = dict(trainer)
    if resolved["num_nodes"] == "auto":
        resolved["num_nodes"] = launched.get("num_nodes", 1)
    if resolved["devices"] == "auto":
        resolved["devices"] = num_processes(trainer) // resolved["num_nodes"]
    if resolved["strategy"] == "auto":
        resolved["strategy"] = "ddp" if num_processes(resolved) > 1 else "auto"
    if resolved["precision"] == "auto":
        resolved["precision"] = best_precision(accelerator=resolved["accelerator"])
    # A run cut short by an override is still validated, and so has a best checkpoint.
    resolved["val_check_interval"] = min(resolved["val_check_interval"], resolved["max_steps"])
    return ckpt_path, resolved


def check_parts(module: LightningModule, datamodule: LightningDataModule) -> None:
    """Open the data and make the optimizers once, so that their errors come before the training.

    Raises:
        ValueError: from the data module, an optimizer or a learning rate schedule.
    """
    datamodule.setup("fit")
    datamodule.train_dataloader()
    module.configure_optimizers()


def trainer_arguments(trainer: Mapping[str, Any], *, module: LightningModule) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer, those that no configuration changes included.

    Args:
        trainer: the configuration's ``trainer`` section, resolved.
        module: what will be trained.
    """
    arguments = {
        **trainer,
        "use_distributed_sampler": False,  # The data module gives each process its share.
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [WholeFileCheckpointIO()],
    }
    if not module.automatic_optimization and trainer["strategy"] == "ddp":
        # Either half of a GAN's step leaves the other network without gradients.
        arguments["strategy"] = "ddp_find_unused_parameters_true"
    return arguments


def num_processes(trainer: Mapping[str, Any]) -> int:
    """Return the number of processes of a run, all nodes together."""
    launched = launched_processes()
    if launched:
        return launched["num_nodes"] * launched["devices"]
    devices, num_nodes = trainer["devices"], trainer["num_nodes"]
    if devices == "auto":
        devices = max(1, torch.cuda.device_count()) if _uses_gpu(trainer["accelerator"]) else 1
    return int(devices) * (1 if num_nodes == "auto" else int(num_nodes))


def launched_processes(environ: Mapping[str, str] | None = None) -> dict[str, int] | None:
    """Return ``num_nodes`` and ``devices`` (per node) as torchrun set them, None outside it."""
    environ = os.environ if environ is None else environ
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    return {
        "num_nodes": int(environ["GROUP_WORLD_SIZE"]),
        "devices": int(environ["LOCAL_WORLD_SIZE"]),
    }


def best_precision(*, accelerator: str) -> str:
    """Return bf16-mixed where the hardware computes in bfloat16, else 32-true.

    On a CPU that means AMX or AVX-512 BF16 (a training step took 0.57 of the time with the
    latter); elsewhere bfloat16 is emulated and slower. float16 is never chosen: its loss scaling
    needs every optimizer step to go through Lightning, which a GAN's does not.

    Args:
        accelerator: Lightning's name: "auto", "cpu", "gpu" or "cuda".
    """
    if _uses_gpu(accelerator):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        has_bf16 = any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return "bf16-mixed" if has_bf16 else "32-true"


def quiet_lightning() -> None:
    """Leave out Lightning's advertisements and warnings about what is done on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        r".*have overridden `transfer_batch_to_device`",  # The base module says why.
        r".*does not have many workers",  # The experiments choose them.
        r".*treespec, LeafSpec",
        r".*Checkpoint directory .* exists and is not empty",
    ):
        warnings.filterwarnings("ignore", message=message)


def _uses_gpu(accelerator: str) -> bool:
    return accelerator != "cpu" and torch.cuda.is_available()
