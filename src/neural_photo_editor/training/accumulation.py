"""Resuming within an epoch when the passes per optimizer step changed."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

PASSES_KEY = "passes_per_step"
_PROGRESS = "epoch_loop.batch_progress"


class PassesPerStep(Callback):
    """Translates Lightning's progress, which counts passes, between different numbers of them.

    Lightning's position in an epoch is a number of passes through the network. Other hardware
    takes the same global batches in more or fewer passes, so a checkpoint says how many made a
    step. A step that was interrupted between two passes is taken anew from its first one.
    """

    def on_save_checkpoint(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        checkpoint[PASSES_KEY] = trainer.accumulate_grad_batches

    def on_load_checkpoint(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        # Called before Lightning restores its loops from the same dictionary.
        progress = checkpoint["loops"]["fit_loop"][_PROGRESS]
        saved, now = checkpoint.get(PASSES_KEY, 1), trainer.accumulate_grad_batches
        for counts in (progress["total"], progress["current"]):
            for name, passes in counts.items():
                counts[name] = passes // saved * now
