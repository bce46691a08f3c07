"""What a version in the registry is and where it comes from, in lines to read. Needs no torch."""

from pathlib import Path

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.archive import archive_digest, read_bundle
from neural_photo_editor.artifacts.bundle_spec import BUNDLE_NAME
from neural_photo_editor.artifacts.digests import SUMS_NAME
from neural_photo_editor.artifacts.lineage import ArtifactLineage, artifact_tree, bundle_tree
from neural_photo_editor.artifacts.spec import SPEC_NAME
from neural_photo_editor.common.fingerprint import sha256_bytes


def read_artifact(registry: Path | str, reference: str) -> ArtifactLineage:
    """Return what an artifact is and where it comes from; reads small files only.

    Raises:
        ValueError: the reference does not exist or is no artifact, or a file is damaged.
    """
    name, version = registries.find_version(registry, reference)
    files = registries.read_files(registry, name, version, SPEC_NAME, SUMS_NAME)
    source = f"{registry}/{name}/versions/{version}"
    if SPEC_NAME not in files:
        raise ValueError(f"{source} is no artifact: it has no {SPEC_NAME}")
    return ArtifactLineage.of(
        files[SPEC_NAME],
        version=version,
        digest=sha256_bytes(files[SUMS_NAME]),
        source=f"{source}/{SPEC_NAME}",
    )


def is_bundle(registry: Path | str, name: str, version: int) -> bool:
    """Return whether a version is a bundle; otherwise it is an artifact."""
    return BUNDLE_NAME in registries.read_files(registry, name, version, BUNDLE_NAME)


def describe_version(registry: Path | str, reference: str) -> list[str]:
    """Return a version's lineage as a tree, with its licenses, its metrics or serving defaults.

    Raises:
        ValueError: the reference does not exist, or a file is damaged.
    """
    name, version = registries.find_version(registry, reference)
    aliases = registries.list_aliases(registry, name)
    named = ", ".join(alias for alias, target in aliases.items() if target == version)
    title = f"{name}@{version}" + (f" ({named})" if named else "")
    if not is_bundle(registry, name, version):
        artifact = read_artifact(registry, f"{name}@{version}")
        metrics = ", ".join(f"{key} {value:.6g}" for key, value in artifact.metrics.items())
        return [
            f"{title}: {artifact.kind}  {artifact.digest}",
            f"metrics: {metrics or 'none'}",
            *artifact_tree(artifact),
        ]
    bundle, lineage = read_bundle(registry, f"{name}@{version}")
    defaults = bundle.defaults
    return [
        f"{title}: bundle  {bundle.digest}",
        f"archive: sha256:{archive_digest(registry, name, version)}",
        f"licenses: {', '.join(bundle.licenses) or 'not recorded'}",
        f"defaults: {defaults.sampler}, {defaults.steps} steps, strength {defaults.strength}",
        *bundle_tree(lineage),
    ]
