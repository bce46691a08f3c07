"""The checkpoint of the best validation so far."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Replaces ``run_dir/checkpoints/best.ckpt`` at each validation with a better metric.

    A run that goes on knows the best value so far, also where its folder was moved or is mounted
    elsewhere: Lightning's own compares absolute paths and takes the first value after a move for
    the best one. A run that starts from another run's checkpoint has a best one of its own.

    Args:
        run_dir: run folder.
        monitor: name of a validation metric.
        mode: "min" or "max", whichever is better.

    Raises:
        MisconfigurationException: the mode is another.
    """

    def __init__(self, *, run_dir: str | Path, monitor: str, mode: str) -> None:
        folder = Path(run_dir) / "checkpoints"
        # No version counter: best.ckpt, never best-v1.ckpt.
        super().__init__(
            folder, "best", monitor=monitor, mode=mode, save_top_k=1, enable_version_counter=False
        )
        self.path = Path(self.format_checkpoint_name({}))
        self._continues = False

    def on_load_checkpoint(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],  # noqa: ARG002
    ) -> None:
        assert trainer.ckpt_path is not None
        of_this_run = Path(trainer.ckpt_path).parent.resolve() == self.path.parent.resolve()
        # Process 0 alone decides: another host may not see the file yet, or still see it.
        self._continues = trainer.strategy.broadcast(of_this_run and self.path.is_file())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if not self._continues or score is None:
            return
        self.best_model_path = self.kth_best_model_path = str(self.path)
        self.best_model_score = self.kth_value = score
        self.best_k_models = {self.best_model_path: score}
