"""A training whose tracker never answers, through the training entry point."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hydra import compose, initialize_config_dir
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.training.metrics_csv import read_metrics
from pipelines.train import train
from pipelines.wandb_sweep import CONF
from tests.unit.training.hostile_server import hostile_server
from tests.unit.training.wandb_file import wandb_history

STEPS = 12


@pytest.mark.slow
def test_training_starts_ends_and_keeps_every_metric(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started_processes: Callable[[], list[psutil.Process]],
) -> None:
    shards, run_dir = tmp_path / "shards", tmp_path / "run"
    source = SyntheticPortraits(seed=0, count=24, resolution=32)
    write_shards(source, out_dir=shards, name="portraits", val_fraction=0.25)
    overrides = [
        "experiment=demo_segmenter",
        f"data.shards={shards}",
        f"run_dir={run_dir}",
        "network.widths=[8,16]",
        "data.batch_size=4",
        "data.resolution=32",
        "trainer.accelerator=cpu",
        "logger=all",
        f"trainer.max_steps={STEPS}",
        "trainer.val_check_interval=4",
        "trainer.limit_val_batches=1",
        "trainer.log_every_n_steps=1",
        # It would take an hour if the start of the training waited for the server.
        "logger.wandb.init_timeout_s=3600",
        "logger.wandb.finish_timeout_s=5",
    ]
    with hostile_server("never answers") as url:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides)
        train(cfg)
        psutil.wait_procs(started_processes())  # The offline run may take its time.
    rows = read_metrics(run_dir / "metrics.csv")
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(STEPS))
    assert [row["step"] for row in rows if "val/mean_iou" in row] == [3, 7, 11]
    for name in ("train/images_per_second", "train/data_wait_share", "train/grad_norm", "train/lr"):
        assert sum(name in row for row in rows) == STEPS
    (file,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    history = wandb_history(file)
    assert len(history) == len(rows)
    for sent, row in zip(history, rows, strict=True):
        for name in row.keys() - {"step", "time"}:
            assert sent[name] == pytest.approx(row[name], nan_ok=True), name
    assert sum("samples/filenames" in sent for sent in history) == 3
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(STEPS))
