"""A denoiser as a folder of diffusers: reading published pixel-space DDPMs, and writing ours.

Two layouts are read: that of `DiffusionPipeline.save_pretrained`, which is also written
(``model_index.json``, ``unet/``, ``scheduler/``), and the flat one of the first published models
(``config.json``, weights and ``scheduler_config.json`` side by side). Nothing is unpickled.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from neural_photo_editor.artifacts.load import LoadedArtifact
from neural_photo_editor.common.fingerprint import sha256_file, sha256_json
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.diffusion.scheduler_config import (
    from_scheduler_config,
    to_scheduler_config,
)
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.diffusers_weights import (
    load_unet2d,
    unet2d_config,
    unet2d_weights,
)

INDEX_NAME = "model_index.json"
UNET_NAME = "config.json"
SCHEDULER_NAME = "scheduler_config.json"
WEIGHTS_STEM = "diffusion_pytorch_model"
WEIGHTS_NAME = f"{WEIGHTS_STEM}.safetensors"
CARD_NAME = "README.md"

DIFFUSERS_VERSION = "0.36.0"
"""Whose settings are written; newer ones have read them since."""

_INDEX = {
    "_class_name": "DDPMPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}


@dataclass(frozen=True)
class DiffusersModel:
    """A denoiser read from a folder of diffusers.

    Attributes:
        network: on the CPU, in float32 and evaluation mode, without gradients.
        schedule: the noise schedule it was trained with.
        resolution: side of its images in pixels.
        files: path in the folder -> SHA-256 of the files it was read from.
        settings: their JSON content, by path.
    """

    network: DenoisingUNet
    schedule: NoiseSchedule
    resolution: int
    files: dict[str, str]
    settings: dict[str, dict[str, Any]]

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the files."""
        return sha256_json(self.files)


def read_diffusers(folder: Path) -> DiffusersModel:
    """Read a UNet2DModel and its scheduler.

    Raises:
        ValueError: a file is missing or not readable without running code, or the model uses a
            feature that the denoiser or the editor does not have; names it.
    """
    unet, scheduler = _locate(folder)
    files = [unet / UNET_NAME, scheduler / SCHEDULER_NAME]
    if (folder / INDEX_NAME).is_file():
        files.append(folder / INDEX_NAME)
    content = {file: _read_json(file) for file in files}
    _check_index(folder / INDEX_NAME, content.get(folder / INDEX_NAME, _INDEX))
    config = content[files[0]]
    resolution = _resolution(config, source=files[0])
    try:
        schedule = from_scheduler_config(content[files[1]])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{files[1]}: {error}") from error
    weights = _weights_file(unet)
    try:
        network = load_unet2d(load_file(weights), unet2d_config=config)
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged: copy it again ({error})") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{unet}: {error}") from error
    if resolution % network.image_multiple:
        raise ValueError(
            f"{files[0]}: sample_size = {resolution} is no multiple of {network.image_multiple}, "
            "as the number of levels demands"
        )
    return DiffusersModel(
        network=network.eval().requires_grad_(False),
        schedule=schedule,
        resolution=resolution,
        files={_path_in(folder, file): sha256_file(file) for file in (*files, weights)},
        settings={_path_in(folder, file): value for file, value in content.items()},
    )


