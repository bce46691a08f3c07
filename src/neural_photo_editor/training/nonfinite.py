"""Steps whose gradients are NaN or infinite: counted, rolled back from, and stopped at."""

import json
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.training.configured_rates import settings_of
from neural_photo_editor.training.ema import EMA
from neural_photo_editor.training.exit_codes import NONFINITE, exit_code_of
from neural_photo_editor.training.optional_file import write_optional
from neural_photo_editor.training.portrait_module import Batch, PortraitModule, logs_now

_log = get_logger(__name__)

REPORT_NAME = "nonfinite-batch.json"


class NonFiniteGuard(Callback):
    """Counts the steps that the module skipped, and acts when they do not end.

    A single skipped step costs a batch. Several in a row mean that the weights themselves are
    bad: weights, optimizer and average go back to the last checkpoint, while data, steps and
    the optimizer's settings stay, or else the same batches would do the same again. Where that
    does not help, the training ends with exit code 65 and ``run_dir/nonfinite-batch.json`` says
    which samples the last skipped steps saw. All processes skip the same steps, so they act alike.

    Args:
        run_dir: run folder.
        skips_before_rollback: skipped steps in a row that lead back to the last checkpoint.
        max_rollbacks: how often to go back before giving up.
        good_steps: steps in a row after which earlier rollbacks are forgotten.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(
        self,
        *,
        run_dir: str | Path,
        skips_before_rollback: int = 3,
        max_rollbacks: int = 3,
        good_steps: int = 100,
    ) -> None:
        numbers = {
            "skips_before_rollback": skips_before_rollback,
            "max_rollbacks": max_rollbacks,
            "good_steps": good_steps,
        }
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")
        self.run_dir = Path(run_dir)
        self.skips_before_rollback = skips_before_rollback
        self.max_rollbacks = max_rollbacks
        self.good_steps = good_steps
        self.nonfinite_steps = 0
        self.rollbacks = 0
        self._in_a_row: list[dict[str, Any]] = []
        self._good_in_a_row = 0
        self._seen_step = 0
        self._sample_ids: list[int] = []
        self._losses: list[torch.Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._seen_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        assert isinstance(pl_module, PortraitModule)
        self._sample_ids += batch["sample_id"].tolist()  # On the host: nothing waits for it.
        self._losses.append(pl_module.last_loss)
        if trainer.global_step == self._seen_step:
            return  # One of several passes that make a step.
        self._seen_step = trainer.global_step
        if pl_module.step_skipped:
            self._skipped(trainer, pl_module)
        else:
            self._good_in_a_row += 1
            self._in_a_row.clear()
            if self._good_in_a_row >= self.good_steps:
                self.rollbacks = 0
        self._sample_ids, self._losses = [], []
        if logs_now(trainer):
            pl_module.log("train/nonfinite_steps", float(self.nonfinite_steps))

    def _skipped(self, trainer: Trainer, pl_module: PortraitModule) -> None:
        self.nonfinite_steps += 1
        self._good_in_a_row = 0
        self._in_a_row.append(
            {
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "rank": trainer.global_rank,
                # JSON has no NaN.
                "losses": [str(float(loss)) for loss in self._losses],
                "sample_ids": self._sample_ids,
            }
        )
        _log.warning(
            "step %d skipped: its gradients are NaN or infinite (%d in a row, %d in all)",
            trainer.global_step,
            len(self._in_a_row),
            self.nonfinite_steps,
        )
        if len(self._in_a_row) < self.skips_before_rollback:
            return
        self._write_report(trainer)
        if self.rollbacks == self.max_rollbacks:
            self._give_up(trainer)
        self.rollbacks += 1
        self._in_a_row.clear()
        self._roll_back(trainer, pl_module)

    def _roll_back(self, trainer: Trainer, pl_module: PortraitModule) -> None:
        path = self.run_dir / "checkpoints" / "last.ckpt"
        # Process 0 alone decides: another host may not see the file yet, or still see it.
        if not trainer.strategy.broadcast(path.is_file()):
            _log.warning("there is no checkpoint to go back to yet: training goes on")
            return
        # FSDP's strategy restores the optimizers as it loads, with the settings of back then.
        settings = [settings_of(optimizer) for optimizer in trainer.optimizers]
        content = trainer.strategy.load_checkpoint(path, weights_only=True)
        trainer.strategy.load_model_state_dict(content)
        trainer.strategy.load_optimizer_state_dict(content)
        for optimizer, groups in zip(trainer.optimizers, settings, strict=True):
            for group, now in zip(optimizer.param_groups, groups, strict=True):
                group |= now
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EMA) and "ema" in content:
                callback.on_load_checkpoint(trainer, pl_module, content)
                callback.on_train_start(trainer, pl_module)
        _log.warning(
            "weights, optimizer and average are those of step %d again; rollback %d of %d",
            content["global_step"],
            self.rollbacks,
            self.max_rollbacks,
        )

    def _write_report(self, trainer: Trainer) -> None:
        """Write what all processes saw in the skipped steps in a row."""
        skipped = _gathered(self._in_a_row, world_size=trainer.world_size)
        if trainer.is_global_zero:
            content = {"rollbacks": self.rollbacks, "skipped": skipped}
            text = json.dumps(content, indent=2) + "\n"
            write_optional(self.run_dir / REPORT_NAME, lambda partial: partial.write_text(text))

    def _give_up(self, trainer: Trainer) -> NoReturn:
        _log.error(
            "losses stay NaN or infinite after %d rollbacks: %s names the samples; lower the "
            "learning rate, or look at the samples and prepare the shards without the bad ones",
            self.rollbacks,
            self.run_dir / REPORT_NAME,
        )
        raise SystemExit(exit_code_of(trainer, NONFINITE))

    def state_dict(self) -> dict[str, Any]:
        return {"nonfinite_steps": self.nonfinite_steps, "rollbacks": self.rollbacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.nonfinite_steps = state_dict["nonfinite_steps"]
        self.rollbacks = state_dict["rollbacks"]


def _gathered(rows: list[dict[str, Any]], *, world_size: int) -> list[dict[str, Any]]:
    """Join the rows of all processes, by step, then by process."""
    shares = [rows]
    if world_size > 1:
        shares = [[] for _ in range(world_size)]
        torch.distributed.all_gather_object(shares, rows)
    return sorted((row for share in shares for row in share), key=lambda r: (r["step"], r["rank"]))
