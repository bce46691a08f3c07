"""Trainings killed at any instant and continued are the training that nothing disturbed.

The suite kills a few times; ``NPE_TEST_KILLS=20`` in the environment kills more often,
``NPE_TEST_RANK_KILLS=20`` in 20 trainings one of the ranks, ``NPE_TEST_SEED=1`` at other instants.
"""

import logging
import os
import random
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from neural_photo_editor.training.metrics_csv import read_metrics
from tests.integration.sample_record import Share, read_record, read_steps
from tests.integration.training_process import (
    KILLS,
    STEPS,
    TORCHRUN,
    Training,
    after_steps,
    after_time,
    assert_same_weights,
    during_save,
    steps_done,
    still_running,
)

_log = logging.getLogger(__name__)
RANK_KILLS = int(os.environ.get("NPE_TEST_RANK_KILLS", "1"))
SEED = int(os.environ.get("NPE_TEST_SEED", "0"))
INTERVAL = 2  # callbacks.last.every_n_steps


def _instants(run_dir: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Yield instants to kill at without end: while saving, anywhere in a step, while starting."""
    while True:
        yield "save", during_save(run_dir, saves=rng.randint(1, 2))
        steps, delay_s = rng.randint(1, 5), rng.uniform(0, 0.15)
        yield "step", after_steps(run_dir, steps=steps, delay_s=delay_s)
        yield "start", after_time(rng.uniform(0.5, 8))


def _assert_same_record(run_dir: Path, whole_run: Path, *, kills: int) -> None:
    """Each step saw the same samples and losses as in the whole run, each time it was taken.

    A kill between a checkpoint and the row of its step costs that row of metrics.csv.
    """
    expected, actual = read_record(whole_run / "record"), read_record(run_dir / "record")
    assert sorted(expected) == sorted(actual) == [(step, 2) for step in range(1, STEPS + 1)]
    for step, ranks in expected.items():
        for rank in (0, 1):
            (share,) = ranks[rank]
            assert set(actual[step][rank]) == {share}, f"{step=} {rank=}"
    rows, others = (_rows(folder) for folder in (whole_run, run_dir))
    assert others == [row for row in rows if row in others]
    assert len(others) >= len(rows) - kills


def _rows(run_dir: Path) -> list[tuple[float, float | None, float | None]]:
    """Return step, training and validation loss of each logged row."""
    rows = read_metrics(run_dir / "metrics.csv")
    return [(row["step"], row.get("train/loss"), row.get("val/loss")) for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(200 + 60 * KILLS)
def test_killed_trainings_end_with_the_bits_of_an_undisturbed_one(
    small_shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "killed"
    partial = run_dir / "checkpoints" / "last.ckpt.partial"
    instants = _instants(run_dir, random.Random(SEED))
    cut_saves = 0
    for number in range(KILLS):
        partial.unlink(missing_ok=True)
        kind, instant = next(instants)
        Training(small_shards, run_dir, "trainer.devices=2").kill_when(instant)
        cut_saves += partial.exists()
        _log.info("kill %d: %s, %d steps, %d cut", number, kind, steps_done(run_dir), cut_saves)
    Training(small_shards, run_dir, "trainer.devices=2").finish()

    assert cut_saves, "no kill fell into a save"
    _assert_same_record(run_dir, whole_run, kills=KILLS)
    assert any(now <= before for before, now in pairwise(read_steps(run_dir / "record")))
    assert_same_weights(whole_run, run_dir)


@pytest.mark.slow
@pytest.mark.timeout(60 + 120 * RANK_KILLS)
@pytest.mark.parametrize("number", range(RANK_KILLS))
def test_a_killed_rank_is_replaced_unattended(
    number: int, small_shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    """torchrun starts all ranks anew, from the last checkpoint; nothing is left behind."""
    rng = random.Random(f"{SEED} {number}")
    run_dir, killed = tmp_path / "run", rng.randrange(2)
    training = Training(
        small_shards, run_dir, launcher=(*TORCHRUN, "--nproc-per-node=2", "--max-restarts=1")
    )
    steps = rng.randint(1, STEPS - 2)
    training.wait_until(after_steps(run_dir, steps=steps, delay_s=rng.uniform(0, 0.1)))
    before = [training.rank(rank) for rank in (0, 1)]
    workers = [worker for rank in before for worker in rank.children()]
    before[killed].send_signal(signal.SIGKILL)
    training.finish()

    _assert_same_record(run_dir, whole_run, kills=1)
    assert_same_weights(whole_run, run_dir)
    taken = read_steps(run_dir / "record")
    lost = [one - (two - 1) for one, two in pairwise(taken) if two != one + 1]
    _log.info("run %d: rank %d killed after %d steps, taken again: %s", number, killed, steps, lost)
    assert sum(lost) <= INTERVAL  # None where the kill came right after a checkpoint.
    assert workers
    assert not still_running([*before, *workers], timeout_s=20.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_number_of_processes_may_change_with_each_resume(
    small_shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    """2 -> 1 -> 2 processes, killed in between: the samples are equal, the losses nearly."""
    run_dir = tmp_path / "elastic"
    for processes, instant in (
        (2, after_steps(run_dir, steps=5)),
        (1, after_steps(run_dir, steps=11)),
    ):
        Training(small_shards, run_dir, f"trainer.devices={processes}").kill_when(instant)
    Training(small_shards, run_dir, "trainer.devices=2").finish()

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
