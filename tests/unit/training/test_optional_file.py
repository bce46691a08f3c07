from pathlib import Path

import pytest

from neural_photo_editor.training.optional_file import write_optional
from tests.unit.training.conftest import fill


def test_on_a_full_disk_an_older_file_stays_whole(
    small_disk: Path, heard: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "folder" / "file.txt"
    write_optional(path, lambda p: p.write_text("old"))
    filler = fill(small_disk)
    write_optional(path, lambda p: p.write_text("new"))
    assert "file.txt was not written" in heard.text
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
    filler.unlink()
    write_optional(path, lambda p: p.write_text("new"))
    assert path.read_text() == "new"
