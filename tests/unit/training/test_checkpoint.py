import logging
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from neural_photo_editor.training.checkpoint import (
    WholeFileCheckpointIO,
    is_whole,
    read_checkpoint,
)


class _Unsavable:
    def __reduce__(self) -> tuple[object, ...]:
        raise OSError("no space left on device")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 1 MiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_save_that_fails_leaves_the_checkpoint_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new folder" / "last.ckpt"
    io = WholeFileCheckpointIO()
    io.save_checkpoint({"step": 1, "weight": torch.arange(5)}, path)
    with caplog.at_level(logging.WARNING):
        io.save_checkpoint({"weight": torch.zeros(9), "step": _Unsavable()}, path)
    assert "last.ckpt was not written (no space left on device)" in caplog.text
    assert "no space left" in str(io.failed[path])
    assert read_checkpoint(path)["step"] == 1

    io.save_checkpoint({"step": 2}, path)
    assert read_checkpoint(path) == {"step": 2}
    assert not io.failed
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_keeps_the_last_good_checkpoint_and_a_later_save_succeeds(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = small_disk / "last.ckpt", small_disk / "something else"
    io = WholeFileCheckpointIO()
    io.save_checkpoint({"step": 1, "weight": torch.zeros(150_000)}, path)
    other.write_bytes(bytes(2**20))
    with caplog.at_level(logging.WARNING):
        io.save_checkpoint({"step": 2, "weight": torch.ones(150_000)}, path)
    assert "free space" in caplog.text
    assert is_whole(path)
    assert read_checkpoint(path)["step"] == 1
    assert {file.name for file in small_disk.iterdir()} == {"last.ckpt", "something else"}

    other.unlink()
    io.save_checkpoint({"step": 3, "weight": torch.ones(150_000)}, path)
    assert read_checkpoint(path)["step"] == 3
    assert not io.failed


@pytest.mark.usefixtures("small_files")
def test_a_limit_on_files_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    io = WholeFileCheckpointIO()
    io.save_checkpoint({"step": 1}, path)
    io.save_checkpoint({"step": 2, "weight": torch.ones(500_000)}, path)
    assert io.failed[path]
    assert read_checkpoint(path)["step"] == 1


@pytest.mark.usefixtures("small_files")
def test_writing_in_place_would_have_lost_it(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"step": 1}, path)
    with pytest.raises((OSError, RuntimeError)):
        torch.save({"step": 2, "weight": torch.ones(500_000)}, path)
    assert not is_whole(path)


def test_nothing_is_staged_outside_the_checkpoints_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    path = tmp_path / "last.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"step": 1}, str(path))
    assert WholeFileCheckpointIO().load_checkpoint(path, weights_only=True) == {"step": 1}


def test_damage_anywhere_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"step": 1, "weight": torch.arange(10_000)}, path)
    content = path.read_bytes()
    assert is_whole(path)
    for damaged in (content[:-1], content[:4000], b"", b"x" * 100, _flipped(content, 40_000)):
        path.write_bytes(damaged)
        assert not is_whole(path)
    assert not is_whole(tmp_path / "absent")


def _flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
