"""The serving bundle: three artifacts and the serving defaults, packed into one ``.mar``.

Unpacked, a bundle is a folder with ``bundle.json`` and ``artifacts/{denoiser,segmenter,upscaler}``;
TorchServe unpacks the ``.mar`` into such a folder, with the handler beside it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.load import LoadedArtifact, load_artifact
from neural_photo_editor.artifacts.spec import (
    KINDS,
    Kind,
    check_name,
    check_schema_version,
    first_problem,
)
from neural_photo_editor.common.fingerprint import canonical_json, sha256_json
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEMA_VERSION = 1
BUNDLE_NAME = "bundle.json"
MODEL_NAME = "neural_photo_editor"

_log = get_logger(__name__)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServingDefaults(_Model):
    """What applies where a request is silent, and what no request may exceed.

    Attributes:
        sampler: reverse process.
        steps: network evaluations of an edit, where its timestep allows as many.
        strength: 0 keeps the painted photo, 1 draws anew; 0.37 is t = 200 of the default schedule.
        feather_px: width of the soft edge inside the mask, in pixels of the photo.
        face_center_x, face_center_y, face_height: where the denoiser's training portraits show
            the face, brows to chin, as shares of the side; here the drawn portraits', while
            CelebAMask-HQ's are 0.50, 0.66 and 0.54.
        max_bytes: largest upload, in bytes; a whole request may have 32 MiB.
        max_pixels: largest photo, width times height.
    """

    sampler: Literal["ddpm", "ddim", "dpmpp_2m"] = "ddim"
    steps: int = Field(default=50, ge=1)
    strength: float = Field(default=0.37, ge=0.0, le=1.0)
    feather_px: int = Field(default=4, ge=0)
    face_center_x: float = Field(default=0.50, gt=0.0, lt=1.0)
    face_center_y: float = Field(default=0.65, gt=0.0, lt=1.0)
    face_height: float = Field(default=0.49, gt=0.0, lt=1.0)
    max_bytes: int = Field(default=31 * 2**20, gt=0)
    max_pixels: int = Field(default=6000 * 6000, gt=0)


class BundlePart(_Model):
    """One artifact in a bundle."""

    name: str
    version: int = Field(gt=0)
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class BundleSpec(_Model):
    """Content of ``bundle.json``.

    Attributes:
        schema_version: of this format.
        parts: the artifact of each kind.
        schedule: the denoiser's noise schedule, which the edit uses.
        defaults: serving defaults.
        digest: SHA-256 of the canonical JSON of all other fields; identifies the bundle.
    """

    schema_version: int = SCHEMA_VERSION
    parts: dict[Kind, BundlePart]
    schedule: dict[str, Any]
    defaults: ServingDefaults
    digest: str

    def content_digest(self) -> str:
        return sha256_json(self.model_dump(mode="json", exclude={"digest"}))


@dataclass(frozen=True)
class LoadedBundle:
    """Three networks ready for inference, with what they need."""

    denoiser: LoadedArtifact
    segmenter: LoadedArtifact
    upscaler: LoadedArtifact
    schedule: NoiseSchedule
    defaults: ServingDefaults
    digest: str
    spec: BundleSpec


def stage_bundle(
    registry: Path,
    *,
    denoiser: str,
    segmenter: str,
    upscaler: str,
    defaults: ServingDefaults,
    folder: Path,
) -> LoadedBundle:
    """Lay out a bundle in an empty folder and check it by loading it.

    Raises:
        ValueError: a reference that does not exist, or parts that do not fit together.
    """
    references: dict[Kind, str] = {
        "denoiser": denoiser,
        "segmenter": segmenter,
        "upscaler": upscaler,
    }
    parts: dict[Kind, BundlePart] = {}
    schedule: dict[str, Any] = {}
    for kind, reference in references.items():
        source = registries.resolve(registry, reference)
        artifact = load_artifact(source)
        shutil.copytree(source, folder / "artifacts" / kind)
        parts[kind] = BundlePart(
            name=artifact.spec.name, version=int(source.name), digest=artifact.digest
        )
        schedule = artifact.spec.schedule or schedule
    unsigned = BundleSpec(parts=parts, schedule=schedule, defaults=defaults, digest="")
    spec = unsigned.model_copy(update={"digest": unsigned.content_digest()})
    (folder / BUNDLE_NAME).write_bytes(canonical_json(spec.model_dump(mode="json")) + b"\n")
    return load_bundle(folder)


def build_bundle(
    registry: Path,
    *,
    denoiser: str,
    segmenter: str,
    upscaler: str,
    defaults: ServingDefaults,
    handler: Path,
    out_dir: Path,
    model_config: Path | None = None,
    model_name: str = MODEL_NAME,
    version: str = "1.0",
) -> Path:
    """Pack three artifacts and the handler with torch-model-archiver.

    Args:
        registry: the registry's folder.
        denoiser, segmenter, upscaler: references such as ``ddpm@latest``.
        defaults: serving defaults.
        handler: TorchServe handler, a Python file.
        out_dir: receives ``MODEL_NAME.mar``; an older one is replaced at once.
        model_config: TorchServe's model configuration, a yaml file.
        model_name: name under which the server offers the bundle.
        version: the server's version of it.

    Returns:
        Path of the ``.mar``.

    Raises:
        ValueError: a reference that does not exist, parts that do not fit together, or the
            handler is missing.
        RuntimeError: the archiver failed; with what it said.
    """
    check_name(model_name)
    for file in (handler, model_config):
        if file is not None and not file.is_file():
            raise ValueError(f"{file} is missing: name the file of the repository's serve folder")
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=out_dir) as scratch:
        content, temporary, packed = (Path(scratch, part) for part in ("content", "tmp", "out"))
        for folder in (content, temporary, packed):
            folder.mkdir()
        bundle = stage_bundle(
            registry,
            denoiser=denoiser,
            segmenter=segmenter,
            upscaler=upscaler,
            defaults=defaults,
            folder=content,
        )
        arguments = [sys.executable, "-m", "model_archiver.model_packaging"]
        arguments += ["--model-name", model_name, "--version", version]
        arguments += ["--handler", str(handler), "--extra-files", str(content)]
        # Weights hardly compress.
        arguments += ["--archive-format", "zip-store", "--export-path", str(packed)]
        if model_config is not None:
            arguments += ["--config-file", str(model_config)]
        # The archiver works in TMPDIR/MODEL_NAME, which two of them would share.
        done = subprocess.run(
            arguments,
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"torch-model-archiver failed: {done.stderr.strip()[-2000:]}")
        archive = out_dir / f"{model_name}.mar"
        (packed / archive.name).replace(archive)
    _log.info("bundled %s into %s", bundle.digest[:12], archive)
    return archive


def load_bundle(folder: Path) -> LoadedBundle:
    """Check an unpacked bundle and rebuild its three networks.

    Args:
        folder: holds ``bundle.json`` and ``artifacts/``; other files, such as the handler, are
            left alone.

    Raises:
        ValueError: something is missing, changed or of another schema version, or parts disagree;
            the message names both values.
    """
    spec = _read_spec(folder / BUNDLE_NAME)
    found = sorted(path.name for path in (folder / "artifacts").glob("*"))
    if found != sorted(KINDS):
        raise ValueError(f"{folder / 'artifacts'} holds {found}, expected {sorted(KINDS)}")
    loaded = {kind: load_artifact(folder / "artifacts" / kind) for kind in KINDS}
    for kind, artifact in loaded.items():
        _check_same(f"kind of artifacts/{kind}", artifact.spec.kind, kind)
        _check_same(f"digest of artifacts/{kind}", artifact.digest, spec.parts[kind].digest)
    denoiser, segmenter = loaded["denoiser"], loaded["segmenter"]
    _check_same("noise schedule of the denoiser", denoiser.spec.schedule, spec.schedule)
    _check_same("resolution of the segmenter", segmenter.spec.resolution, denoiser.spec.resolution)
    schedule = NoiseSchedule.from_spec(spec.schedule)
    if spec.defaults.steps > schedule.num_timesteps:
        raise ValueError(
            f"default of {spec.defaults.steps} steps, but the noise schedule has "
            f"{schedule.num_timesteps}: choose fewer steps"
        )
    return LoadedBundle(
        denoiser=denoiser,
        segmenter=segmenter,
        upscaler=loaded["upscaler"],
        schedule=schedule,
        defaults=spec.defaults,
        digest=spec.digest,
        spec=spec,
    )


def _read_spec(path: Path) -> BundleSpec:
    if not path.is_file():
        raise ValueError(f"{path} is missing: this folder is no unpacked bundle")
    content = path.read_bytes()
    check_schema_version(content, supported=SCHEMA_VERSION, source=path)
    try:
        spec = BundleSpec.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{path} is not valid: {first_problem(error)}") from error
    # Of what is written: a bundle made before a default existed lacks it, and is none the worse.
    written = json.loads(content)
    del written["digest"]
    _check_same(f"digest of {path}", spec.digest, sha256_json(written))
    _check_same(f"parts of {path}", sorted(spec.parts), sorted(KINDS))
    return spec


def _check_same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"the {what} is {found}, but the rest of the bundle says {expected}")
