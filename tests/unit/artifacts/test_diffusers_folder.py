"""What diffusers wrote is read, what we write is loaded by diffusers, all else is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler
from diffusers.models.unets.unet_2d import UNet2DModel
from safetensors.torch import load_file, save_file

from neural_photo_editor.artifacts.diffusers_folder import (
    card_license,
    read_diffusers,
    write_diffusers,
)
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from tests.unit.artifacts.conftest import metadata

Export = Callable[..., Path]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def theirs() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


@pytest.fixture
def folder(theirs: UNet2DModel, tmp_path: Path) -> Path:
    DDPMPipeline(theirs, DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def _change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _same_outputs(ours: torch.nn.Module, theirs: UNet2DModel) -> None:
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([1, 431])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t - 1).sample, atol=1e-5, rtol=1e-5)


def test_the_layout_of_a_pipeline_is_read(folder: Path, theirs: UNet2DModel) -> None:
    model = read_diffusers(folder)
    assert model.schedule == NoiseSchedule.linear(1000)
    assert model.resolution == 16
    assert not model.network.training
    assert set(model.files) == {
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        f"unet/{WEIGHTS}",
    }
    assert model.settings["unet/config.json"]["sample_size"] == 16
    _same_outputs(model.network, theirs)


def test_the_flat_layout_of_the_first_models_is_read(theirs: UNet2DModel, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    DDIMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(tmp_path)
    model = read_diffusers(tmp_path)
    assert model.schedule == NoiseSchedule.cosine(1000)
    assert f"{WEIGHTS}" in model.files
    _same_outputs(model.network, theirs)


def test_weights_in_half_precision_become_float32(folder: Path, theirs: UNet2DModel) -> None:
    file = folder / "unet" / WEIGHTS
    save_file({key: value.half() for key, value in load_file(file).items()}, file)
    for weight in read_diffusers(folder).network.state_dict().values():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.half().float())


def test_the_digest_tells_folders_apart_by_what_was_read(folder: Path) -> None:
    digest = read_diffusers(folder).digest
    (folder / "README.md").write_text("# A model card\n")
    assert read_diffusers(folder).digest == digest
    _change(folder / "scheduler/scheduler_config.json", num_train_timesteps=999)
    assert read_diffusers(folder).digest != digest


def test_a_pickle_is_refused_with_the_remedy(theirs: UNet2DModel, tmp_path: Path) -> None:
    pipeline = DDPMPipeline(theirs, DDPMScheduler())
    pipeline.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"\.bin is a pickle.*convert it.*docs/weights\.md"):
        read_diffusers(tmp_path)


def test_a_variant_or_several_files_are_named(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(ValueError, match=r"holds .*fp16\.safetensors: save the model again in one"):
        read_diffusers(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet/config.json", "holds neither unet/config.json nor config.json"),
        ("scheduler/scheduler_config.json", "holds neither scheduler/scheduler_config.json nor"),
        (f"unet/{WEIGHTS}", f"{WEIGHTS} is missing"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=message):
        read_diffusers(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel"),
        ("unet/config.json", {"in_channels": 4, "out_channels": 4}, "in_channels = 4, photos"),
        ("unet/config.json", {"sample_size": None}, "sample_size = None does not fit"),
        ("unet/config.json", {"sample_size": [16, 32]}, r"sample_size = \[16, 32\]"),
        ("unet/config.json", {"sample_size": 15}, "15 is no multiple of 2"),
        ("unet/config.json", {"act_fn": "mish"}, "unet: UNet2DModel with act_fn"),
        ("unet/config.json", {"block_out_channels": [8, "16"]}, "unet: "),
        ("unet/config.json", {"block_out_channels": [8, 24]}, "do not belong"),
        ("scheduler/scheduler_config.json", {"thresholding": True}, "config.json: .*thresholding"),
        ("scheduler/scheduler_config.json", {"beta_start": None}, "scheduler_config.json: "),
        # CompVis/ldm-celebahq-256 holds a UNet2DModel of 3 channels, too, but of latents.
        (
            "model_index.json",
            {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]},
            "a LDMPipeline with vqvae does not fit",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    folder: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    _change(folder / name, **changes)
    with pytest.raises(ValueError, match=message):
        read_diffusers(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unet/config.json", b"{", "is not JSON"),
        ("unet/config.json", b"\xff\xfe", "is not JSON"),
        ("scheduler/scheduler_config.json", b"[]", "holds no JSON object"),
        (f"unet/{WEIGHTS}", b"not safetensors", "is damaged"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_diffusers(folder)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
def test_writing_and_reading_are_inverse(export: Export, tmp_path: Path, kind: str) -> None:
    spec = {**NoiseSchedule.linear(prediction="v").to_spec(), "kind": kind}
    if kind == "cosine":
        del spec["beta_start"], spec["beta_end"]
    artifact = load_artifact(
        export("denoiser", metadata={**metadata("denoiser"), "schedule": spec})
    )
    write_diffusers(artifact, tmp_path / "out", reference="denoiser@1")
    again = read_diffusers(tmp_path / "out")
    assert again.schedule.to_spec() == artifact.spec.schedule
    assert again.resolution == artifact.spec.resolution
    assert again.network.config == artifact.network.config
    for key, weight in artifact.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[key]), key


def test_diffusers_loads_what_is_written(export: Export, tmp_path: Path) -> None:
    artifact = load_artifact(export("denoiser"))
    write_diffusers(artifact, tmp_path / "out", reference="denoiser@1")
    unet = UNet2DModel.from_pretrained(tmp_path / "out" / "unet").eval()
    _same_outputs(artifact.network, unet)
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "out" / "scheduler")
    assert scheduler.config.num_train_timesteps == 500
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline(num_inference_steps=2).images
    assert image.size == (16, 16)
    card = (tmp_path / "out" / "README.md").read_text()
    assert artifact.digest in card
    assert "CC0-1.0" in card
    assert not list(tmp_path.glob(".diffusers-*"))


def test_what_diffusers_cannot_hold_is_refused(export: Export, tmp_path: Path) -> None:
    folded = DenoisingUNet(widths=[32], attention_levels=[], head_dim=32, stem_factor=2)
    artifact = load_artifact(export("denoiser", network=folded))
    with pytest.raises(ValueError, match="stem_factor = 2 cannot be a UNet2DModel"):
        write_diffusers(artifact, tmp_path / "out", reference="denoiser@1")
    with pytest.raises(ValueError, match="up@1 is of kind upscaler: only a denoiser"):
        write_diffusers(load_artifact(export("upscaler")), tmp_path / "out", reference="up@1")
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_left_alone(export: Export, tmp_path: Path) -> None:
    artifact = load_artifact(export("denoiser"))
    (tmp_path / "out").mkdir()
    write_diffusers(artifact, tmp_path / "out", reference="denoiser@1")  # An empty one will do.
    with pytest.raises(ValueError, match="exists and is not empty"):
        write_diffusers(artifact, tmp_path / "out", reference="denoiser@1")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="exists and is not empty"):
        write_diffusers(artifact, tmp_path / "out", reference="denoiser@1")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\ntags:\n- pytorch\nlicense: apache-2.0\n---\n# Title\n", "apache-2.0"),
        ("---\nlicense:\n---\n", None),
        ("# Title\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_license_of_a_model_card(
    card: str | None, expected: str | None, tmp_path: Path
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert card_license(tmp_path) == expected
