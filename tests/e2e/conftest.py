"""A real server with a bundle of tiny, untrained networks, made once for all end-to-end tests."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neural_photo_editor.api.key_file import changed_keys, create_key
from neural_photo_editor.api.signing import KEY_VARIABLE, key_to_text
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import KeyedGateway, route_to, running_gateway

SERVE = Path(__file__).resolve().parents[2] / "serve"
RESOLUTION = 32


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


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    registry = folder / "registry"
    torch.manual_seed(0)
    denoiser = DenoisingUNet(
        widths=(16, 32), blocks_per_level=1, attention_levels=(), head_dim=16, num_groups=8
    )
    schedule = NoiseSchedule.linear().to_spec()
    _export(denoiser, registry, kind="denoiser", resolution=RESOLUTION, schedule=schedule)
    segmenter = SegmentationUNet(widths=(8, 16), blocks_per_level=1)
    _export(segmenter, registry, kind="segmenter", resolution=RESOLUTION)
    upscaler = SRResNet(scale=4, width=8, num_blocks=1)
    _export(upscaler, registry, kind="upscaler", resolution=RESOLUTION, scale=4)
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


@pytest.fixture(scope="session")
def server(
    tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeProcess]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_VARIABLE, key_to_text(bytes(range(32))))
        with TorchServeProcess(tiny_archive, workdir=tmp_path_factory.mktemp("serve")) as process:
            yield process


@pytest.fixture(scope="session")
def keyed_gateway(
    server: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedGateway]:
    folder = tmp_path_factory.mktemp("keyed_gateway")
    key, text = create_key("tests", now=datetime.now(UTC))
    with changed_keys(folder / "keys.json") as keys:
        keys.append(key)
    with running_gateway(folder, Routes(production=(route_to(server),))) as process:
        process.wait_until_ready()
        yield KeyedGateway(process, text)
