"""Run folder or artifact -> sample_quality.json, by one process and by two."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from pipelines.evaluate_samples import compare_results, run

ROOT = Path(__file__).resolve().parents[2]
SIDE = 16


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=40, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", val_fraction=0.2)
    return folder


def write_run(folder: Path, network: nn.Module, metadata: dict[str, Any], shards: Path) -> Path:
    """What `train` leaves that an evaluation reads."""
    (folder / "checkpoints").mkdir(parents=True)
    content = {
        "network": {"name": type(network).__name__, "config": network.config},
        "artifact_metadata": metadata,
        "ema": {"state_dict": network.state_dict()},
    }
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    OmegaConf.save({"data": {"shards": str(shards), "crop_size": None}}, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    denoiser = DenoisingUNet(
        widths=(16, 16), blocks_per_level=1, attention_levels=(), head_dim=16, num_groups=4
    )
    nn.init.normal_(denoiser.conv_out.weight, std=0.05)
    schedule = NoiseSchedule.linear(20, 1e-2, 2e-1, "v", zero_terminal_snr=True)
    metadata = {"kind": "denoiser", "resolution": SIDE, "scale": None}
    write_run(folder / "denoiser", denoiser, {**metadata, "schedule": schedule.to_spec()}, shards)
    segmenter = SegmentationUNet(widths=(8, 16), blocks_per_level=1)
    metadata = {"kind": "segmenter", "resolution": 32, "scale": None, "schedule": None}
    write_run(folder / "segmenter", segmenter, metadata, shards)
    return [
        f"run_dir={folder / 'denoiser'}",
        f"features.segmenter={folder / 'segmenter'}",
        "samples.num_samples=36",
        "samples.steps=3",
        "samples.kid_block=8",
        "references.count=26",
        "min_samples=20",
        "batch_size=5",
        "device=cpu",
    ]


def run_here(*overrides: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return run(compose("evaluate_samples", list(overrides)))


def run_in_two_processes(*overrides: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            f"--master-port={port}",
            "pipelines/evaluate_samples.py",
            *overrides,
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(overrides: list[str], tmp_path: Path) -> None:
    one = run_here(*overrides, f"out_dir={tmp_path / 'one'}")
    done = run_in_two_processes(*overrides, f"out_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stdout + done.stderr
    two = json.loads((tmp_path / "two" / "sample_quality.json").read_text())
    # The images are the same bytes; sums of float64 differ in their order.
    for name, value in one.metrics.items():
        assert two["metrics"][name] == pytest.approx(value, rel=1e-8, abs=1e-10)
    assert two["protocol"] == one.protocol
    assert two["model"] == one.model
    pictures = [tmp_path / name / "samples.png" for name in ("one", "two")]
    assert Image.open(pictures[0]).tobytes() == Image.open(pictures[1]).tobytes()
    assert len(compare_results([tmp_path / "one", tmp_path / "two"]).splitlines()) == 3
    assert done.stderr.count("frechet_distance") == 1  # Process 0 alone writes the log.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["features.segmenter=null"], "give either features.inception_weights"),
        (["features.inception_weights=x.pth"], "give either features.inception_weights"),
        (["artifact=a@1"], "give either run_dir=DIR or artifact"),
        (["references.count=41"], r"has \d+ photos of split train"),
        (["min_samples=10000"], "36 samples are fewer than min_samples = 10000"),
        (["samples.sampler=euler"], "sampler is 'euler'; choose one of"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    overrides: list[str], changes: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_here(*overrides, *changes)


def test_features_of_a_network_that_is_no_segmenter(overrides: list[str]) -> None:
    run_dir = overrides[0].removeprefix("run_dir=")
    with pytest.raises(ValueError, match="names a DenoisingUNet, no segmenter"):
        run_here(*overrides, f"features.segmenter={run_dir}")
    segmenter = overrides[1].removeprefix("features.segmenter=")
    with pytest.raises(ValueError, match="this is a segmenter: only a denoiser draws"):
        run_here(*overrides, f"run_dir={segmenter}")
