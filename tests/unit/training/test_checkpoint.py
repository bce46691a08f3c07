import tempfile
from pathlib import Path

import pytest
import torch

from neural_photo_editor.training.checkpoint import WholeFileCheckpointIO, read_checkpoint


class _Unsavable:
    def __reduce__(self) -> tuple[object, ...]:
        raise OSError("no space left on device")


def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "last.ckpt"
    io = WholeFileCheckpointIO()
    io.save_checkpoint({"step": 1, "weight": torch.arange(5)}, path)
    with pytest.raises(OSError, match="no space left"):
        io.save_checkpoint({"weight": torch.zeros(9), "step": _Unsavable()}, path)
    assert read_checkpoint(path)["step"] == 1

    io.save_checkpoint({"step": 2}, path)
    assert read_checkpoint(path) == {"step": 2}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_nothing_is_staged_outside_the_checkpoints_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    path = tmp_path / "last.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"step": 1}, str(path))
    assert WholeFileCheckpointIO().load_checkpoint(path, weights_only=True) == {"step": 1}
