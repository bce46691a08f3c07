"""Configuration -> objects: every experiment, and what a wrong value answers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback
from omegaconf import DictConfig, OmegaConf

from neural_photo_editor.common.regions import NUM_REGIONS
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.portrait_module import PortraitModule
from pipelines.train import make_all

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
KINDS = {"ddpm": "denoiser", "segmenter": "segmenter", "srgan": "upscaler"}
OWN_GROUPS = (
    "experiment", "module", "optimizer", "trainer", "logger", "callbacks", "schedule", "network",
)  # fmt: skip


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.fixture(scope="module")
def segmenter_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segmenter = SegmentationUNet(widths=(8, 8))
    path = tmp_path_factory.mktemp("segmenter") / "last.ckpt"
    torch.save(
        {
            "network": {"name": "SegmentationUNet", "config": segmenter.config},
            "ema": {"state_dict": segmenter.state_dict()},
        },
        path,
    )
    return path


def test_every_pipeline_has_the_defaults_of_one_hydra_version() -> None:
    bases = {
        path.name: set(re.findall(r"version_base=([^,)]+)", path.read_text()))
        for path in (ROOT / "pipelines").glob("*.py")
    }
    assert set().union(*bases.values()) == {'"1.3"'}, bases


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_instantiates(
    experiment: str, segmenter_checkpoint: Path, tmp_path: Path
) -> None:
    overrides = [f"experiment={experiment}", f"data.shards={tmp_path}", f"run_dir={tmp_path}"]
    if "srgan" in experiment:
        overrides.append(f"module.perceptual.segmenter_checkpoint={segmenter_checkpoint}")
    if "segmenter" in experiment:  # Else the training shards are counted.
        overrides.append(f"module.region_shares={[1] * NUM_REGIONS}")
    cfg = composed(*overrides)
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    assert settings["name"] == experiment

    module = instantiate(cfg.module)
    assert isinstance(module, PortraitModule)
    (kind,) = {KINDS[part] for part in experiment.split("_") if part in KINDS}
    metadata = module.artifact_metadata()
    assert metadata["kind"] == kind
    assert metadata["resolution"] == settings["data"]["resolution"]
    assert (metadata["schedule"] is not None) == (kind == "denoiser")
    module.configure_optimizers()
    for callback in cfg.callbacks.values():
        instantiate(callback)
    instantiate(cfg.data)


def test_the_published_denoiser_settings_are_those_of_the_experiment() -> None:
    cfg = composed("experiment=ddpm_128", "data.shards=somewhere")
    schedule = cfg.module.schedule
    assert (schedule.num_timesteps, schedule.beta_start, schedule.beta_end) == (500, 1e-4, 2e-2)
    assert (cfg.data.resolution, cfg.data.batch_size) == (128, 40)
    assert cfg.module.optimizer._target_ == "torch.optim.Adam"
    assert cfg.module.optimizer.lr == 1e-3


def test_any_value_can_be_overridden() -> None:
    cfg = composed(
        "experiment=demo_ddpm",
        "data.shards=here",
        "network=denoising_unet_128",
        "module.optimizer.lr=5e-4",
        "trainer.devices=2",
        "callbacks.ema.decay=0.9",
        "schedule.num_timesteps=1000",
        "+trainer.max_time=00:01:00:00",
        "seed=0",
    )
    assert cfg.module.network.widths[0] == 128
    assert cfg.module.optimizer.lr == 5e-4
    assert cfg.module.schedule.num_timesteps == 1000
    assert cfg.module.lr_scheduler.total_steps == cfg.trainer.max_steps
    assert cfg.data.seed == 0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_another_optimizer_brings_its_own_numbers(optimizer: str, experiment: str) -> None:
    expected = OmegaConf.load(CONF / "optimizer" / f"{optimizer}.yaml")
    names = ["optimizer", *(["discriminator_optimizer"] if "srgan" in experiment else [])]
    overrides = [f"optimizer@module.{name}={optimizer}" for name in names]
    cfg = composed(f"experiment={experiment}", *overrides)
    for name in names:
        assert cfg.module[name] == expected


def test_a_callback_set_to_null_is_left_out(tmp_path: Path) -> None:
    settings = ("experiment=demo_ddpm", "data.shards=here", f"run_dir={tmp_path}")
    made = make_all(composed(*settings).callbacks)
    fewer = make_all(composed(*settings, "callbacks.samples=null").callbacks)
    assert len(fewer) == len(made) - 1
    assert all(isinstance(callback, Callback) for callback in fewer)


@pytest.mark.parametrize("group", OWN_GROUPS)
def test_every_number_says_its_unit_or_consequence(group: str) -> None:
    files = sorted((CONF / group).glob("*.yaml"))
    assert files
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if re.match(r"\s*[\w]+:\s*[-+]?[\d.]", line):
                assert re.search(r"\s#\s\S", line), f"{path.name}:{number}: {line.strip()}"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_header_says_hardware_duration_and_expectation(experiment: str) -> None:
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    header = [line for line in text.split("defaults:")[0].splitlines() if line.startswith("#")]
    for word in ("Hardware:", "Duration:", "Expect:"):
        assert any(word in line for line in header), word


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_comments_count_the_photos_of_a_run(experiment: str) -> None:
    """``max_steps: 200000 # 427 epochs of 30,000 photos``; ``limit_val_batches: 8 # 64 crops``"""
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    cfg = composed(f"experiment={experiment}")
    for epochs, photos in re.findall(r" max_steps: \d+ # (\d+) epochs of ([\d,]+) photos", text):
        seen = cfg.trainer.max_steps * cfg.data.batch_size
        assert round(seen / int(photos.replace(",", ""))) == int(epochs)
    for batches, photos in re.findall(r"limit_val_batches: (\d+) # ([\d,]+) [a-z]", text):
        assert int(batches) * cfg.data.batch_size == int(photos.replace(",", ""))


@pytest.mark.slow
def test_wrong_value_ends_the_command_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    source = SyntheticPortraits(seed=0, count=40, resolution=32)
    write_shards(source, out_dir=tmp_path / "shards", name="portraits", val_fraction=0.1)
    command = [
        sys.executable, "pipelines/train.py", "experiment=demo_segmenter", "module.optimizer.lr=-1",
        f"data.shards={tmp_path / 'shards'}", f"run_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == os.EX_CONFIG, done.stderr
    assert "configuration error: lr=-1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
