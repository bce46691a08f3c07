"""Arrow: a folder of diffusers -> artifact -> bundle -> edit, and an artifact -> such a folder.

The commands and programs are those of docs/weights.md, on tiny models that diffusers made.
"""

import re
import runpy
import shlex
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler
from diffusers.models.unets.unet_2d import UNet2DModel
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.diffusion.scheduler_config import (
    from_scheduler_config,
    to_scheduler_config,
)
from neural_photo_editor.editing.pipeline import EditPipeline
from pipelines.chain import compose
from pipelines.export_diffusers import export_diffusers
from pipelines.import_diffusers import import_diffusers
from tests.unit.artifacts.conftest import metadata, tiny_network

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = (REPOSITORY / "docs" / "weights.md").read_text()
RESOLUTION = 32
CONFIGURED_ONLY = {"train", "evaluate_edits"}
"""Checked as configurations: the segmenter is there already, weights of Inception are not."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``python SCRIPT OVERRIDES...`` in this process."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", arguments[1:])
    runpy.run_path(str(REPOSITORY / arguments[1]), run_name="__main__")


def published(resolution: int = RESOLUTION) -> DDPMPipeline:
    """A narrow google/ddpm-celebahq-256 of three levels."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=resolution,
        block_out_channels=(32, 32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        norm_eps=1e-6,
        attention_head_dim=None,
    )
    return DDPMPipeline(unet.eval(), DDPMScheduler())


