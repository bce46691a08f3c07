"""A bundle, archived or not, and shards or drawn portraits -> the files of an evaluation."""

import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from neural_photo_editor.artifacts.bundle import ServingDefaults, stage_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.common.regions import REGION_NAMES
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from pipelines.evaluate_edits import run
from tests.unit.networks.inception_golden import random_weights

PAINTED = ("hair", "lip", "skin")
CONF = Path(__file__).resolve().parents[2] / "conf"


def configured(**values: object) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"{name}={value}" for name, value in values.items()]
        # Whatever an untrained segmenter finds.
        others = [f"+colors.{name}=null" for name in REGION_NAMES if name not in PAINTED]
        return compose("evaluate_edits", overrides + others)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of untrained networks whose segmenter finds several regions in a portrait."""
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    segmenter = SegmentationUNet(widths=(8, 16), blocks_per_level=1)
    nn.init.zeros_(segmenter.head.bias)  # Else it sees the same region everywhere.
    networks: dict[str, nn.Module] = {
        "denoiser": DenoisingUNet(
            widths=(32, 32), blocks_per_level=1, attention_levels=(), head_dim=32
        ),
        "segmenter": segmenter,
        "upscaler": SRResNet(width=8, num_blocks=1),
    }
    for kind, network in networks.items():
        export_artifact(
            network,
            name=kind,
            metadata={
                "kind": kind,
                "resolution": 32,
                "schedule": NoiseSchedule.linear().to_spec() if kind == "denoiser" else None,
                "scale": 4 if kind == "upscaler" else None,
            },
            config_yaml="{}",
            preview_png=None,
            provenance={},
            metrics={},
            registry=folder / "registry",
        )
    (folder / "bundle").mkdir()
    names = {kind: f"{kind}@1" for kind in networks}
    stage_bundle(folder / "registry", **names, defaults=ServingDefaults(), folder=folder / "bundle")
    return folder / "bundle"


def test_drawn_portraits_are_edited_by_a_folder_and_by_its_archive(
    bundle: Path, tmp_path: Path
) -> None:
    values = {
        "resolution": 32,
        "num_photos": 2,
        "num_real_photos": 3,
        "timesteps": "[40]",
        "steps": "[2]",
        "num_strips": 2,
        "device": "cpu",
    }
    result = run(configured(bundle=bundle, out_dir=tmp_path / "folder", **values))
    assert result == EvaluationResult.load(tmp_path / "folder")
    outside = [v for k, v in result.metrics.items() if k.startswith("max_difference_outside")]
    assert outside
    assert set(outside) == {0.0}
    assert result.weights == {}
    assert not any(name.startswith("inception") for name in result.metrics)
    archive = tmp_path / "archive"
    archive.mkdir()
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle)
    shutil.move(zipped, archive / "editor.mar")
    again = run(configured(bundle=archive, out_dir=tmp_path / "again", **values))
    assert again.metrics == result.metrics


def test_held_out_photos_of_shards_are_edited(bundle: Path, tmp_path: Path) -> None:
    source = SyntheticPortraits(seed=1, count=20, resolution=32)
    write_shards(
        source, out_dir=tmp_path / "shards", name="tiny", val_fraction=0.4, samples_per_shard=10
    )
    values = {
        "bundle": bundle,
        "shards": tmp_path / "shards",
        "resolution": 32,
        "num_photos": 2,
        "timesteps": "[20]",
        "steps": "[1]",
        "num_strips": 1,
        "device": "cpu",
    }
    result = run(configured(**values, out_dir=tmp_path / "out"))
    assert result.num_samples == 2
    with pytest.raises(ValueError, match="num_photos"):
        run(configured(**(values | {"num_photos": 500}), out_dir=tmp_path / "out"))


def test_inception_distances_stand_beside_the_segmenters(bundle: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({name: w.half() for name, w in random_weights().items()}, weights)
    values = {
        "bundle": bundle,
        "resolution": 32,
        "num_photos": 2,
        "num_real_photos": 2,
        "timesteps": "[20]",
        "steps": "[1]",
        "num_strips": 1,
        "device": "cpu",
        "out_dir": tmp_path / "out",
    }
    result = run(configured(**values, inception_weights=weights))
    assert EvaluationResult.load(tmp_path / "out").weights == {"inception": sha256_file(weights)}
    weights.write_bytes(b"")  # Neither weights, nor 48 MB kept for later looks.
    # Two photos are too few for a Frechet distance of 2,048 features.
    beside = {f"inception_{name}" for name in result.metrics if name.startswith("kernel_distance")}
    assert beside == {name for name in result.metrics if name.startswith("inception_")}
    assert all(result.metrics[name] != 0.0 for name in beside)
    assert beside
    header = (tmp_path / "out" / "edits.md").read_text().splitlines()[0]
    assert header.index("| kernel distance") < header.index("| Inception kernel distance")
    with pytest.raises(ValueError, match=r"weights\.pth is damaged or holds more"):
        run(configured(**values, inception_weights=weights))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no bundle"):
        run(configured(bundle=tmp_path / "nothing", out_dir=tmp_path / "out"))
