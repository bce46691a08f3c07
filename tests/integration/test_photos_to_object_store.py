"""Preparing shards straight into a real S3 server process, killed on the way."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.storage import ShardStorage
from neural_photo_editor.data.synthetic_source import SyntheticPortraits

ROOT = Path(__file__).parents[2]


def _start(out_dir: str, *settings: str, num_workers: int = 1) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "pipelines" / "prepare_shards.py"), f"out_dir={out_dir}"]
    source = ["source=synthetic", "source.count=90", "source.resolution=64", "name=portraits"]
    return subprocess.Popen(
        [*command, *source, "samples_per_shard=3", f"num_workers={num_workers}", *settings],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_preparation_goes_on_in_the_bucket(bucket: str, tmp_path: Path) -> None:
    local, storage = tmp_path / "local", ShardStorage(f"{bucket}/portraits/v1")
    process = _start(str(local), num_workers=1)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log

    process = _start(str(storage), num_workers=2)
    while sum(name.endswith(".done.json") for name in storage.names()) < 4:
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    finished = [name for name in storage.names() if name.endswith(".done.json")]
    assert 4 <= len(finished) < 30
    assert not storage.exists("manifest.json")

    process = _start(str(storage), num_workers=2)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert f"{len(finished)} of 30 shards are finished" in log
    for name in finished:
        assert f"{name.split('.')[0]}.tar written" not in log
    content = {name: storage.read(name) for name in storage.names()}
    assert content == {path.name: path.read_bytes() for path in local.iterdir()}
    verify(storage)


@pytest.mark.slow
def test_two_machines_prepare_one_data_set_and_one_of_them_is_lost(
    bucket: str, tmp_path: Path
) -> None:
    storage = ShardStorage(f"{bucket}/portraits/v2")
    lost = _start(str(storage), "parts=2", "part=1")
    other = _start(str(storage), "parts=2", "part=0")
    while not storage.exists("train-000001.done.json"):
        assert lost.poll() is None, lost.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.01)
    lost.kill()
    lost.communicate(timeout=60)
    _, log = other.communicate(timeout=120)
    assert other.returncode == 0, log
    assert "part 0 of 2 is finished" in log
    assert not storage.exists("manifest.json")

    again = _start(str(storage), "parts=2", "part=1")  # As a Job does with the same index.
    _, log = again.communicate(timeout=120)
    assert again.returncode == 0, log
    assert "going on with a stopped preparation" in log
    verify(storage)
    source = SyntheticPortraits(seed=0, count=90, resolution=64)
    write_shards(source, out_dir=tmp_path, name="portraits", samples_per_shard=3)
    content = {name: storage.read(name) for name in storage.names()}
    assert content.pop("contact_sheet.png")
    assert content == {path.name: path.read_bytes() for path in tmp_path.glob("[!c]*.*")}
