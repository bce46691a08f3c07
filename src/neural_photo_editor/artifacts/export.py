"""Writing a trained network into the registry."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.names import first_problem
from neural_photo_editor.artifacts.registry import publish, resolve, staging_folder
from neural_photo_editor.artifacts.spec import (
    CONFIG_NAME,
    PREVIEW_NAME,
    SPEC_NAME,
    WEIGHTS_NAME,
    ArtifactSpec,
)
from neural_photo_editor.common.fingerprint import canonical_json, sha256_bytes
from neural_photo_editor.common.log import get_logger

_log = get_logger(__name__)


def export_artifact(
    network: nn.Module,
    *,
    name: str,
    metadata: Mapping[str, Any],
    config_yaml: str,
    preview_png: bytes | None,
    provenance: Mapping[str, Any],
    metrics: Mapping[str, float],
    registry: Path | str,
) -> Path:
    """Write weights, specification and digests as the next version of an artifact.

    Args:
        network: with its JSON-able constructor arguments in ``config``.
        name: name in the registry.
        metadata: ``kind``, ``resolution``, ``schedule`` and ``scale``, see `spec.ArtifactSpec`.
        config_yaml: the resolved configuration of the training run, or of what was imported.
        preview_png: a picture of what the network does.
        provenance: the fields of `spec.Provenance` but for ``config_digest``.
        metrics: from the evaluation.
        registry: the registry's folder or address.

    Returns:
        The version's local folder, see `registry.resolve`; it is called like the version.

    Raises:
        ValueError: metadata that no artifact can have; names the field.
    """
    try:
        spec = ArtifactSpec.model_validate(
            {
                "name": name,
                "network": {"name": type(network).__name__, "kwargs": network.config},
                "metrics": dict(metrics),
                "provenance": {
                    "config_digest": sha256_bytes(config_yaml.encode()),
                    **provenance,
                },
                **metadata,
            }
        )
    except ValidationError as error:
        raise ValueError(f"cannot export {name!r}: {first_problem(error)}") from error
    # Copies, so that tied or strided tensors are stored whole and in their usual order.
    weights = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    staged = staging_folder(registry)
    try:
        save_file(weights, staged / WEIGHTS_NAME)
        (staged / SPEC_NAME).write_bytes(canonical_json(spec.model_dump(mode="json")) + b"\n")
        (staged / CONFIG_NAME).write_text(config_yaml)
        if preview_png is not None:
            (staged / PREVIEW_NAME).write_bytes(preview_png)
        write_sums(staged)
        version = publish(registry, name, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    _log.info("exported %s@%d to %s", name, version, registry)
    return resolve(registry, f"{name}@{version}")
