"""Photo files through the pipeline's configuration to shards that WebDataset reads."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import webdataset as wds
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from neural_photo_editor.data.contact_sheet import CAPTION_HEIGHT
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_verification import verify
from pipelines.prepare_shards import prepare_shards

ROOT = Path(__file__).parents[2]


def _config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose("prepare_shards", overrides=list(overrides))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine noisy photos in two folders, label maps for the first four, one damaged file."""
    generator = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / "photos" / f"{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 48)).save(path, quality=95)
        if number < 4:
            path = tmp_path / "labels" / f"{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            labels = generator.integers(0, 11, (6, 8), dtype=np.uint8)
            Image.fromarray(labels.repeat(8, 0).repeat(8, 1)).save(path)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing follows")
    return tmp_path


def test_photos_become_shards_that_webdataset_reads(photos: Path) -> None:
    out_dir = photos / "shards"
    manifest = prepare_shards(
        _config(
            "source=image_folder",
            f"source.folder={photos}/photos",
            f"source.labels={photos}/labels",
            "source.resolution=32",
            "source.license=CC-BY-4.0",
            f"out_dir={out_dir}",
            "samples_per_shard=3",
            "val_fraction=0.3",
            "num_workers=1",
        )
    )
    assert verify(out_dir) == manifest
    assert (manifest.name, manifest.resolution, manifest.licenses) == ("shards", 32, ("CC-BY-4.0",))
    assert [file.file for file in manifest.skipped] == ["broken.jpg"]
    with Image.open(out_dir / "contact_sheet.png") as sheet:
        assert sheet.size == (4 * 2 * 128, 3 * (128 + CAPTION_HEIGHT))

    reader = ShardReader(out_dir)
    files = [str(out_dir / shard.file) for shard in manifest.shards]
    num_labeled = 0
    for sample_id, sample in enumerate(wds.WebDataset(files, shardshuffle=False)):
        photo, labels = reader.read(sample_id)
        assert sample["__key__"] == reader.key(sample_id)
        with Image.open(io.BytesIO(sample["jpg"])) as image:
            assert np.abs(np.array(image).astype(int) - photo).max() <= 2
        assert ("labels.png" in sample) == (labels is not None)
        if labels is not None:
            num_labeled += 1
            with Image.open(io.BytesIO(sample["labels.png"])) as image:
                np.testing.assert_array_equal(np.array(image), labels)
    assert sample_id == len(reader) - 1 == 8
    assert num_labeled == 4 == 9 - sum(len(shard.unlabeled) for shard in manifest.shards)


def test_the_command_writes_the_shards_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "pipelines" / "prepare_shards.py")]
    overrides = ["source=synthetic", "source.count=9", "source.resolution=32", "out_dir=shards"]
    options = ["val_fraction=0.3", "samples_per_shard=4", "num_workers=2"]
    run = [*command, *overrides, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "9 of 9 samples" in first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    manifest = verify(tmp_path / "shards")
    files = {shard.file for shard in manifest.shards} | {"manifest.json", "contact_sheet.png"}
    assert {path.name for path in (tmp_path / "shards").iterdir()} == files
    assert not any(shard.unlabeled for shard in manifest.shards)

    second = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert second.returncode == 1
    assert "overwrite=true" in second.stderr
    assert "Traceback" not in second.stderr


def test_parts_of_a_preparation_make_the_data_set_of_one(tmp_path: Path) -> None:
    shared = ["source=synthetic", "source.count=9", "source.resolution=32", "name=portraits"]
    shared += ["samples_per_shard=2", "num_workers=1"]
    prepare_shards(_config(*shared, f"out_dir={tmp_path}/whole"))
    settings = [*shared, f"out_dir={tmp_path}/parts", "parts=3"]
    assert prepare_shards(_config(*settings, "part=2")) is None
    assert prepare_shards(_config(*settings, "part=0")) is None
    assert not (tmp_path / "parts" / "contact_sheet.png").exists()
    manifest = prepare_shards(_config(*settings, "part=1"))
    assert manifest == verify(tmp_path / "parts")
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")
    for wrong in ("part=3", "overwrite=true", "resume=false"):
        with pytest.raises(ValueError, match=r"part must be 0 to 2|no data set is replaced"):
            prepare_shards(_config(*settings, wrong))


def _start(out_dir: Path, *, start_new_session: bool = False) -> subprocess.Popen[str]:
    """Start a preparation of 240 portraits in 60 shards by two workers."""
    command = [sys.executable, str(ROOT / "pipelines" / "prepare_shards.py"), f"out_dir={out_dir}"]
    source = ["source=synthetic", "source.count=240", "source.resolution=64", "name=portraits"]
    return subprocess.Popen(
        [*command, *source, "samples_per_shard=4", "num_workers=2"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=start_new_session,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_finished_shards(process: subprocess.Popen[str], out_dir: Path, count: int) -> None:
    while len(list(out_dir.glob("*.done.json"))) < count:
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_preparation_goes_on_and_gives_the_undisturbed_bytes(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    process = _start(undisturbed)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log

    process = _start(killed)
    _wait_for_finished_shards(process, killed, 5)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()  # The main process alone: its workers must not go on without it.
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    with pytest.raises(ValueError, match="no data set in"):
        verify(killed)
    finished = {path.name.split(".")[0] for path in killed.glob("*.done.json")}
    before = {name: (killed / f"{name}.tar").stat().st_mtime_ns for name in finished}
    assert 5 <= len(finished) < 60

    process = _start(killed)
    _wait_for_finished_shards(process, killed, len(finished) + 5)
    worker = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    )
    worker.kill()  # As the kernel does when memory runs out.
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process was killed" in log
    assert "Traceback" not in log

    process = _start(killed)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "going on with a stopped preparation" in log
    assert {name: (killed / f"{name}.tar").stat().st_mtime_ns for name in finished} == before
    assert _content(killed) == _content(undisturbed)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_with_one_line(tmp_path: Path) -> None:
    process = _start(tmp_path, start_new_session=True)
    _wait_for_finished_shards(process, tmp_path, 1)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to every process.
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the same command goes on" in log.splitlines()[-1]
    assert "Traceback" not in log
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert list(tmp_path.glob("*.done.json"))
    assert not (tmp_path / "manifest.json").exists()


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
