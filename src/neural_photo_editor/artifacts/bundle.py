"""The serving bundle: three artifacts and the serving defaults, packed into one ``.mar``.

Unpacked, a bundle is a folder with ``bundle.json``, ``lineage.json`` and
``artifacts/{denoiser,segmenter,upscaler}``; TorchServe unpacks the ``.mar`` into such a folder,
with the handler beside it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.bundle_spec import (
    BUNDLE_NAME,
    MODEL_NAME,
    BundlePart,
    BundleSpec,
    ServingDefaults,
    check_same,
    union,
)
from neural_photo_editor.artifacts.lineage import LINEAGE_NAME, bundle_lineage
from neural_photo_editor.artifacts.load import LoadedArtifact, load_artifact
from neural_photo_editor.artifacts.names import check_name
from neural_photo_editor.artifacts.spec import KINDS, SPEC_NAME, Kind
from neural_photo_editor.common.fingerprint import canonical_json
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.diffusion.schedule import NoiseSchedule

__all__ = [
    "BundleSpec",
    "LoadedBundle",
    "ServingDefaults",
    "build_bundle",
    "load_bundle",
    "stage_bundle",
]

_log = get_logger(__name__)


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
    registry: Path | str,
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
            name=artifact.spec.name,
            version=int(source.name),
            digest=artifact.digest,
            licenses=artifact.spec.provenance.licenses,
        )
        schedule = artifact.spec.schedule or schedule
    unsigned = BundleSpec(
        parts=parts,
        schedule=schedule,
        defaults=defaults,
        licenses=union(part.licenses for part in parts.values()),
        digest="",
    )
    spec = unsigned.model_copy(update={"digest": unsigned.content_digest()})
    (folder / BUNDLE_NAME).write_bytes(canonical_json(spec.model_dump(mode="json")) + b"\n")
    spec_files = {kind: (folder / "artifacts" / kind / SPEC_NAME).read_bytes() for kind in KINDS}
    (folder / LINEAGE_NAME).write_bytes(bundle_lineage(spec, spec_files).to_bytes())
    return load_bundle(folder)


def build_bundle(
    registry: Path | str,
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
        registry: the registry's folder or address.
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
        check_same(f"kind of artifacts/{kind}", artifact.spec.kind, kind)
        check_same(f"digest of artifacts/{kind}", artifact.digest, spec.parts[kind].digest)
    spec = spec.with_licenses({kind: a.spec.provenance.licenses for kind, a in loaded.items()})
    denoiser, segmenter = loaded["denoiser"], loaded["segmenter"]
    check_same("noise schedule of the denoiser", denoiser.spec.schedule, spec.schedule)
    check_same("resolution of the segmenter", segmenter.spec.resolution, denoiser.spec.resolution)
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
    return BundleSpec.parse(path.read_bytes(), source=path)
