"""Resuming within an epoch when the passes per optimizer step changed."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

PASSES_KEY = "passes_per_step"
_PROGRESS, _STATE = "epoch_loop.batch_progress", "epoch_loop.state_dict"


class PassesPerStep(Callback):
    """Translates Lightning's progress, which counts passes, between different numbers of them.

    Lightning's position in an epoch is a number of passes through the network. Other hardware
    takes the same global batches in more or fewer passes, so a checkpoint says how many made a
    step. A step that was interrupted between two passes is taken anew from its first one.

    The step that the next metrics are logged at is set, too: Lightning is one behind after a
    checkpoint that was saved at the end of a validation.
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
        loops = checkpoint["loops"]["fit_loop"]
        saved, now = checkpoint.get(PASSES_KEY, 1), trainer.accumulate_grad_batches
        open_passes = 0
        for counts in (loops[_PROGRESS]["total"], loops[_PROGRESS]["current"]):
            # Within a pass's last hook Lightning has not counted it as completed.
            between_steps = counts["processed"] % saved == 0
            open_passes = counts["processed"] - counts["completed"] if between_steps else 0
            passes = counts["processed"] // saved * now
            counts.update(dict.fromkeys(counts, passes), completed=passes - open_passes)
        loops[_STATE]["_batches_that_stepped"] = checkpoint["global_step"] - open_passes
