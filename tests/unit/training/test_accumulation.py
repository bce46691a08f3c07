from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning.pytorch import LightningModule, Trainer

from neural_photo_editor.training.accumulation import PASSES_KEY, PassesPerStep


def _checkpoint(*, processed: int, completed: int, saved: int, step: int) -> dict[str, Any]:
    counts = {"ready": processed, "started": processed, "processed": processed}
    progress = {kind: {**counts, "completed": completed} for kind in ("total", "current")}
    loops = {
        "epoch_loop.batch_progress": progress,
        "epoch_loop.state_dict": {"_batches_that_stepped": step - 1},
    }
    return {"loops": {"fit_loop": loops}, PASSES_KEY: saved, "global_step": step}


@pytest.mark.parametrize(
    ("processed", "completed", "saved", "now", "expected"),
    [
        (6, 5, 1, 4, (24, 23, 5)),  # Saved in the last hook of a step.
        (24, 24, 4, 1, (6, 6, 6)),  # Saved after a validation.
        (24, 23, 4, 2, (12, 11, 5)),
        (26, 26, 4, 4, (24, 24, 6)),  # Between two passes: the step starts anew.
    ],
)
def test_progress_is_translated_at_whole_steps(
    processed: int, completed: int, saved: int, now: int, expected: tuple[int, int, int]
) -> None:
    checkpoint = _checkpoint(processed=processed, completed=completed, saved=saved, step=6)
    trainer = cast(Trainer, SimpleNamespace(accumulate_grad_batches=now))
    PassesPerStep().on_load_checkpoint(trainer, LightningModule(), checkpoint)
    loops = checkpoint["loops"]["fit_loop"]
    for counts in loops["epoch_loop.batch_progress"].values():
        assert {counts[name] for name in ("ready", "started", "processed")} == {expected[0]}
        assert counts["completed"] == expected[1]
    # Lightning adds one where a pass is not completed.
    assert loops["epoch_loop.state_dict"]["_batches_that_stepped"] == expected[2]
