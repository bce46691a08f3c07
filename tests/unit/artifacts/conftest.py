"""Three tiny networks in a registry, and a bundle of them."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from neural_photo_editor.artifacts.archive import publish_bundle
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.artifacts.spec import KINDS
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet


def tiny_network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module
    if kind == "denoiser":
        network = DenoisingUNet(
            widths=(8, 8), attention_levels=(), blocks_per_level=1, num_groups=4, head_dim=8
        )
    elif kind == "segmenter":
        network = SegmentationUNet(widths=(8, 8), blocks_per_level=1)
    else:
        network = SRResNet(width=8, num_blocks=1)
    for parameter in network.parameters():  # No layer left at zero: equality must mean something.
        nn.init.normal_(parameter, std=0.1)
    return network


def metadata(kind: str, *, resolution: int = 16) -> dict[str, object]:
    return {
        "kind": kind,
        "resolution": resolution,
        "schedule": NoiseSchedule.linear().to_spec() if kind == "denoiser" else None,
        "scale": 4 if kind == "upscaler" else None,
    }


def export_tiny(
    kind: str, registry: Path | str, licenses: Sequence[str] = ("CC0-1.0",), **changes: object
) -> Path:
    """Export an artifact that is called like its kind."""
    provenance = {
        "git_commit": "abc",
        "data_name": "portraits",
        "data_manifest_digest": "7" * 64,
        "licenses": list(licenses),
        "tracker_run_id": "run1",
    }
    arguments: dict[str, object] = {
        "name": kind,
        "metadata": metadata(kind),
        "config_yaml": f"kind: {kind}\n",
        "preview_png": b"\x89PNG",
        "provenance": provenance,
        "metrics": {"loss": 0.5},
        "registry": registry,
    }
    return export_artifact(tiny_network(kind), **{**arguments, **changes})  # type: ignore[arg-type]


def publish_tiny_bundle(registry: Path | str, out_dir: Path, **defaults: object) -> int:
    """Pack and publish the newest of the artifacts that `export_tiny` exports."""
    handler = out_dir / "handler.py"
    out_dir.mkdir(parents=True, exist_ok=True)
    handler.write_text("class Handler:\n    pass\n")
    archive = build_bundle(
        registry,
        denoiser="denoiser@latest",
        segmenter="segmenter@latest",
        upscaler="upscaler@latest",
        defaults=ServingDefaults.model_validate({"steps": 10, **defaults}),
        handler=handler,
        out_dir=out_dir,
    )
    return publish_bundle(registry, archive)


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with three artifacts and a bundle of them; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("published")
    for kind in KINDS:
        export_tiny(kind, folder / "registry")
    publish_tiny_bundle(folder / "registry", folder / "out")
    return folder / "registry"


@pytest.fixture
def published(published_once: Path, tmp_path: Path) -> Path:
    """The same, to be changed at will."""
    return Path(shutil.copytree(published_once, tmp_path / "published"))


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    def do(kind: str, **changes: object) -> Path:
        arguments: dict[str, object] = {
            "name": kind,
            "metadata": metadata(kind),
            "config_yaml": f"kind: {kind}\n",
            "preview_png": b"\x89PNG",
            "provenance": {"git_commit": "abc", "licenses": ["CC0-1.0"]},
            "metrics": {"loss": 0.5},
            "registry": tmp_path / "registry",
        }
        network = changes.pop("network", None) or tiny_network(kind)
        return export_artifact(network, **{**arguments, **changes})  # type: ignore[arg-type]

    return do
