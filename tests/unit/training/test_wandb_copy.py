import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb

from neural_photo_editor.training import wandb_copy, wandb_follower
from neural_photo_editor.training.checkpoint_record import describe_checkpoint
from neural_photo_editor.training.wandb_copy import Copy
from tests.unit.training.wandb_file import wandb_records


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """An offline run of W&B with a run folder that has a configuration and no checkpoints."""
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    (tmp_path / "checkpoints").mkdir()
    settings = {
        "project": "test",
        "name": "run",
        "run_dir": str(tmp_path),
        "run_id": "abcd1234",
        "online": False,
        "init_timeout_s": 60,
        "finish_timeout_s": 60,
        "upload_checkpoints": True,
        "stale_metrics": None,
        "parent_pid": os.getpid(),
    }
    copy = Copy(wandb_follower._init(settings), settings)
    yield copy
    copy.run.finish()


def save_checkpoint(copy: Copy, name: str, *, step: int) -> Path:
    path = copy.run_dir / "checkpoints" / f"{name}.ckpt"
    torch.save({"global_step": step, "state_dict": {"w": torch.zeros(3)}}, path)
    return path


def logged_files(copy: Copy) -> dict[str, Any]:
    """Return the entry of each checkpoint that is in the offline run, by its name."""
    copy.finish(0)
    wandb.teardown()  # Only then all is written.
    (file,) = copy.run_dir.glob("wandb/offline-run-*/*.wandb")
    artifacts = [
        record.request.log_artifact.artifact if record.HasField("request") else record.artifact
        for record in wandb_records(file)
    ]
    return {entry.path: entry for a in artifacts for entry in a.manifest.contents}


@pytest.mark.slow
def test_checkpoints_that_are_removed_meanwhile_are_left_out(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = save_checkpoint(copy, "step-000001", step=1)
    linked = gone.with_stem("step-000002")
    linked.symlink_to("nowhere")  # Listed, but gone when it is looked at.
    save_checkpoint(copy, "step-000003", step=3)

    def describe_and_remove(path: Path) -> dict[str, Any] | None:
        described = describe_checkpoint(path)
        gone.unlink(missing_ok=True)
        return described

    monkeypatch.setattr(wandb_copy, "describe_checkpoint", describe_and_remove)
    copy.log_checkpoints()
    assert "step-000001.ckpt was not logged" in capsys.readouterr().err
    assert set(logged_files(copy)) == {"step-000003.ckpt"}


@pytest.mark.slow
def test_best_and_last_are_uploaded_and_the_others_known_by_their_place(copy: Copy) -> None:
    paths = [save_checkpoint(copy, name, step=3) for name in ("best", "last", "step-000003")]
    files = logged_files(copy)
    assert {name for name, file in files.items() if file.local_path} == {"best.ckpt", "last.ckpt"}
    assert files["step-000003.ckpt"].ref == paths[-1].as_uri()
