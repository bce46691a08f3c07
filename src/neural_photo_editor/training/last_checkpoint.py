"""The checkpoint that a run continues from, and older ones."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.training.checkpoint import WholeFileCheckpointIO
from neural_photo_editor.training.exit_codes import STOPPED, exit_code_of
from neural_photo_editor.training.preemption import StopRequest

_log = get_logger(__name__)


class LastCheckpoint(Checkpoint):
    """Replaces ``run_dir/checkpoints/last.ckpt`` every few steps, at the last one and at a signal.

    It also keeps some as ``step-000500.ckpt``. A checkpoint is saved as a step, and not after fit()
    has returned: by then Lightning counts the epoch as finished, and a run continued within it
    would skip the rest of its samples. Lightning also leaves out a validation that was cut off. So
    the step before a validation is saved, its own step only once it is over.

    A signal saves after the step at hand on all processes, and the training ends with exit code
    75; see `StopRequest` and docs/restarts.md.

    Args:
        run_dir: run folder.
        every_n_steps: steps between two checkpoints; a crash loses at most so many.
        keep_every_n_steps: steps between those that are kept; None keeps none.
        keep: how many are kept, the newest; None for all of them.
        grace_s: see `StopRequest`.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        *,
        run_dir: str | Path,
        every_n_steps: int,
        keep_every_n_steps: int | None = None,
        keep: int | None = None,
        grace_s: float = 15.0,
    ) -> None:
        numbers = {
            "every_n_steps": every_n_steps,
            "keep_every_n_steps": keep_every_n_steps,
            "keep": keep,
        }
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")
        self.path = Path(run_dir) / "checkpoints" / "last.ckpt"
        self.every_n_steps = every_n_steps
        self.keep_every_n_steps = keep_every_n_steps
        self.keep = keep
        self._stop = StopRequest(grace_s=grace_s)
        self._seen_step = self._saved_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._seen_step = self._saved_step = trainer.global_step
        self._stop.install(trainer)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:  # noqa: ARG002
        # The step of logged rows: going on after a validation, Lightning counts one too many.
        loop: Any = trainer.fit_loop.epoch_loop
        loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        step = trainer.global_step
        if step == self._seen_step:
            return  # One of several passes that make a step.
        self._seen_step = step
        stop = self._stop.agreed()
        # Weights that lead to NaN may be bad already: only at the end they replace good ones.
        good = step == trainer.max_steps or not getattr(pl_module, "step_skipped", False)
        due = self._due(trainer) or _validates(trainer, steps_ahead=1)
        if not _validates(trainer) and (stop or (due and good)):
            self._save(trainer)
        if stop:
            _leave(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:  # noqa: ARG002
        if trainer.state.fn == "fit" and self._stop.agreed():
            _leave(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.state.fn == "fit" and self._due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._stop.uninstall()

    def on_exception(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        if not isinstance(exception, SIGTERMException):
            self._stop.uninstall()
            return
        exception.code = exit_code_of(trainer, STOPPED)
        # Otherwise the signal came while this one process waited for data.
        if not trainer.validating and trainer.global_step != self._saved_step:
            self._save(trainer)
        _log.info("stopped at step %d: the same command goes on", trainer.global_step)

    def _due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        if step == self._saved_step:
            return False
        intervals = (self.every_n_steps, self.keep_every_n_steps or self.every_n_steps)
        # A checkpoint that was left out is saved at the next step.
        return step == trainer.max_steps or any(
            step // interval > self._saved_step // interval for interval in intervals
        )

    def _save(self, trainer: Trainer) -> None:
        step = self._saved_step = trainer.global_step
        with self._stop.saving:
            trainer.save_checkpoint(self.path, weights_only=False)
        io = trainer.strategy.checkpoint_io
        failed = io.failed.get(self.path) if isinstance(io, WholeFileCheckpointIO) else None
        if failed is not None and step == trainer.max_steps:
            raise OSError(
                f"the last step's checkpoint could not be written ({failed}): free space in "
                f"{self.path.parent}, then run the same command again"
            )
        keeps = self.keep_every_n_steps is not None and step % self.keep_every_n_steps == 0
        if keeps and failed is None and trainer.is_global_zero:
            self._keep(step)

    def _keep(self, step: int) -> None:
        kept = self.path.with_name(f"step-{step:06d}.ckpt")
        kept.unlink(missing_ok=True)
        try:
            os.link(self.path, kept)  # last.ckpt is replaced, never changed, so this is a copy.
        except OSError:  # The file system has no links.
            partial = kept.with_suffix(".ckpt.partial")
            try:
                shutil.copyfile(self.path, partial)
                partial.replace(kept)
            except OSError as error:
                partial.unlink(missing_ok=True)
                _log.warning("%s is not kept: %s", kept.name, error)
        if self.keep is not None:
            for old in kept_checkpoints(self.path.parent)[self.keep :]:
                with contextlib.suppress(OSError):
                    old.unlink()


def kept_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that were kept of certain steps, the newest first."""
    return sorted(folder.glob("step-*.ckpt"), key=lambda path: (len(path.name), path), reverse=True)


def _validates(trainer: Trainer, *, steps_ahead: int = 0) -> bool:
    """Whether a validation follows the step just taken, or one some steps ahead."""
    every: Any = trainer.val_check_batch  # In passes, as the loop's count.
    # Without held-out samples Lightning skips the validation and its hooks.
    if not sum(trainer.num_val_batches) or trainer.check_val_every_n_epoch is not None:
        return False
    passes = trainer.fit_loop.total_batch_idx + 1 + steps_ahead * trainer.accumulate_grad_batches
    return bool(passes % every == 0)


def _leave(trainer: Trainer) -> None:
    """Let Lightning end the training once it has logged this step, with a SIGTERMException."""
    trainer._signal_connector.received_sigterm = True
