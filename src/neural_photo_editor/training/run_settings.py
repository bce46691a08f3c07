"""Checking a run's settings and turning every "auto" into what this machine offers."""

import inspect
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from neural_photo_editor.common.batch_split import BatchSplit, split_batch
from neural_photo_editor.training.checkpoint import WholeFileCheckpointIO
from neural_photo_editor.training.configured_rates import made_anew
from neural_photo_editor.training.launchers import launched_processes
from neural_photo_editor.training.memory import checkpoint_activations
from neural_photo_editor.training.resume import checkpoint_to_continue
from neural_photo_editor.training.strategies import STRATEGIES, make_strategy

CHOICES = {"precision": ("auto", "32-true", "bf16-mixed"), "strategy": STRATEGIES}
RESTART_COUNTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
POSITIVE_INTEGERS = ("max_steps", "val_check_interval", "log_every_n_steps")
TAKEN = {
    "accumulate_grad_batches": (
        "it follows from data.batch_size and data.max_batch_per_device; set the latter to what "
        "fits a device's memory"
    ),
    "gradient_clip_val": "set module.gradient_clip_norm",
    "gradient_clip_algorithm": "module.gradient_clip_norm limits the norm of all gradients",
    "callbacks": "add +callbacks.NAME._target_=CLASS",
    "logger": "choose a logger, such as logger=csv",
    "default_root_dir": "set run_dir",
    "plugins": "the checkpoints' format and SLURM's need theirs",
    "use_distributed_sampler": "the data module gives each process its share",
    "enable_progress_bar": "set callbacks.progress.every_s",
    "enable_model_summary": "hardware.json and the checkpoints say what is trained on what",
}
"""Arguments of Lightning's Trainer that are set here, and what to set instead, or why."""


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse settings that would fail late or in words that do not name them.

    Args:
        trainer: the configuration's ``trainer`` section.

    Raises:
        ValueError: a setting is out of range or contradicts another; the message names it.
    """
    known = inspect.signature(Trainer).parameters
    for name in trainer:
        if name in TAKEN:
            raise ValueError(f"trainer.{name} is no setting, leave it out: {TAKEN[name]}")
        if name not in known:
            raise ValueError(
                f"trainer.{name} is no argument of lightning.pytorch.Trainer: correct the name, or "
                "leave it out"
            )
    for name in POSITIVE_INTEGERS:
        value = trainer[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"trainer.{name} is {value!r}; give a whole number of at least 1")
    for name, choices in CHOICES.items():
        if trainer[name] not in choices:
            raise ValueError(
                f"trainer.{name} is {trainer[name]!r}; choose one of {', '.join(choices)}"
            )
    launched = launched_processes()
    for name in ("num_nodes", "devices"):
        value = trainer[name]
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(
                f"trainer.{name} is {value!r}; give a whole number of at least 1, or auto"
            )
        if launched and value not in ("auto", getattr(launched, name)):
            raise ValueError(
                f"trainer.{name} is {value}, but {launched.launcher} started "
                f"{getattr(launched, name)}; set auto"
            )


def resolve_auto(
    trainer: Mapping[str, Any], *, ckpt_path: str | None, run_dir: Path
) -> tuple[str | None, dict[str, Any]]:
    """Return the checkpoint to continue from and the trainer's settings without "auto".

    Args:
        trainer: the configuration's ``trainer`` section, checked.
        ckpt_path: a file, None to start anew, or "auto", see `checkpoint_to_continue`. A launcher
            that starts a run again means "auto", whatever the command said at first.
        run_dir: the run folder.

    Raises:
        ValueError: the named checkpoint is absent, or all of the run folder are damaged.
    """
    if ckpt_path == "auto" or was_restarted():
        found = checkpoint_to_continue(run_dir)
        if found is not None or ckpt_path == "auto":
            ckpt_path = None if found is None else str(found)
    elif ckpt_path is not None and not Path(ckpt_path).is_file():
        raise ValueError(
            f"ckpt_path: there is no file {ckpt_path}; correct it, or give auto to continue from "
            f"the last checkpoint in {run_dir} if there is one"
        )
    launched = launched_processes()
    resolved = dict(trainer)
    if resolved["num_nodes"] == "auto":
        resolved["num_nodes"] = launched.num_nodes if launched else 1
    if resolved["devices"] == "auto":
        resolved["devices"] = num_processes(trainer) // resolved["num_nodes"]
    if resolved["strategy"] == "auto":
        resolved["strategy"] = "ddp" if num_processes(resolved) > 1 else "auto"
    if resolved["precision"] == "auto":
        resolved["precision"] = best_precision(accelerator=resolved["accelerator"])
    # A run cut short by an override is still validated, and so has a best checkpoint.
    resolved["val_check_interval"] = min(resolved["val_check_interval"], resolved["max_steps"])
    return ckpt_path, resolved


def was_restarted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether torchrun or SLURM started this run before and does so again."""
    environ = os.environ if environ is None else environ
    return any(environ.get(name, "0") not in ("", "0") for name in RESTART_COUNTS)


