"""Batches -> Lightning module -> checkpoint, through the training entry point."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.checkpoint import network_weights, read_checkpoint
from neural_photo_editor.training.metrics_csv import read_metrics
from pipelines.train import train
from tests.unit.training.wandb_file import wandb_records

ROOT = Path(__file__).resolve().parents[2]
SMALL_DENOISER = (
    "experiment=demo_ddpm",
    "network.widths=[32,64]",
    "network.attention_levels=[1]",
    "data.batch_size=4",
    "data.resolution=32",
    "module.sample_steps=2",
    "module.num_samples=4",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=1",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 drawn portraits of 64 pixels, some of them held out."""
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=24, resolution=64)
    write_shards(source, out_dir=folder, name="portraits", val_fraction=0.25)
    return folder


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def run(shards: Path, run_dir: Path, *overrides: str) -> Path:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"data.shards={shards}", f"run_dir={run_dir}", *overrides])
    return train(cfg)


def run_command(shards: Path, run_dir: Path, *overrides: str, environ: dict[str, str]) -> None:
    """Run the documented command line and fail with its output if it fails."""
    settings = [f"data.shards={shards}", f"run_dir={run_dir}", *overrides]
    done = subprocess.run(
        [sys.executable, "pipelines/train.py", *settings],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def logged(run_dir: Path, name: str) -> list[float]:
    return [row[name] for row in read_metrics(run_dir / "metrics.csv") if name in row]


@pytest.mark.slow
def test_run_leaves_its_folder_and_an_offline_wandb_run_that_reads_back(
    shards: Path, tmp_path: Path
) -> None:
    run_dir = run(shards, tmp_path / "run", *SMALL_DENOISER, "trainer.max_steps=4")

    saved = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert saved["trainer"]["max_steps"] == 4
    assert saved["trainer"]["devices"] == 1  # "auto" is resolved.
    assert saved["module"]["schedule"]["num_timesteps"] == 500
    for picture in ("curves.png", "samples/step-000004.png"):
        with Image.open(run_dir / picture) as image:
            assert min(image.size) > 60
    content = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 4
    assert content["artifact_metadata"]["kind"] == "denoiser"
    network = DenoisingUNet(**content["network"]["config"])
    network.load_state_dict(network_weights(content))
    assert (run_dir / "checkpoints" / "best.ckpt").is_file()

    (file,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    records = list(wandb_records(file))
    config = {
        item.key: json.loads(item.value_json) for record in records for item in record.config.update
    }
    assert config["trainer"]["max_steps"] == 4
    history: dict[str, list[Any]] = {}
    for record in records:
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            history.setdefault(name, []).append(json.loads(item.value_json))
    for name in ("train/loss", "train/lr", "train/grad_norm", "train/images_per_second"):
        assert history[name] == pytest.approx(logged(run_dir, name))
        assert len(history[name]) == 4
    assert history["val/loss"] == pytest.approx(logged(run_dir, "val/loss"))
    (pictures,) = history["samples/filenames"]
    assert (file.parent / "files" / pictures[0]).is_file()
    assert any(record.WhichOneof("record_type") == "exit" for record in records)
    tracker = json.loads((run_dir / "tracker.json").read_text())
    assert tracker["mode"] == "offline"
    assert tracker["run_id"] in file.name


@pytest.mark.slow
def test_a_pod_of_kubeflow_starts_torchrun_which_decides_the_number_of_processes(
    shards: Path, tmp_path: Path
) -> None:
    """The GAN in a pod: two optimizers, a network without gradients in each half step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pod = {
        "PET_NNODES": "1",
        "PET_NPROC_PER_NODE": "2",
        "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }
    run_command(
        shards,
        tmp_path / "run",
        "experiment=demo_srgan",
        "logger=csv",
        "network.width=8",
        "network.num_blocks=1",
        "discriminator.widths=[8,8]",
        "data.crop_size=64",
        "data.resolution=64",
        "module.perceptual.kind=none",
        "module.pretrain_steps=1",
        "trainer.max_steps=3",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
        "trainer.limit_val_batches=1",
        environ=pod,
    )
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["trainer"]["devices"] == 2
    assert len(logged(tmp_path / "run", "train/loss_pixel")) == 3
    assert len(logged(tmp_path / "run", "train/loss_discriminator")) == 2
    content = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 3


@pytest.mark.slow
def test_resumed_training_equals_the_uninterrupted_one(shards: Path, tmp_path: Path) -> None:
    """Stopped within an epoch; the weights, the average and the record are those of one run."""
    settings = (*SMALL_DENOISER, "module.lr_scheduler.total_steps=7", "logger=csv")
    run(shards, tmp_path / "whole", *settings, "trainer.max_steps=7")
    run(shards, tmp_path / "parts", *settings, "trainer.max_steps=3")
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    run(shards, tmp_path / "parts", *settings, "trainer.max_steps=7", f"ckpt_path={last}")

    whole, parts = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        for name in ("whole", "parts")
    )
    assert parts["global_step"] == 7
    assert parts["ema"]["num_updates"] == 7
    for key in ("state_dict", "ema"):
        expected = whole[key].get("state_dict", whole[key])
        actual = parts[key].get("state_dict", parts[key])
        for name, weight in expected.items():
            torch.testing.assert_close(actual[name], weight, msg=lambda m, n=name: f"{n}: {m}")
    assert logged(tmp_path / "parts", "train/loss") == pytest.approx(
        logged(tmp_path / "whole", "train/loss")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "batch_size", "losses"),
    [
        ("ddpm_128", 1, ["train/loss"]),
        ("segmenter_128", 2, ["train/loss"]),
        ("srgan_x4", 1, ["train/loss", "train/loss_discriminator", "train/loss_perceptual"]),
    ],
)
def test_full_size_experiment_takes_one_step(
    experiment: str, batch_size: int, losses: list[str], shards: Path, tmp_path: Path
) -> None:
    """The real networks at their real resolution; only the batch is small."""
    overrides = [
        f"experiment={experiment}",
        f"data.batch_size={batch_size}",
        "data.num_workers=0",
        "trainer.max_steps=1",
        "trainer.limit_val_batches=0",
        "trainer.log_every_n_steps=1",
        "logger=csv",
        "~callbacks.best",
    ]
    if experiment == "srgan_x4":
        segmenter = SegmentationUNet(widths=(16, 32))
        content = {
            "network": {"name": "SegmentationUNet", "config": segmenter.config},
            "ema": {"state_dict": segmenter.state_dict()},
        }
        torch.save(content, tmp_path / "segmenter.ckpt")
        overrides += [
            "module.pretrain_steps=0",
            f"module.perceptual.segmenter_checkpoint={tmp_path / 'segmenter.ckpt'}",
        ]
    run_dir = run(shards, tmp_path / "run", *overrides)
    for name in (*losses, "train/grad_norm"):
        (value,) = logged(run_dir, name)
        assert value > 0
    content = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    state = content["optimizer_states"][0]["state"]
    assert all(float(moments["exp_avg"].abs().max()) >= 0 for moments in state.values())
    assert sum(bool(moments["exp_avg"].any()) for moments in state.values()) > 0
