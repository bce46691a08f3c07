"""Reading an artifact: digests first, then the specification, then the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from neural_photo_editor.artifacts.digests import verify_sums
from neural_photo_editor.artifacts.spec import (
    CONFIG_NAME,
    PREVIEW_NAME,
    SPEC_NAME,
    WEIGHTS_NAME,
    ArtifactSpec,
)
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

NETWORKS: dict[str, type[nn.Module]] = {
    "DenoisingUNet": DenoisingUNet,
    "SegmentationUNet": SegmentationUNet,
    "SRResNet": SRResNet,
}
"""The only classes that an artifact can name."""


@dataclass(frozen=True)
class LoadedArtifact:
    """A network ready for inference.

    Attributes:
        network: on the CPU, in evaluation mode, without gradients.
        spec: what the artifact says about it.
        digest: SHA-256 that identifies the artifact's files.
    """

    network: nn.Module
    spec: ArtifactSpec
    digest: str


def build_network(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """Construct a network of the allow-list, with random weights.

    Raises:
        ValueError: the name is not on the list, or the class does not take the arguments.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; choose from {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](**kwargs)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from {dict(kwargs)}: {error}") from error


def load_artifact(folder: Path) -> LoadedArtifact:
    """Check an artifact's folder and rebuild its network; runs no code from the folder.

    Raises:
        ValueError: a file is missing, superfluous or changed, the specification is not valid or
            of another schema version, or the weights are not those of the network.
    """
    digest = verify_sums(
        folder, required=(WEIGHTS_NAME, SPEC_NAME, CONFIG_NAME), optional=(PREVIEW_NAME,)
    )
    spec_file = folder / SPEC_NAME
    spec = ArtifactSpec.parse(spec_file.read_bytes(), source=spec_file)
    network = build_network(spec.network.name, spec.network.kwargs)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS_NAME} holds no safetensors: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS_NAME} does not fit {spec_file}: {error}") from error
    return LoadedArtifact(network.eval().requires_grad_(False), spec, digest)