def check_parts(module: LightningModule, datamodule: LightningDataModule) -> None:
    """Open the data and make the optimizers once, so that their errors come before the training.

    Raises:
        ValueError: from the data module, an optimizer or a learning rate schedule; or one of them
            has an argument that it does not know, or a schedule is none that can go on.
    """
    datamodule.setup("fit")
    datamodule.train_dataloader()
    try:
        _, schedules = made_anew(module)
    except TypeError as error:  # The only arguments are those of the configuration.
        raise ValueError(
            f"module: its settings of an optimizer or lr_scheduler do not fit: {error}; leave the "
            "argument out, or choose another optimizer, such as optimizer@module.optimizer=adamw"
        ) from error
    for schedule in schedules:
        if not isinstance(schedule, LambdaLR):
            raise ValueError(
                f"module: an lr_scheduler makes a {type(schedule).__name__}, but a run that goes "
                "on needs the rate of any step: set its _target_ to a function that makes a "
                "torch.optim.lr_scheduler.LambdaLR, such as training.lr_schedule.warmup_cosine"
            )


def split_for_devices(
    trainer: Mapping[str, Any], data: Mapping[str, Any], *, module: LightningModule
) -> BatchSplit:
    """Return what a device takes at once, and in how many passes.

    Args:
        trainer: the configuration's ``trainer`` section, checked.
        data: its ``data`` section.
        module: what will be trained.

    Raises:
        ValueError: see `split_batch`; or several passes are needed and the module optimizes by
            itself.
    """
    processes = num_processes(trainer)
    split = split_batch(
        data["batch_size"],
        processes=processes,
        max_batch_per_device=data["max_batch_per_device"],
    )
    if split.accumulation > 1 and not module.automatic_optimization:
        raise ValueError(
            f"data.max_batch_per_device is {data['max_batch_per_device']}, but "
            f"{type(module).__name__} takes its share of data.batch_size {data['batch_size']} in "
            f"one pass, {split.accumulation * split.per_device} samples on each of {processes} "
            "processes: start more processes, or lower data.batch_size"
        )
    return split


def adapt_networks(
    module: LightningModule, *, compiled: bool, activation_checkpointing: bool
) -> None:
    """Compile the networks that are trained and checkpoint their activations, both in place.

    Of a GAN the generator alone keeps fewer activations: the discriminator has batch
    normalization, see `checkpoint_activations`.

    Args:
        module: its networks are its children; ``network`` is the one that is exported.
        compiled: see `torch.nn.Module.compile`; the names in the state dict stay the same.
        activation_checkpointing: see `checkpoint_activations`.

    Raises:
        ValueError: see `checkpoint_activations`.
    """
    if activation_checkpointing:
        assert isinstance(module.network, nn.Module)
        checkpoint_activations(module.network)
    if compiled:
        for network in module.children():
            network.compile()


def trainer_arguments(
    trainer: Mapping[str, Any],
    *,
    module: LightningModule,
    split: BatchSplit,
    collective_timeout_s: float,
) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer, those that no configuration changes included.

    Args:
        trainer: the configuration's ``trainer`` section, resolved.
        module: what will be trained.
        split: of the global batch; Lightning counts passes, the configuration global batches.
        collective_timeout_s: longest wait for another process, in seconds.
    """
    limit = trainer["limit_val_batches"]
    plugins: list[Any] = [WholeFileCheckpointIO()]
    launched = launched_processes()
    if launched and launched.launcher == "SLURM":
        # Lightning's own requeueing would write and load checkpoints of its own.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return {
        **trainer,
        "accumulate_grad_batches": split.accumulation,
        "val_check_interval": trainer["val_check_interval"] * split.accumulation,
        # A float is a share of all batches.
        "limit_val_batches": limit * split.accumulation if isinstance(limit, int) else limit,
        "strategy": make_strategy(
            trainer["strategy"],
            module=module,
            processes=num_processes(trainer),
            timeout_s=collective_timeout_s,
        ),
        "use_distributed_sampler": False,  # The data module gives each process its share.
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": plugins,
    }


def make_trainer(**arguments: Any) -> Trainer:
    """Make Lightning's Trainer.

    Raises:
        ValueError: an argument has a value or type that it does not take.
    """
    try:
        return Trainer(**arguments)
    except (TypeError, AttributeError) as error:  # It checks few types by itself.
        raise ValueError(
            f"trainer: a setting has a wrong type: {error}; compare conf/trainer/default.yaml and "
            "the arguments of lightning.pytorch.Trainer"
        ) from error


def num_processes(trainer: Mapping[str, Any]) -> int:
    """Return the number of processes of a run, all nodes together."""
    launched = launched_processes()
    if launched:
        return launched.num_nodes * launched.devices
    devices, num_nodes = trainer["devices"], trainer["num_nodes"]
    if devices == "auto":
        devices = max(1, torch.cuda.device_count()) if _uses_gpu(trainer["accelerator"]) else 1
    return int(devices) * (1 if num_nodes == "auto" else int(num_nodes))


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
        r".*FSDP2-wrapped module .* returned a view tensor",  # Nobody changes it in place.
    ):
        warnings.filterwarnings("ignore", message=message)


def _uses_gpu(accelerator: str) -> bool:
    return accelerator != "cpu" and torch.cuda.is_available()
