"""What ``spec.json`` of an artifact says about the weights beside it."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from neural_photo_editor.common.regions import REGION_MAP
from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEMA_VERSION = 2
"""Version 2 added `Provenance.source_digest` and other noise schedules than the linear one."""

OLDEST_SCHEMA_VERSION = 1
"""Every specification of version 1 is one of version 2 as well."""

VALUE_RANGE = (-1.0, 1.0)
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

Kind = Literal["denoiser", "segmenter", "upscaler"]
KINDS: tuple[Kind, ...] = ("denoiser", "segmenter", "upscaler")
NetworkName = Literal["DenoisingUNet", "SegmentationUNet", "SRResNet"]
NETWORK_OF_KIND: dict[Kind, NetworkName] = {
    "denoiser": "DenoisingUNet",
    "segmenter": "SegmentationUNet",
    "upscaler": "SRResNet",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSpec(_Model):
    """A network class of the allow-list and the arguments that rebuild it."""

    name: NetworkName
    kwargs: dict[str, Any]


class Provenance(_Model):
    """Where the weights come from.

    Attributes:
        git_commit: commit of the training code, None outside a checkout.
        config_digest: SHA-256 of ``config.yaml``.
        data_manifest_digest: digest of the training shards' manifest.
        licenses: licenses of the training photos; of imported weights, the weights' own.
        tracker_run_id: the experiment tracker's id of the run.
        source_digest: of weights trained elsewhere, the digest of the files they were read from.
    """

    git_commit: str | None = None
    config_digest: str
    data_manifest_digest: str | None = None
    licenses: tuple[str, ...] = ()
    tracker_run_id: str | None = None
    source_digest: str | None = None


class ArtifactSpec(_Model):
    """Everything that inference must know about a network beside its weights.

    Attributes:
        schema_version: of this format.
        name: name in the registry.
        kind: what the network does; decides the network's class.
        network: class and arguments.
        resolution: side of the training images in pixels.
        value_range: of the network's inputs and of the images it puts out.
        schedule: noise schedule, for a denoiser only.
        scale: upscaling factor, for an upscaler only.
        region_map: name -> id of the regions in label maps.
        metrics: name -> value, from the evaluation.
        provenance: where the weights come from.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    kind: Kind
    network: NetworkSpec
    resolution: int = Field(gt=0)
    value_range: tuple[float, float] = VALUE_RANGE
    schedule: dict[str, Any] | None = None
    scale: int | None = Field(default=None, gt=1)
    region_map: dict[str, int] = Field(default_factory=lambda: dict(REGION_MAP))
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    provenance: Provenance

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return check_name(name)

    @model_validator(mode="after")
    def _agrees_with_itself_and_this_program(self) -> "ArtifactSpec":
        expected = NETWORK_OF_KIND[self.kind]
        if self.network.name != expected:
            raise ValueError(f"a {self.kind} is a {expected}, not a {self.network.name}")
        if self.value_range != VALUE_RANGE:
            raise ValueError(f"value range {self.value_range}, this program uses {VALUE_RANGE}")
        if self.region_map != REGION_MAP:
            raise ValueError(f"region map {self.region_map}, this program uses {REGION_MAP}")
        if (self.schedule is not None) != (self.kind == "denoiser"):
            raise ValueError(f"a {self.kind} with noise schedule {self.schedule}")
        if (self.scale is not None) != (self.kind == "upscaler"):
            raise ValueError(f"an artifact of kind {self.kind} with scale {self.scale}")
        if self.schedule is not None:
            NoiseSchedule.from_spec(self.schedule)
        return self

    @staticmethod
    def parse(content: bytes, *, source: Path) -> "ArtifactSpec":
        """Validate the bytes of a ``spec.json``; one of an older version is migrated.

        Raises:
            ValueError: a newer schema version, or content that contradicts itself; the message
                names the file and the values.
        """
        check_schema_version(
            content, supported=SCHEMA_VERSION, oldest=OLDEST_SCHEMA_VERSION, source=source
        )
        try:
            spec = ArtifactSpec.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"{source} is not valid: {first_problem(error)}") from error
        return spec.model_copy(update={"schema_version": SCHEMA_VERSION})


class _SchemaVersion(BaseModel):
    schema_version: int


def check_schema_version(
    content: bytes, *, supported: int, source: Path, oldest: int | None = None
) -> None:
    """Refuse JSON of a schema version that this program does not read.

    Read before the rest, since fields that a newer version adds would be reported instead.

    Args:
        content: the JSON.
        supported: the newest version that can be read.
        source: named in the error.
        oldest: the oldest version that can be read; ``supported`` when absent.

    Raises:
        ValueError: not JSON, no version, or another version; names both versions.
    """
    try:
        version = _SchemaVersion.model_validate_json(content).schema_version
    except ValidationError as error:
        raise ValueError(f"{source} is not valid: {first_problem(error)}") from error
    oldest = supported if oldest is None else oldest
    if not oldest <= version <= supported:
        readable = f"{supported}" if oldest == supported else f"{oldest} to {supported}"
        raise ValueError(
            f"{source} has schema version {version}, this program reads {readable}: "
            f"{'update the program' if version > supported else 'export it again'}"
        )


def first_problem(error: ValidationError) -> str:
    """Return "field: message" of the first problem of a failed validation."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"


def check_name(name: str) -> str:
    """Return the name of an artifact or alias if it is safe as a folder's name.

    Raises:
        ValueError: it is not; path separators and leading dots never are.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name an artifact: use 1 to 64 of a-z, 0-9, '_' and '-', "
            "beginning with a letter or a digit"
        )
    return name
