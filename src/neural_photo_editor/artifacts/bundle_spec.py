"""What ``bundle.json`` says: three artifacts, licenses, serving defaults. Needs no torch."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neural_photo_editor.artifacts.names import check_schema_version, first_problem
from neural_photo_editor.artifacts.spec import KINDS, Kind
from neural_photo_editor.common.fingerprint import sha256_json

SCHEMA_VERSION = 2
"""Version 2 added `BundlePart.licenses` and `BundleSpec.licenses`."""

OLDEST_SCHEMA_VERSION = 1
"""In a description of version 1 the licenses are absent: its artifacts know them."""

BUNDLE_NAME = "bundle.json"
MODEL_NAME = "neural_photo_editor"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServingDefaults(_Model):
    """What applies where a request is silent, and what no request may exceed.

    Attributes:
        sampler: reverse process of edits with paint; for others see `editing.planning`.
        steps: network evaluations of those edits, where their timestep allows as many.
        strength: 0 keeps the painted photo, 1 draws anew; 0.37 is t = 200 of the default schedule.
        feather_px: width of the soft edge inside the mask, in pixels of the photo.
        face_center_x, face_center_y, face_height: where the denoiser's training portraits show
            the face, brows to chin, as shares of the side; here the drawn portraits', while
            CelebAMask-HQ's are 0.50, 0.66 and 0.54.
        test_time_flip: show the segmenter each photo mirrored too, and average: twice its time.
        max_bytes: largest upload, in bytes; a whole request may have 32 MiB.
        max_pixels: largest photo, width times height.
    """

    sampler: Literal["ddpm", "ddim", "dpmpp_2m"] = "dpmpp_2m"
    steps: int = Field(default=20, ge=1)
    strength: float = Field(default=0.37, ge=0.0, le=1.0)
    feather_px: int = Field(default=4, ge=0)
    face_center_x: float = Field(default=0.50, gt=0.0, lt=1.0)
    face_center_y: float = Field(default=0.65, gt=0.0, lt=1.0)
    face_height: float = Field(default=0.49, gt=0.0, lt=1.0)
    test_time_flip: bool = False
    max_bytes: int = Field(default=31 * 2**20, gt=0)
    max_pixels: int = Field(default=6000 * 6000, gt=0)


class BundlePart(_Model):
    """One artifact in a bundle.

    Attributes:
        name, version: in the registry that it was taken from.
        digest: of the artifact.
        licenses: of what it was trained on, or of imported weights; none where nobody said.
    """

    name: str
    version: int = Field(gt=0)
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    licenses: tuple[str, ...] = ()


class BundleSpec(_Model):
    """Content of ``bundle.json``.

    Attributes:
        schema_version: of this format.
        parts: the artifact of each kind.
        schedule: the denoiser's noise schedule, which the edit uses.
        defaults: serving defaults.
        licenses: those of all parts, sorted.
        digest: SHA-256 of the canonical JSON of all other fields; identifies the bundle.
    """

    schema_version: int = SCHEMA_VERSION
    parts: dict[Kind, BundlePart]
    schedule: dict[str, Any]
    defaults: ServingDefaults
    licenses: tuple[str, ...] = ()
    digest: str

    def content_digest(self) -> str:
        return sha256_json(self.model_dump(mode="json", exclude={"digest"}))

    def with_licenses(self, of_parts: Mapping[Kind, tuple[str, ...]]) -> "BundleSpec":
        """Compare the licenses with the artifacts' own; add them where the description lacks them.

        Raises:
            ValueError: they differ; names both.
        """
        if not self.licenses:  # Of version 1, or there are none.
            parts = {
                kind: part.model_copy(update={"licenses": of_parts[kind]})
                for kind, part in self.parts.items()
            }
            return self.model_copy(update={"parts": parts, "licenses": union(of_parts.values())})
        for kind, licenses in of_parts.items():
            check_same(f"licenses of artifacts/{kind}", licenses, self.parts[kind].licenses)
        return self

    @staticmethod
    def parse(content: bytes, *, source: str | Path) -> "BundleSpec":
        """Validate the bytes of a ``bundle.json``; one of version 1 is migrated, without licenses.

        Raises:
            ValueError: a newer schema version, or content that contradicts itself or its digest;
                the message names the file and the values.
        """
        check_schema_version(
            content, supported=SCHEMA_VERSION, oldest=OLDEST_SCHEMA_VERSION, source=source
        )
        try:
            spec = BundleSpec.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"{source} is not valid: {first_problem(error)}") from error
        # Of what is written: a bundle made before a field existed lacks it, and is none the worse.
        written = json.loads(content)
        del written["digest"]
        check_same(f"digest of {source}", spec.digest, sha256_json(written))
        check_same(f"parts of {source}", sorted(spec.parts), sorted(KINDS))
        if spec.schema_version == 1:
            return spec.model_copy(update={"schema_version": SCHEMA_VERSION})
        united = union(part.licenses for part in spec.parts.values())
        check_same(f"licenses of {source}", spec.licenses, united)
        return spec


def union(licenses: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return the distinct licenses, sorted."""
    return tuple(sorted({license for some in licenses for license in some}))


def check_same(what: str, found: object, expected: object) -> None:
    """Compare two statements of one bundle.

    Raises:
        ValueError: they differ; names both.
    """
    if found != expected:
        raise ValueError(f"the {what} is {found}, but the rest of the bundle says {expected}")
