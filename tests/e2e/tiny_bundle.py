"""Bundles of networks so small that a server with them starts and answers at once."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

SERVE = Path(__file__).resolve().parents[2] / "serve"


def build_tiny_bundle(folder: Path, *, resolution: int, trains_segmenter: bool = False) -> Path:
    """Return the archive of a bundle; the networks have learned nothing, but the segmenter may."""
    registry = folder / "registry"
    torch.manual_seed(0)
    denoiser = DenoisingUNet(
        widths=(16, 32), blocks_per_level=1, attention_levels=(), head_dim=16, num_groups=8
    )
    schedule = NoiseSchedule.linear().to_spec()
    _export(denoiser, registry, kind="denoiser", resolution=resolution, schedule=schedule)
    if trains_segmenter:
        segmenter = trained_segmenter(resolution)
    else:
        segmenter = SegmentationUNet(widths=(8, 16), blocks_per_level=1)
    _export(segmenter, registry, kind="segmenter", resolution=resolution)
    upscaler = SRResNet(scale=4, width=8, num_blocks=1)
    _export(upscaler, registry, kind="upscaler", resolution=resolution, scale=4)
    return build_bundle(
        registry,
        denoiser="denoiser@latest",
        segmenter="segmenter@latest",
        upscaler="upscaler@latest",
        defaults=ServingDefaults(sampler="ddim", steps=4),
        handler=SERVE / "handler.py",
        model_config=SERVE / "model-config.yaml",
        out_dir=folder / "out",
    )


def trained_segmenter(resolution: int) -> SegmentationUNet:
    """Return a network that finds hair and skin in drawn portraits; seconds at 64 pixels."""
    portraits = [generate_portrait(5, index, resolution=resolution) for index in range(12)]
    photos = torch.stack([torch.from_numpy(one.photo).permute(2, 0, 1) for one in portraits])
    photos = photos.float() / 127.5 - 1
    labels = torch.stack([torch.from_numpy(one.labels).long() for one in portraits])
    network = SegmentationUNet(widths=(8, 16, 32), blocks_per_level=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(80):
        loss = F.cross_entropy(network(photos), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def _export(network: nn.Module, registry: Path, **metadata: Any) -> None:
    export_artifact(
        network,
        name=metadata["kind"],
        metadata={"schedule": None, "scale": None, **metadata},
        config_yaml="{}\n",
        preview_png=None,
        provenance={},
        metrics={},
        registry=registry,
    )
