"""A trained network to be judged, from a training run or from an artifact."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from neural_photo_editor.artifacts.load import build_network, load_artifact
from neural_photo_editor.common.fingerprint import sha256_bytes
from neural_photo_editor.training.checkpoint import network_weights, read_checkpoint


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with what an artifact says about it.

    Attributes:
        network: on the CPU, in evaluation mode, without gradients.
        metadata: ``kind``, ``resolution``, ``schedule`` and ``scale``, see `artifacts.spec`.
    """

    network: nn.Module
    metadata: dict[str, Any]

    def sha256(self) -> str:
        """Return the digest of the weights, that of an artifact's ``model.safetensors``."""
        weights = {k: v.cpu().contiguous() for k, v in self.network.state_dict().items()}
        return sha256_bytes(save(weights))


def from_checkpoint(checkpoint: Path) -> TrainedNetwork:
    """Rebuild the network of a run with its averaged weights (raw ones if it kept no average).

    Raises:
        ValueError: the checkpoint is absent or was not written by this project's training.
    """
    content = read_checkpoint(checkpoint)
    if "network" not in content or "artifact_metadata" not in content:
        raise ValueError(f"{checkpoint} does not say which network it holds: train it again")
    network = build_network(content["network"]["name"], content["network"]["config"])
    network.load_state_dict(network_weights(content))
    return TrainedNetwork(network.eval().requires_grad_(False), dict(content["artifact_metadata"]))


def from_artifact(folder: Path) -> TrainedNetwork:
    """Load an artifact, see `artifacts.load.load_artifact`."""
    artifact = load_artifact(folder)
    fields = {"kind", "resolution", "schedule", "scale"}
    return TrainedNetwork(artifact.network, artifact.spec.model_dump(include=fields))
