"""Three tiny networks in a registry."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from neural_photo_editor.artifacts.export import export_artifact
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
