"""Signals stop a training at any instant with a checkpoint, and the same command goes on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException

from neural_photo_editor.training.checkpoint import is_whole, read_checkpoint
from neural_photo_editor.training.exit_codes import STOPPED
from neural_photo_editor.training.metrics_csv import read_metrics
from pipelines.train import train
from tests.integration.sample_record import read_steps
from tests.integration.training_process import (
    ROOT,
    SETTINGS,
    TORCHRUN,
    Training,
    after_steps,
    assert_same_weights,
    during_save,
    still_running,
)

IN_TIME_S = 20.0


def stop(
    training: Training, instant: Callable[[], bool], number: signal.Signals, *, to: str
) -> float:
    """Signal one rank or the whole session, check the exit code, return the seconds it took."""
    training.wait_until(instant)
    start = time.monotonic()
    if to == "all":
        os.killpg(training.process.pid, number)
    else:
        training.rank(int(to)).send_signal(number)
    training.finish(exit_code=STOPPED)
    return time.monotonic() - start


def in_validation(run_dir: Path) -> Callable[[], bool]:
    """Return a condition that is true once the second validation writes its pictures."""
    return lambda: (run_dir / "samples" / "step-000020.png").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_trainings_end_with_the_bits_of_an_undisturbed_one(
    small_shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    """While the other rank saves to one rank alone, and in a validation to all processes."""
    run_dir = tmp_path / "stopped"
    last = run_dir / "checkpoints" / "last.ckpt"
    for instant, number, to in (
        (during_save(run_dir, saves=2), signal.SIGTERM, "1"),
        (in_validation(run_dir), signal.SIGINT, "all"),
    ):
        training = Training(small_shards, run_dir, "trainer.devices=2")
        assert stop(training, instant, number, to=to) < IN_TIME_S
        assert is_whole(last)
        taken = read_steps(run_dir / "record")[-1]
        step = read_checkpoint(last)["global_step"]
        # In a validation the step before it has been saved.
        assert taken - step <= (1 if taken == 20 else 0)
    Training(small_shards, run_dir, "trainer.devices=2").finish()

    assert_same_weights(whole_run, run_dir)
    names = ("step", "train/loss", "val/loss", "train/lr")
    rows, others = (
        [[row.get(name) for name in names] for row in read_metrics(folder / "metrics.csv")]
        for folder in (whole_run, run_dir)
    )
    assert others == rows


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_wait_for_data_that_never_comes_is_left_with_a_checkpoint(
    small_shards: Path, tmp_path: Path
) -> None:
    """A worker that hangs, as one that reads from a storage without an answer."""
    run_dir = tmp_path / "run"
    settings = ("trainer.max_steps=1000", "trainer.devices=1", "callbacks.last.every_n_steps=1000")
    training = Training(small_shards, run_dir, *settings, "callbacks.last.grace_s=8")
    training.wait_until(after_steps(run_dir, steps=3))
    (worker,) = training.rank(0).children()
    worker.send_signal(signal.SIGSTOP)
    training.wait_until(_is_waiting(run_dir))
    assert stop(training, lambda: True, signal.SIGTERM, to="0") < IN_TIME_S
    step = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"]
    assert step == read_steps(run_dir / "record")[-1]


def _is_waiting(run_dir: Path) -> Callable[[], bool]:
    """Return a condition that is true when no step has been taken for a second."""
    record = run_dir / "record" / "rank0.jsonl"
    return lambda: time.time() - record.stat().st_mtime > 1.0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_torchrun_passes_signal_and_exit_code_on(small_shards: Path, tmp_path: Path) -> None:
    """And loader workers outlive a signal to all processes only until the training ends."""
    run_dir = tmp_path / "run"
    settings = ("trainer.max_steps=1000", "callbacks.last.every_n_steps=1000")
    launcher = (*TORCHRUN, "--nproc-per-node=2")
    training = Training(small_shards, run_dir, *settings, launcher=launcher)
    training.wait_until(after_steps(run_dir, steps=3))
    processes = psutil.Process(training.process.pid).children(recursive=True)
    assert len(processes) >= 4
    assert stop(training, lambda: True, signal.SIGTERM, to="all") < IN_TIME_S
    step = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"]
    assert step == read_steps(run_dir / "record")[-1]
    assert not still_running(processes, timeout_s=10.0)


def configure(shards: Path, run_dir: Path, *overrides: str) -> object:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        settings = [f"data.shards={shards}", f"run_dir={run_dir}", *SETTINGS, *overrides]
        return compose("train", settings)


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_finished_run_started_again_leaves_everything_alone(
    small_shards: Path, whole_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _files(whole_run)
    with caplog.at_level("INFO"):
        assert train(configure(small_shards, whole_run)) == whole_run
    assert "finished before" in caplog.text
    assert _files(whole_run) == before


@pytest.mark.slow
def test_another_runs_checkpoint_must_leave_steps_to_train(
    small_shards: Path, whole_run: Path, tmp_path: Path
) -> None:
    last = whole_run / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"set trainer\.max_steps above"):
        train(configure(small_shards, tmp_path / "finetune", f"ckpt_path={last}"))
    assert not (tmp_path / "finetune").exists()


@pytest.mark.slow
@pytest.mark.parametrize("max_steps", ["trainer.max_steps=999", "trainer.max_steps=1"])
def test_another_training_does_not_get_into_the_folder(
    small_shards: Path, whole_run: Path, max_steps: str
) -> None:
    before = _files(whole_run)
    settings = (max_steps, "data.batch_size=8", "trainer.strategy=auto")
    with pytest.raises(ValueError, match=r"other settings: .*ckpt_path=null"):
        train(configure(small_shards, whole_run, *settings))
    assert _files(whole_run) == before


@pytest.mark.slow
def test_other_shards_do_not_get_into_the_run(
    whole_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from neural_photo_editor.data.shard_writer import write_shards
    from neural_photo_editor.data.synthetic_source import SyntheticPortraits

    other = tmp_path_factory.mktemp("other")
    source = SyntheticPortraits(seed=1, count=40, resolution=32)
    write_shards(source, out_dir=other, name="portraits", val_fraction=0.25)
    before = _files(whole_run)
    settings = ("trainer.max_steps=999", "trainer.strategy=auto")
    with pytest.raises(ValueError, match=r"put the former shards back"):
        train(configure(other, whole_run, *settings))
    assert _files(whole_run) == before


@pytest.mark.slow
def test_a_run_started_anew_forgets_the_one_before(small_shards: Path, tmp_path: Path) -> None:
    settings = ("trainer.max_steps=3", "trainer.strategy=auto", "callbacks.last.every_n_steps=100")
    keeping = "callbacks.last.keep_every_n_steps=2"
    train(configure(small_shards, tmp_path, *settings, keeping))
    kept = tmp_path / "checkpoints" / "step-000002.ckpt"
    assert kept.is_file()
    train(configure(small_shards, tmp_path, *settings, "seed=1", "ckpt_path=null"))
    assert not kept.exists()
    assert read_metrics(tmp_path / "metrics.csv")[0]["step"] == 0
    assert read_steps(tmp_path / "record") == [1, 2, 3, 1, 2, 3]


@pytest.mark.slow
def test_a_wrong_setting_found_late_leaves_the_run_alone(
    small_shards: Path, whole_run: Path
) -> None:
    before = _files(whole_run)
    settings = ("trainer.strategy=auto", "ckpt_path=null", "callbacks.last.keep=0")
    with pytest.raises(InstantiationException, match="keep is 0"):
        train(configure(small_shards, whole_run, *settings))
    assert _files(whole_run) == before


@pytest.mark.slow
def test_a_run_goes_on_with_the_rates_of_its_configuration(
    small_shards: Path, tmp_path: Path
) -> None:
    settings = ("trainer.strategy=auto", "callbacks.last.every_n_steps=1")
    rates = ("module.lr_scheduler.total_steps=0", "module.lr_scheduler.final_factor=1")
    train(configure(small_shards, tmp_path, *settings, *rates, "trainer.max_steps=2"))
    changed = ("module.optimizer.lr=1.0e-5", "module.optimizer.betas=[0.5,0.9]")
    train(configure(small_shards, tmp_path, *settings, *rates, "trainer.max_steps=4", *changed))
    logged = [
        row["train/lr"] for row in read_metrics(tmp_path / "metrics.csv") if "train/lr" in row
    ]
    assert logged == pytest.approx([1e-3, 1e-3, 1e-5, 1e-5])
    content = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    (group,) = content["optimizer_states"][0]["param_groups"]
    assert tuple(group["betas"]) == (0.5, 0.9)
    assert content["lr_schedulers"][0]["base_lrs"] == [1e-5]


@pytest.mark.slow
def test_rows_of_a_run_that_goes_on_after_a_validation_have_their_steps(
    small_shards: Path, tmp_path: Path
) -> None:
    settings = ("trainer.val_check_interval=2", "trainer.strategy=auto", "data.num_workers=0")
    for max_steps in (2, 3, 4):
        train(configure(small_shards, tmp_path, *settings, f"trainer.max_steps={max_steps}"))
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows if "train/loss" in row] == [0, 1, 2, 3]
    assert [row["step"] for row in rows if "val/loss" in row] == [1, 3]
