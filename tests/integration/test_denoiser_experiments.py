"""The denoisers' experiments: what their page says, and steps of each on a small network."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.training.checkpoint import read_checkpoint
from neural_photo_editor.training.hardware import GPU_PEAKS_TFLOPS
from neural_photo_editor.training.metrics_csv import read_metrics
from pipelines.train import train

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ("ddpm_128", "ddpm_128_best", "ddpm_256", "ddpm_512")


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_page_has_the_networks_figures(experiment: str) -> None:
    """| `ddpm_128` | 128 | 76.7 M | 118.7 | ..."""
    page = (ROOT / "docs" / "denoiser.md").read_text()
    cfg = composed(f"experiment={experiment}", "data.shards=somewhere")
    side = cfg.data.resolution
    with torch.device("meta"):
        network = instantiate(cfg.module.network)
        x, t = torch.empty(1, 3, side, side), torch.ones(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        assert network(x, t).shape == x.shape
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    row = f"| `{experiment}` | {side} | {millions:.1f} M | {counter.get_total_flops() / 1e9:.1f} |"
    assert row in page, row
    head = (ROOT / "conf" / "network" / f"denoising_unet_{side}.yaml").read_text()
    assert re.search(rf"{millions:.0f} M\s+parameters, ", head)
    assert f"{counter.get_total_flops() / 1e9:.0f} GFLOP per image forward" in head
    if experiment in EXPERIMENTS[1:]:
        work = 3 * counter.get_total_flops() * cfg.data.batch_size * cfg.trainer.max_steps
        hours = work / (0.4 * GPU_PEAKS_TFLOPS["H200"][0] * 1e12) / 3600
        header = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text()
        expected = f"{work / 1e18:.2g} EFLOP, an estimate of {hours:.2g} hours on one H200"
        assert f"{expected} at 40 % of its peak" in header, expected


def test_ours_are_shifted_to_their_resolution_and_weighted() -> None:
    for experiment in EXPERIMENTS[1:]:
        cfg = composed(f"experiment={experiment}", "data.shards=somewhere")
        schedule = instantiate(cfg.module.schedule)
        assert schedule.snr_factor == (64 / cfg.data.resolution) ** 2
        assert (schedule.kind, schedule.prediction) == ("cosine", "v")
        assert cfg.module.min_snr_gamma == 5.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=12, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", val_fraction=0.25)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "changes"),
    [
        ("ddpm_128_best", []),
        ("ddpm_512", []),
        (
            "ddpm_128_best",
            [
                "schedule.zero_terminal_snr=true",
                "module.min_snr_gamma=null",
                "optimizer@module.optimizer=adamw",
            ],
        ),
    ],
)
def test_it_trains_and_its_schedule_travels(
    experiment: str, changes: list[str], shards: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "data.shards": shards,
        "run_dir": tmp_path,
        "data.resolution": 32,
        "data.batch_size": 2,
        "data.max_batch_per_device": "null",
        "data.num_workers": 0,
        "network.widths": "[32,64]",
        "network.attention_levels": "[1]",
        "module.sample_steps": 2,
        "module.num_samples": 1,
        "trainer.max_steps": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 2,
        "trainer.limit_val_batches": 1,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "logger": "csv",
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    cfg = composed(f"experiment={experiment}", *overrides, *changes)
    run_dir = train(cfg)
    rows = read_metrics(run_dir / "metrics.csv")
    assert sum("train/loss" in row for row in rows) == 2
    content = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    schedule = content["artifact_metadata"]["schedule"]
    assert schedule["snr_factor"] == cfg.schedule.snr_factor
    assert schedule.get("zero_terminal_snr", False) == cfg.schedule.zero_terminal_snr
