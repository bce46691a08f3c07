import hashlib
from pathlib import Path

import torch

from neural_photo_editor.training.checkpoint_record import describe_checkpoint


def test_step_and_digest_are_found_without_loading(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for step in (0, 1, 200, 70_000, 3_000_000_000):
        content = {"epoch": 3, "global_step": step, "pytorch-lightning_version": "2"}
        torch.save({**content, "state_dict": {"w": torch.ones(2)}, "loops": {"a": step}}, path)
        described = describe_checkpoint(path)
        assert described is not None
        assert described["step"] == step
        assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert described["bytes"] == path.stat().st_size


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert describe_checkpoint(path) is None
    path.write_bytes(b"half a file")
    assert describe_checkpoint(path) is None
    torch.save({"state_dict": {}}, path)
    assert describe_checkpoint(path) is None
