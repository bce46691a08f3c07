"""npe shards: exit statuses, messages and files on real shards, without torch."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from neural_photo_editor.cli import main
from neural_photo_editor.data.contact_sheet import CAPTION_HEIGHT
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Undo what the command does to the package's logger, which is this process's own here."""
    logger = logging.getLogger("neural_photo_editor")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    source = SyntheticPortraits(seed=0, count=9, resolution=32)
    write_shards(
        source, out_dir=tmp_path / "set", name="portraits", samples_per_shard=4, val_fraction=0.3
    )
    return tmp_path / "set"


def test_verify_says_that_all_is_well(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "verify", str(shards)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("portraits\n")
    assert "are as listed" in printed
    assert "9  offered" in printed


def test_verify_reports_every_problem_and_exits_with_5(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shards / "val-000000.tar").unlink()
    tar = shards / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    assert main(["shards", "verify", str(shards)]) == 5
    printed = capsys.readouterr()
    assert "val-000000.tar is missing" in printed.err
    assert "train-000000.tar has other bytes" in printed.err
    assert "DAMAGED: 3 problems" in printed.out  # the changed member is named, too


def test_show_writes_a_sheet_of_what_was_asked_for(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    show = ["shards", "show", str(shards), "-o", str(sheet)]
    assert main([*show, "--count", "5", "--columns", "2", "--tile", "64"]) == 0
    with Image.open(sheet) as image:
        assert image.size == (2 * 128, 3 * (64 + CAPTION_HEIGHT))
    assert "with 5 of 9 samples" in capsys.readouterr().err
    assert main([*show, "--split", "val"]) == 0
    assert "of 9" not in capsys.readouterr().err
    for none in (["--split", "test"], ["--near-duplicates"]):
        assert main([*show, *none]) == 1
        assert "has no such samples" in capsys.readouterr().err


def test_what_is_no_data_set_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("verify", "show"):
        assert main(["shards", action, str(tmp_path)]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith(f"npe: no data set in {tmp_path}")
        assert printed.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main(["shards"])
    assert caught.value.code == 2


def _without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.modules[{module!r}] = None; import neural_photo_editor.cli as cli; "
        f"sys.exit(cli.main({list(arguments)!r}))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_torch_is_not_needed(shards: Path, tmp_path: Path) -> None:
    done = _without("torch", "shards", "verify", str(shards))
    assert done.returncode == 0, done.stderr
    assert "val-000000.tar checked" in done.stderr
    done = _without("torch", "shards", "show", str(shards), "-o", str(tmp_path / "sheet.png"))
    assert done.returncode == 0, done.stderr


def test_a_bare_install_is_told_what_to_install(shards: Path) -> None:
    for module, action in (("fsspec", "verify"), ("simplejpeg", "show")):
        done = _without(module, "shards", action, str(shards))
        assert done.returncode == 1
        assert "pip install 'neural-photo-editor[train]'" in done.stderr
        assert "Traceback" not in done.stderr