def write_diffusers(artifact: LoadedArtifact, folder: Path, *, reference: str) -> None:
    """Write a denoiser so that ``DDPMPipeline.from_pretrained(folder)`` loads it.

    The folder appears whole or not at all. :func:`read_diffusers` is the inverse.

    Args:
        artifact: of kind "denoiser".
        folder: new folder, or an empty one.
        reference: of the artifact, such as ``ddpm_128@3``, for the model card.

    Raises:
        ValueError: no denoiser, one with a feature that UNet2DModel lacks, or the folder is used.
    """
    spec = artifact.spec
    if not isinstance(artifact.network, DenoisingUNet) or spec.schedule is None:
        raise ValueError(f"{reference} is of kind {spec.kind}: only a denoiser is a UNet2DModel")
    unet = unet2d_config(artifact.network.config, sample_size=spec.resolution)
    scheduler = to_scheduler_config(NoiseSchedule.from_spec(spec.schedule))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".diffusers-", dir=folder.parent))
    try:
        staged.chmod(0o755)
        (staged / "unet").mkdir()
        (staged / "scheduler").mkdir()
        _write_json(staged / INDEX_NAME, _INDEX)
        _write_json(staged / "unet" / UNET_NAME, unet)
        _write_json(staged / "scheduler" / SCHEDULER_NAME, scheduler)
        weights = unet2d_weights(artifact.network)
        save_file(weights, staged / "unet" / WEIGHTS_NAME, metadata={"format": "pt"})
        (staged / CARD_NAME).write_text(_model_card(artifact, reference))
        staged.replace(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def card_license(folder: Path) -> str | None:
    """Return the license that the model card's header names, as it is written there."""
    card = folder / CARD_NAME
    lines = card.read_text(errors="replace").splitlines() if card.is_file() else []
    header = lines[1 : lines.index("---", 1)] if "---" in lines[1:] and lines[0] == "---" else []
    for line in header:
        if line.startswith("license:"):
            return line.removeprefix("license:").strip() or None
    return None


def _locate(folder: Path) -> tuple[Path, Path]:
    """Return the folders of the U-Net and of the scheduler."""
    unet = folder / "unet" if (folder / "unet" / UNET_NAME).is_file() else folder
    scheduler = folder / "scheduler"
    scheduler = scheduler if (scheduler / SCHEDULER_NAME).is_file() else folder
    for file, beside in ((unet / UNET_NAME, "unet"), (scheduler / SCHEDULER_NAME, "scheduler")):
        if not file.is_file():
            raise ValueError(
                f"{folder} holds neither {beside}/{file.name} nor {file.name}: name a folder as "
                "DDPMPipeline.save_pretrained writes it"
            )
    return unet, scheduler


def _weights_file(unet: Path) -> Path:
    file = unet / WEIGHTS_NAME
    if file.is_file():
        return file
    if (unet / f"{WEIGHTS_STEM}.bin").is_file():
        raise ValueError(
            f"{unet / WEIGHTS_STEM}.bin is a pickle, and reading one can run code: convert it to "
            f"{WEIGHTS_NAME} with diffusers in a sandbox (docs/weights.md shows how)"
        )
    found = sorted(path.name for path in unet.iterdir())
    raise ValueError(
        f"{file} is missing; the folder holds {', '.join(found)}: save the model again in one "
        "file, as safetensors and without a variant"
    )


def _check_index(file: Path, index: dict[str, Any]) -> None:
    components = {name for name, value in index.items() if name[0] != "_" and value is not None}
    if more := sorted(components - {"unet", "scheduler"}):
        raise ValueError(
            f"{file}: a {index.get('_class_name')} with {', '.join(more)} does not fit: only "
            "a denoiser of pixels, made of unet and scheduler, does"
        )


def _resolution(config: dict[str, Any], *, source: Path) -> int:
    model = config.get("_class_name", "UNet2DModel")
    if model != "UNet2DModel":
        raise ValueError(f"{source}: a {model} does not fit, only a UNet2DModel does")
    if config.get("in_channels", 3) != 3:
        raise ValueError(f"{source}: in_channels = {config['in_channels']}, photos have 3")
    size = config.get("sample_size")
    sides = set(size) if isinstance(size, list) else {size}
    side = sides.pop()
    if sides or not isinstance(side, int) or side < 1:
        raise ValueError(
            f"{source}: sample_size = {size} does not fit: write the side, in pixels, of the "
            "square photos it was trained on"
        )
    return side


def _model_card(artifact: LoadedArtifact, reference: str) -> str:
    spec = artifact.spec
    licenses = ", ".join(spec.provenance.licenses) or "not recorded"
    return (
        "---\nlibrary_name: diffusers\n---\n"
        f"# {spec.name}\n\n"
        f"Denoiser of photos of {spec.resolution} x {spec.resolution} pixels, "
        f"`{reference}` of the Neural Photo Editor.\n\n"
        f"* Artifact: `{artifact.digest}`\n"
        f"* Licenses of what it was made of: {licenses}\n"
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: copy it again ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object: copy it again")
    return content


def _write_json(file: Path, content: dict[str, Any]) -> None:
    content = {"_diffusers_version": DIFFUSERS_VERSION, **content}
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _path_in(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()
