"""Where a bundle comes from: data -> training run -> artifact -> bundle. Needs no torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from neural_photo_editor.artifacts.bundle_spec import BundleSpec, check_same
from neural_photo_editor.artifacts.names import check_schema_version, first_problem
from neural_photo_editor.artifacts.spec import Kind, Provenance
from neural_photo_editor.common.fingerprint import canonical_json

LINEAGE_NAME = "lineage.json"
SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArtifactLineage(_Model):
    """Where one artifact comes from.

    Attributes:
        name: in the registry.
        kind: what the network does.
        version: in the registry.
        digest: of the artifact.
        metrics: name -> value, from its evaluation.
        provenance: the data, its licenses and the training run.
    """

    name: str
    kind: Kind
    version: int
    digest: str
    metrics: dict[str, FiniteFloat]
    provenance: Provenance

    @staticmethod
    def of(spec_json: bytes, *, version: int, digest: str, source: str | Path) -> "ArtifactLineage":
        """Take from the bytes of a ``spec.json``, of any schema version, what concerns the origin.

        Raises:
            ValueError: not a specification; names the file and the field.
        """
        try:
            found = _Described.model_validate_json(spec_json)
        except ValidationError as error:
            raise ValueError(f"{source} is not valid: {first_problem(error)}") from error
        return ArtifactLineage(version=version, digest=digest, **dict(found))


class Lineage(_Model):
    """Content of ``lineage.json``.

    Attributes:
        bundle_digest: of the bundle, as its responses name it.
        parts: where each part comes from.
    """

    schema_version: int = SCHEMA_VERSION
    bundle_digest: str
    parts: dict[Kind, ArtifactLineage]

    def licenses(self) -> dict[Kind, tuple[str, ...]]:
        """Return the licenses of each part."""
        return {kind: part.provenance.licenses for kind, part in self.parts.items()}

    def to_bytes(self) -> bytes:
        """Return the file's content; equal lineages give equal bytes."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"

    @staticmethod
    def parse(content: bytes, *, bundle: BundleSpec, source: str | Path) -> "Lineage":
        """Validate the bytes of a ``lineage.json`` and compare it with its bundle.

        Raises:
            ValueError: not valid, or of another bundle; names the file and the values.
        """
        check_schema_version(content, supported=SCHEMA_VERSION, source=source)
        try:
            lineage = Lineage.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"{source} is not valid: {first_problem(error)}") from error
        check_same(f"bundle of {source}", lineage.bundle_digest, bundle.digest)
        digests = {kind: part.digest for kind, part in lineage.parts.items()}
        expected = {kind: part.digest for kind, part in bundle.parts.items()}
        check_same(f"parts of {source}", digests, expected)
        return lineage


def bundle_lineage(bundle: BundleSpec, spec_files: Mapping[Kind, bytes]) -> Lineage:
    """Return the lineage of a bundle.

    Args:
        spec_files: the bytes of each part's ``spec.json``.

    Raises:
        ValueError: one is not a specification.
    """
    parts = {
        kind: ArtifactLineage.of(
            spec_files[kind],
            version=part.version,
            digest=part.digest,
            source=f"artifacts/{kind}/spec.json",
        )
        for kind, part in sorted(bundle.parts.items())
    }
    return Lineage(bundle_digest=bundle.digest, parts=parts)


def bundle_tree(lineage: Lineage) -> list[str]:
    """Return the lines below a bundle's, from its parts to the data of each."""
    lines = []
    for number, (kind, part) in enumerate(lineage.parts.items(), start=1):
        last = number == len(lineage.parts)
        lines.append(f"{'└─' if last else '├─'} {kind}: {part.name}@{part.version}  {part.digest}")
        lines += [f"{'   ' if last else '│  '}{line}" for line in artifact_tree(part)]
    return lines


def artifact_tree(artifact: ArtifactLineage) -> list[str]:
    """Return the lines below an artifact's: the training run, and below it the data."""
    made = artifact.provenance
    licenses = ", ".join(made.licenses) or "not recorded"
    if made.source_digest:
        return [f"└─ imported weights  {made.source_digest}", f"   └─ licenses: {licenses}"]
    run = [f"commit {made.git_commit or 'not recorded'}", f"configuration {made.config_digest}"]
    if made.tracker_run_id:
        run.append(f"tracker run {made.tracker_run_id}")
    data = f"data: {made.data_name or 'name not recorded'}"
    manifest = made.data_manifest_digest or "manifest not recorded"
    return [
        *_branch("training run", run),
        f"   └─ {data}  {manifest}",
        f"      └─ licenses: {licenses}",
    ]


def _branch(title: str, lines: list[str]) -> Iterator[str]:
    yield f"└─ {title}"
    yield from (f"   ├─ {line}" for line in lines)


class _Described(BaseModel):
    name: str
    kind: Kind
    metrics: dict[str, FiniteFloat] = {}
    provenance: Provenance
