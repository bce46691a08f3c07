"""What ``spec.json`` of an artifact says about the weights beside it."""

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

from neural_photo_editor.artifacts.names import check_name, check_schema_version, first_problem
from neural_photo_editor.common.regions import REGION_MAP

SCHEMA_VERSION = 4
"""Version 2 added `Provenance.source_digest` and other noise schedules than the linear one, version
3 `Provenance.data_name`, version 4 the schedules' `snr_factor` and `zero_terminal_snr`."""

OLDEST_SCHEMA_VERSION = 1
"""Every specification of an older version is one of this version as well."""

VALUE_RANGE = (-1.0, 1.0)

SPEC_NAME = "spec.json"
CONFIG_NAME = "config.yaml"
PREVIEW_NAME = "preview.png"
WEIGHTS_NAME = "model.safetensors"

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
        data_name: name of the data set in that manifest.
        data_manifest_digest: digest of the training shards' manifest.
        licenses: licenses of the training photos; of imported weights, the weights' own.
        tracker_run_id: the experiment tracker's id of the run.
        source_digest: of weights trained elsewhere, the digest of the files they were read from.
    """

    git_commit: str | None = None
    config_digest: str
    data_name: str | None = None
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
            # Late, for it imports torch, and the other kinds and the command line need none.
            from neural_photo_editor.diffusion.schedule import NoiseSchedule

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
