"""Damaged inputs through the entry points: trained on, resumed, evaluated."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.checkpoint import read_checkpoint
from neural_photo_editor.training.metrics_csv import read_metrics
from pipelines.evaluate import evaluate
from pipelines.train import train

CONF = str(Path(__file__).resolve().parents[2] / "conf")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=12, resolution=64)
    write_shards(source, out_dir=folder, name="portraits", val_fraction=0.25)
    return folder


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = SegmentationUNet(widths=(8, 16))
    path = tmp_path_factory.mktemp("segmenter") / "last.ckpt"
    content = {
        "network": {"name": "SegmentationUNet", "config": network.config},
        "ema": {"state_dict": network.state_dict()},
    }
    torch.save(content, path)
    return path


def run(shards: Path, segmenter: Path, run_dir: Path, *overrides: str) -> Path:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(
            "train",
            [
                "experiment=srgan_x4_real",
                f"data.shards={shards}",
                f"run_dir={run_dir}",
                f"module.perceptual.segmenter_checkpoint={segmenter}",
                "module.pretrain_steps=1",
                "data.crop_size=64",
                "data.resolution=64",
                "data.batch_size=2",
                "data.num_workers=0",
                "trainer.accelerator=cpu",
                "trainer.precision=32-true",
                "trainer.log_every_n_steps=1",
                "trainer.limit_val_batches=1",
                "logger=csv",
                *overrides,
            ],
        )
    return train(cfg)


@pytest.mark.slow
def test_full_size_networks_learn_from_damaged_photos(
    shards: Path, segmenter: Path, tmp_path: Path
) -> None:
    run_dir = run(shards, segmenter, tmp_path / "run", "trainer.max_steps=2")
    rows = read_metrics(run_dir / "metrics.csv")
    logged = {name: value for row in rows for name, value in row.items()}
    for name in ("train/d_real", "train/d_fake", "val/segmenter_agreement_bicubic"):
        assert 0.0 < logged[name] <= 1.0
    assert logged["val/psnr_y"] > logged["val/psnr_y_bicubic"] - 3.0

    with initialize_config_dir(CONF, version_base=None):
        clean, damaged = (
            evaluate(
                compose(
                    "evaluate",
                    [
                        f"run_dir={run_dir}",
                        f"out_dir={tmp_path / degradation}",
                        f"segmenter_checkpoint={segmenter}",
                        f"degradation={degradation}",
                        "device=cpu",
                    ],
                )
            ).metrics
            for degradation in ("bicubic", "realistic")
        )
    assert damaged["psnr_y_bicubic"] < clean["psnr_y_bicubic"] - 3.0
    assert damaged["perceptual_bicubic"] > clean["perceptual_bicubic"]


@pytest.mark.slow
def test_resumed_training_sees_the_same_damage(
    shards: Path, segmenter: Path, tmp_path: Path
) -> None:
    """Both phases, stopped between them, with the small networks' weights as the witnesses."""
    small = (
        "network=srresnet_demo",
        "network@discriminator=discriminator_demo",
        "network.width=8",
        "network.num_blocks=1",
        "discriminator.widths=[8,8]",
        "data.crop_size=32",
        "data.resolution=32",
        "trainer.limit_val_batches=0",
        "~callbacks.best",
        "module.lr_scheduler.total_steps=4",
        "module.discriminator_lr_scheduler.total_steps=4",
    )
    run(shards, segmenter, tmp_path / "whole", *small, "trainer.max_steps=4")
    run(shards, segmenter, tmp_path / "parts", *small, "trainer.max_steps=2")
    run(shards, segmenter, tmp_path / "parts", *small, "trainer.max_steps=4", "ckpt_path=auto")
    whole, parts = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        for name in ("whole", "parts")
    )
    assert whole["global_step"] == parts["global_step"] == 4
    for key in ("state_dict", "ema"):
        expected = whole[key].get("state_dict", whole[key])
        actual = parts[key].get("state_dict", parts[key])
        for name, weight in expected.items():
            assert torch.equal(actual[name], weight), name
