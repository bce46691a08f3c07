"""A run that goes on takes its optimizers' settings from the configuration."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

STATE = ("params", "step")
"""What optimizers keep beside settings."""


class ConfiguredRates(Callback):
    """Puts learning rates, weight decay and other settings of a checkpoint's optimizers right.

    A checkpoint holds them with the optimizer's state, and restoring it would silently undo a
    change of the configuration. Where nothing was changed, nothing changes.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizers, schedulers = made_anew(pl_module)
        for optimizer, new in zip(trainer.optimizers, optimizers, strict=True):
            for group, settings in zip(optimizer.param_groups, settings_of(new), strict=True):
                group |= settings
        for config, made in zip(trainer.lr_scheduler_configs, schedulers, strict=True):
            scheduler = config.scheduler
            assert isinstance(scheduler, LambdaLR)  # See `run_settings.check_parts`.
            scheduler.base_lrs = list(made.base_lrs)
            rates = [
                base * factor(scheduler.last_epoch)
                for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            ]
            for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            scheduler._last_lr = list(rates)


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return each group's rate, weight decay and so on, without its weights and its count."""
    return [
        {name: value for name, value in group.items() if name not in STATE}
        for group in optimizer.param_groups
    ]


def made_anew(module: LightningModule) -> tuple[list[Optimizer], list[LRScheduler]]:
    """Return a module's optimizers and schedules as its configuration says, without any state."""
    made: Any = module.configure_optimizers()
    if isinstance(made, dict):
        return [made["optimizer"]], [made["lr_scheduler"]["scheduler"]]
    optimizers, schedulers = made
    return optimizers, schedulers
