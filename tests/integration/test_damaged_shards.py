"""Real trainings on damaged shards: "stop" ends every process, "skip" keeps them in step."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from neural_photo_editor.data.shard_order import epoch_order
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from tests.integration.sample_record import read_record

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SETTINGS = (
    "experiment=demo_ddpm",
    "optimizer@module.optimizer=adam",
    "network.widths=[32,64]",
    "network.attention_levels=[1]",
    "data.batch_size=4",
    "data.resolution=32",
    "data.num_workers=1",
    "data.seed=0",
    "module.sample_steps=1",
    "module.num_samples=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.max_steps=6",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=1",
    "logger=csv",
    "+callbacks.record._target_=tests.integration.sample_record.SampleRecord",
    "+callbacks.record.folder=${run_dir}/record",
)
STEP = 3  # of the first epoch: its samples are damaged


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=40, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", samples_per_shard=7, val_fraction=0.25)
    return folder


def _damage(shards: Path, folder: Path, rank: int) -> tuple[Path, str, int]:
    """Copy the shards, overwrite a photo that process `rank` of 2 gets, return file, key and id."""
    shutil.copytree(shards, folder)
    reader = ShardReader(folder)
    sizes = [len(shard.keys) for shard in reader.shards("train")]
    order = epoch_order(sizes, seed=0, epoch=0, shuffle_shards=16)
    sample_id = int(reader.sample_ids("train")[order[STEP * 4 + 2 * rank]])
    number = int(np.searchsorted(np.cumsum(sizes), sample_id, side="right"))
    path, key = folder / reader.manifest.shards[number].file, reader.key(sample_id)
    with tarfile.open(path) as tar:
        member = tar.getmember(f"{key}.{reader.manifest.image_format}")
    with path.open("r+b") as file:
        file.seek(member.offset_data)
        file.write(bytes(member.size))
    return path, key, sample_id


def _train(
    shards: Path, run_dir: Path, *overrides: str, launcher: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Run the documented command to its end; return exit status and output.

    Fails where a process of the training outlives it.
    """
    run_dir.mkdir(parents=True)
    with (run_dir / "output.log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                *launcher,
                "pipelines/train.py",
                f"data.shards={shards}",
                f"run_dir={run_dir}",
                *SETTINGS,
                *overrides,
            ],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = process.wait(timeout=120)
        deadline = time.monotonic() + 30
        while _alive(process.pid):
            assert time.monotonic() < deadline, "processes of the training are left"
            time.sleep(0.1)
    finally:
        if _alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return status, (run_dir / "output.log").read_text()


def _sample_ids(run_dir: Path) -> dict[int, list[int]]:
    """Return step, from 1 -> the samples of the global batch in the order of ranks."""
    return {
        step: [i for rank in sorted(ranks) for share in ranks[rank] for i in share.sample_ids]
        for (step, _), ranks in sorted(read_record(run_dir / "record").items())
    }


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("launcher", "rank"), [((), 0), ((), 1), (TORCHRUN, 1)], ids=["own-0", "own-1", "torchrun-1"]
)
def test_damage_ends_every_process_and_is_named(
    shards: Path, tmp_path: Path, launcher: tuple[str, ...], rank: int
) -> None:
    path, key, _ = _damage(shards, tmp_path / "shards", rank)
    devices = "trainer.devices=2"
    status, log = _train(tmp_path / "shards", tmp_path / "run", devices, launcher=launcher)
    assert status != 0
    assert f"{path}, member {key}.jpg: " in log
    assert max(_sample_ids(tmp_path / "run")) == STEP  # Steps are counted from 1.


def test_skipped_damage_keeps_the_processes_in_step(shards: Path, tmp_path: Path) -> None:
    """The same samples on one process and on two, of which only the second meets the damage."""
    path, key, sample_id = _damage(shards, tmp_path / "shards", 1)
    records = []
    for devices in (1, 2):
        run_dir = tmp_path / f"run{devices}"
        status, log = _train(
            tmp_path / "shards", run_dir, f"trainer.devices={devices}", "data.on_damage=skip"
        )
        assert status == 0, log
        assert log.count(f"replaced a damaged sample: {path}, member {key}.jpg") == 1
        with (run_dir / "metrics.csv").open() as file:
            counts = [row["data/skipped_samples"] for row in csv.DictReader(file)]
        assert [float(count) for count in counts if count] == [0] * STEP + [1] * (6 - STEP)
        records.append(_sample_ids(run_dir))
    assert records[0] == records[1]
    assert len(records[0]) == 6
    # The damaged sample was the step's third; its fourth replaces it.
    assert records[0][STEP + 1][2] == records[0][STEP + 1][3] != sample_id
