"""The checkpoint that a run continues from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Replaces ``run_dir/checkpoints/last.ckpt`` every few steps and at the last one.

    The last step is saved as a step, and not after fit() has returned: by then Lightning counts the
    epoch as finished, and a run continued within it would skip the rest of its samples.

    Args:
        run_dir: run folder.
        every_n_steps: steps between two checkpoints; a crash loses at most so many.
    """

    def __init__(self, *, run_dir: str | Path, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; give at least 1")
        self.path = Path(run_dir) / "checkpoints" / "last.ckpt"
        self.every_n_steps = every_n_steps
        self._saved_step = -1

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        step = trainer.global_step
        due = step % self.every_n_steps == 0 or step == trainer.max_steps
        if due and step != self._saved_step:
            self._saved_step = step
            trainer.save_checkpoint(self.path, weights_only=False)
