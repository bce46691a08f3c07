"""Trainings killed at any instant and continued are the training that nothing disturbed.

The suite kills a few times; ``NPE_TEST_KILLS=20`` in the environment kills more often,
``NPE_TEST_SEED=1`` at other instants.
"""

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.training.checkpoint import read_checkpoint
from tests.integration.sample_record import Share, read_record

_log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("NPE_TEST_KILLS", "2"))
SEED = int(os.environ.get("NPE_TEST_SEED", "0"))
STEPS = 20 + 5 * KILLS
SETTINGS = (
    "experiment=demo_ddpm",
    "optimizer@module.optimizer=adam",  # Muon magnifies the rounding of sums in another order.
    "network.widths=[32,64]",
    "network.attention_levels=[1]",
    "data.batch_size=4",
    "data.resolution=32",
    "data.num_workers=1",
    "module.sample_steps=1",
    "module.num_samples=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.strategy=ddp",
    f"trainer.max_steps={STEPS}",
    "callbacks.last.every_n_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=1",
    "logger=csv",
    "ckpt_path=auto",
    "+callbacks.record._target_=tests.integration.sample_record.SampleRecord",
    "+callbacks.record.folder=${run_dir}/record",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 portraits of 32 pixels in uneven shards: epochs of 7 steps that drop 2 samples."""
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=40, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", samples_per_shard=7, val_fraction=0.25)
    return folder


class Training:
    """A run of the documented command in a session of its own, so that all of it can be killed."""

    def __init__(self, shards: Path, run_dir: Path, *overrides: str) -> None:
        run_dir.mkdir(exist_ok=True)
        self.run_dir = run_dir
        self.log = run_dir / "output.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
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

    def finish(self) -> None:
        try:
            assert self.process.wait(timeout=150) == 0, self.log.read_text()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the process, the other ranks and all loader workers at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_when(self, instant: Callable[[], bool]) -> None:
        """Kill when `instant` is true; fail if the training ends or errs before."""
        deadline = time.monotonic() + 100
        try:
            while not instant():
                assert self.process.poll() is None, f"ended early:\n{self.log.read_text()}"
                assert time.monotonic() < deadline, f"no progress:\n{self.log.read_text()}"
        finally:
            self.kill()


def _steps_done(run_dir: Path) -> int:
    path = run_dir / "record" / "rank0.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _after_steps(run_dir: Path, *, steps: int, delay_s: float) -> Callable[[], bool]:
    start = None

    def instant() -> bool:
        nonlocal start
        if start is None:
            start = _steps_done(run_dir)
        time.sleep(0.001)
        if _steps_done(run_dir) < start + steps:
            return False
        time.sleep(delay_s)
        return True

    return instant


def _during_save(run_dir: Path, *, saves: int) -> Callable[[], bool]:
    """Return a condition that is true while the `saves`-th checkpoint from now is written."""
    partial = run_dir / "checkpoints" / "last.ckpt.partial"
    seen, before = 0, False

    def instant() -> bool:
        nonlocal seen, before
        time.sleep(0.0003)
        now = partial.exists()
        seen += now and not before
        before = now
        return seen == saves

    return instant


def _after_time(delay_s: float) -> Callable[[], bool]:
    end = time.monotonic() + delay_s
    return lambda: time.sleep(0.01) or time.monotonic() >= end


def _instants(run_dir: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Yield instants to kill at without end: while saving, anywhere in a step, while starting."""
    while True:
        yield "save", _during_save(run_dir, saves=rng.randint(1, 2))
        steps, delay_s = rng.randint(1, 5), rng.uniform(0, 0.15)
        yield "step", _after_steps(run_dir, steps=steps, delay_s=delay_s)
        yield "start", _after_time(rng.uniform(0.5, 8))


def _assert_same_weights(run_dir: Path, other: Path) -> None:
    one, two = (read_checkpoint(path / "checkpoints" / "last.ckpt") for path in (run_dir, other))
    assert one["global_step"] == two["global_step"]
    for key in ("state_dict", "ema"):
        expected, actual = (content[key].get("state_dict", content[key]) for content in (one, two))
        assert expected.keys() == actual.keys()
        for name, weight in expected.items():
            assert torch.equal(weight, actual[name]), f"{key}: {name} differs"


@pytest.fixture(scope="module")
def whole_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole")
    Training(shards, run_dir, "trainer.devices=2").finish()
    return run_dir


@pytest.mark.slow
@pytest.mark.timeout(200 + 60 * KILLS)
def test_killed_trainings_end_with_the_bits_of_an_undisturbed_one(
    shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "killed"
    partial = run_dir / "checkpoints" / "last.ckpt.partial"
    instants = _instants(run_dir, random.Random(SEED))
    cut_saves = 0
    for number in range(KILLS):
        partial.unlink(missing_ok=True)
        kind, instant = next(instants)
        Training(shards, run_dir, "trainer.devices=2").kill_when(instant)
        cut_saves += partial.exists()
        _log.info("kill %d: %s, %d steps, %d cut", number, kind, _steps_done(run_dir), cut_saves)
    Training(shards, run_dir, "trainer.devices=2").finish()

    assert cut_saves, "no kill fell into a save"
    expected, actual = read_record(whole_run / "record"), read_record(run_dir / "record")
    assert sorted(expected) == sorted(actual) == [(step, 2) for step in range(1, STEPS + 1)]
    for step, ranks in expected.items():
        for rank in (0, 1):
            (share,) = ranks[rank]
            assert set(actual[step][rank]) == {share}, f"{step=} {rank=}"
    assert any(len(times) > 1 for ranks in actual.values() for times in ranks.values())
    _assert_same_weights(whole_run, run_dir)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_number_of_processes_may_change_with_each_resume(
    shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    """2 -> 1 -> 2 processes, killed in between: the samples are equal, the losses nearly."""
    run_dir = tmp_path / "elastic"
    for processes, instant in (
        (2, _after_steps(run_dir, steps=5, delay_s=0.0)),
        (1, _after_steps(run_dir, steps=11, delay_s=0.0)),
    ):
        Training(shards, run_dir, f"trainer.devices={processes}").kill_when(instant)
    Training(shards, run_dir, "trainer.devices=2").finish()

    expected = _global_steps(whole_run)
    assert {processes for _, processes in _global_steps(run_dir)} == {1, 2}
    seen = set()
    for (step, _), share in _global_steps(run_dir).items():
        whole = expected[step, 2]
        assert share[:2] == whole[:2], f"other samples in {step=}"
        assert share.loss == pytest.approx(whole.loss, abs=1e-5), f"{step=}"
        seen.add(step)
    assert seen == set(range(1, STEPS + 1))


def _global_steps(run_dir: Path) -> dict[tuple[int, int], Share]:
    """Join the shares of all ranks: samples in the order of ranks, pixels added, losses averaged.

    A step that a process did not reach before it was killed is left out.
    """
    joined = {}
    for (step, processes), ranks in read_record(run_dir / "record").items():
        if len(ranks) == processes:
            shares = [ranks[rank][-1] for rank in range(processes)]
            joined[step, processes] = Share(
                sum((share.sample_ids for share in shares), ()),
                sum(share.pixels for share in shares),
                sum(share.loss for share in shares) / processes,
            )
    return joined