def export_tiny(kind: str, name: str, registry: Path) -> None:
    export_artifact(
        tiny_network(kind),
        name=name,
        metadata=metadata(kind, resolution=RESOLUTION),
        config_yaml="{}\n",
        preview_png=None,
        provenance={"licenses": ["CC0-1.0"]},
        metrics={},
        registry=registry,
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command and program of the document has run, in order."""
    folder = tmp_path_factory.mktemp("weights")
    published().save_pretrained(folder / "ddpm-celebahq-256")
    published().save_pretrained(folder / "ddpm-with-bin", safe_serialization=False)
    registry = folder / "outputs" / "registry"
    for kind, name in (
        ("denoiser", "ddpm_128"),
        ("segmenter", "segmenter_256"),
        ("upscaler", "srgan_x4"),
    ):
        export_tiny(kind, name, registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, block in re.findall(r"```(bash|python)\n(.*?)```", DOCUMENT, re.DOTALL):
            if language == "python":
                exec(block, {})
                continue
            for line in block.splitlines():
                if not CONFIGURED_ONLY & {Path(word).stem for word in line.split()}:
                    run(shlex.split(line), patch)
    return folder


def test_the_document_shows_import_training_bundle_and_export() -> None:
    scripts = [Path(arguments[1]).stem for arguments in commands()]
    assert set(scripts) == {"import_diffusers", "bundle", "export_diffusers"} | CONFIGURED_ONLY
    assert len(blocks("python")) == 2
    for arguments in commands():
        cfg = compose(Path(arguments[1]).stem, arguments[2:])
        assert not OmegaConf.missing_keys(cfg)


@pytest.mark.parametrize("file", sorted((REPOSITORY / "conf" / "schedule").glob("*.yaml")))
def test_every_schedule_of_the_configuration_trains_and_exports(file: Path) -> None:
    overrides = ["experiment=ddpm_128", "data.shards=here", f"schedule={file.stem}"]
    schedule = instantiate(compose("train", overrides).module.schedule)
    assert isinstance(schedule, NoiseSchedule)
    assert f"_{schedule.num_timesteps}" in file.stem
    assert from_scheduler_config(to_scheduler_config(schedule)) == schedule


def test_the_artifact_says_where_it_comes_from(workplace: Path) -> None:
    folder = resolve(workplace / "outputs/registry", "ddpm_celebahq@latest")
    spec = load_artifact(folder).spec
    assert spec.provenance.licenses == ("apache-2.0",)
    assert spec.schedule == NoiseSchedule.linear(1000).to_spec()
    assert spec.resolution == RESOLUTION
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["imported"]["settings"]["unet/config.json"]["sample_size"] == RESOLUTION
    assert len(config["imported"]["files"]) == 4
    with Image.open(folder / "preview.png") as preview:
        assert preview.size == (4 * RESOLUTION + 3 * 4, RESOLUTION)
    # What was a pickle before has other files, but the same weights.
    converted = resolve(workplace / "outputs/registry", "ddpm_converted@latest")
    digest = load_artifact(converted).spec.provenance.source_digest
    assert digest is not None
    assert spec.provenance.source_digest is not None
    assert len(spec.provenance.source_digest) == len(digest) == 64
    weights = "model.safetensors"
    assert (converted / weights).read_bytes() == (folder / weights).read_bytes()


def test_the_artifact_computes_what_diffusers_computes(workplace: Path) -> None:
    artifact = load_artifact(resolve(workplace / "outputs/registry", "ddpm_celebahq@1"))
    x, t = torch.randn(2, 3, RESOLUTION, RESOLUTION), torch.tensor([1, 1000])
    with torch.no_grad():
        expected = published().unet(x, t - 1).sample
        torch.testing.assert_close(artifact.network(x, t), expected, atol=1e-5, rtol=1e-5)


def test_a_bundle_of_it_edits_at_any_of_its_1000_timesteps(workplace: Path) -> None:
    bundle = workplace / "unpacked"
    with zipfile.ZipFile(workplace / "outputs/bundle/neural_photo_editor.mar") as archive:
        archive.extractall(bundle)
    photo = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    mask = np.zeros((48, 40), dtype=np.uint8)
    mask[10:30, 8:30] = 255
    shared = {"photo": encode_png(photo), "mask": encode_png(mask), "color": "#306090", "steps": 3}
    requests = [
        EditRequest(**shared, seed=5, strength=0.6),
        EditRequest(**shared, seed=5, timestep=1000),
        EditRequest(**shared, seed=5, timestep=1001),
    ]
    weaker, strongest, beyond = EditPipeline.from_bundle(bundle).run(requests)
    assert not isinstance(weaker, RequestError)
    assert not isinstance(strongest, RequestError)
    assert weaker.image != strongest.image
    assert isinstance(beyond, RequestError)
    assert "1000" in str(beyond)


def test_a_license_is_required_and_the_model_card_helps(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"folder={workplace / 'ddpm-converted'}", "name=x", f"registry={tmp_path / 'r'}"]
    with pytest.raises(ValueError, match=r"license=\.\.\. is missing.*card names none"):
        import_diffusers(compose("import_diffusers", overrides))
    card = tmp_path / "card"
    card.mkdir()
    (card / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with pytest.raises(ValueError, match="card says apache-2"):
        import_diffusers(compose("import_diffusers", [f"folder={card}", "name=x"]))
    with pytest.raises(SystemExit, match=r"import_diffusers: 'a/b' cannot name an artifact"):
        run(
            ["python", "pipelines/import_diffusers.py", *overrides, "name=a/b", "license=mit"],
            monkeypatch,
        )
    assert not (tmp_path / "r").exists()


def test_the_preview_can_be_left_out(workplace: Path, tmp_path: Path) -> None:
    overrides = [f"folder={workplace / 'ddpm-celebahq-256'}", "name=x", "license=mit"]
    overrides += [f"registry={tmp_path}", "preview_images=0"]
    folder = resolve(tmp_path, import_diffusers(compose("import_diffusers", overrides)))
    assert not (folder / "preview.png").exists()


def test_export_refuses_what_is_no_denoiser(workplace: Path) -> None:
    registry = f"registry={workplace / 'outputs/registry'}"
    overrides = ["artifact=srgan_x4@latest", f"folder={workplace / 'no'}", registry]
    with pytest.raises(ValueError, match="srgan_x4@1 is of kind upscaler"):
        export_diffusers(compose("export_diffusers", overrides))
