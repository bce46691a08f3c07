"""What travels between client and endpoint: three requests, three results.

Images are encoded files (bytes); :mod:`neural_photo_editor.api.codec` turns them into arrays.
Requests refuse unknown fields and wrong types. Results accept fields they do not know, so that an
older client reads a newer server.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from neural_photo_editor.api.errors import RequestError

MAX_SEED = 2**63 - 1
MAX_STEPS = 1000
MAX_RESAMPLES = 20
MAX_EVALUATIONS = 1000
"""Largest product of steps and resamples: network evaluations of one edit."""

Sampler = Literal["ddpm", "ddim"]
DetailSource = Literal["photo", "model"]
ResponseFormat = Literal["image", "json"]

REGION_NAMES = (
    "background", "hair", "hat", "brow", "ear", "eye", "lip", "mouth", "neck", "nose", "skin",
)  # fmt: skip
"""Region names on the wire. Fixed like common.regions, of which the client shares no code."""


def _field_error(message: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("request", "{message}", {"message": message, "remedy": remedy})


def _check_regions(value: object) -> object:
    """Accept a list or tuple of distinct region names."""
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, tuple):
        unknown = [name for name in value if not isinstance(name, str) or name not in REGION_NAMES]
        if unknown:
            raise _field_error(
                f"unknown region {str(unknown[0])[:40]!r}", f"choose from {', '.join(REGION_NAMES)}"
            )
        return tuple(dict.fromkeys(value))
    return value


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    photo: Annotated[bytes, Field(min_length=1, repr=False)]
    """The photo as a JPEG, PNG or WebP file."""
    response: ResponseFormat = "image"
    """What comes back: the PNG with its metadata in a header, or one JSON document."""


class SegmentRequest(_Request):
    """Ask which face region every pixel of a photo belongs to."""


class UpscaleRequest(_Request):
    """Ask for a photo at the upscaler's multiple of its size."""


class EditRequest(_Request):
    """Ask for a photo whose marked pixels are repainted; every other pixel stays as uploaded.

    What may change is given by exactly one of ``mask`` and ``regions``; with ``strokes``, both may
    be left out, and the painted pixels are the mask. ``strokes`` or ``color`` say what to paint
    there; without either the masked part of the photo itself is the starting point.
    """

    mask: Annotated[bytes | None, Field(min_length=1, repr=False)] = None
    """Image file of the photo's size: brighter than 127 = edit, else keep."""
    regions: Annotated[tuple[str, ...], BeforeValidator(_check_regions)] = ()
    """Names of face regions to edit, found by the segmenter."""
    strokes: Annotated[bytes | None, Field(min_length=1, repr=False)] = None
    """RGBA image file of the photo's size: painted where alpha > 0."""
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None
    """Paint the whole mask in this color, ``#rrggbb``."""
    strength: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far the edit may move from what is painted: 0 keeps it, 1 keeps almost nothing."""
    timestep: Annotated[int, Field(ge=1)] | None = None
    """For experts, instead of ``strength``: the diffusion step the edit starts from."""
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    """Number of timesteps visited; at most the start step."""
    resamples: Annotated[int, Field(ge=1, le=MAX_RESAMPLES)] | None = None
    """How often each of them is repeated (RePaint), so that the edit comes to fit its surroundings;
    left out, edits without paint are, and others are not."""
    sampler: Sampler | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """The same seed and request give the same image; left out, the server draws and reports one."""
    detail: DetailSource | None = None
    """Where fine detail comes from: the photo's own pixels, recolored, or the models. Left out, a
    ``color`` of moderate strength keeps the photo's, and everything else is drawn anew."""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.mask is not None and self.regions:
            raise _field_error("mask and regions exclude each other", "send one of the two")
        if self.mask is None and not self.regions and self.strokes is None:
            raise _field_error(
                "nothing says which pixels to edit",
                "send a mask image, region names or strokes",
            )
        if self.strokes is not None and self.color is not None:
            raise _field_error("strokes and color exclude each other", "send one of the two")
        if self.strength is not None and self.timestep is not None:
            raise _field_error("strength and timestep exclude each other", "send one of the two")
        return self


Request = EditRequest | SegmentRequest | UpscaleRequest
RequestT = TypeVar("RequestT", bound=EditRequest | SegmentRequest | UpscaleRequest)


def validate_request(model: type[RequestT], fields: dict[str, Any]) -> RequestT:
    """Build a request from named values.

    Raises:
        RequestError: 422, naming the first field that is wrong and what to send instead.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        raise _to_request_error(model, error) from None


def _to_request_error(model: type[RequestT], error: ValidationError) -> RequestError:
    first = error.errors(include_url=False, include_input=False)[0]
    context: dict[str, Any] = first.get("ctx", {})
    field = str(first["loc"][0])[:40] if first["loc"] else None
    detail = str(first["msg"])
    known = ", ".join(model.model_fields)
    match first["type"]:
        case "request":
            remedy = str(context["remedy"])
            field = field or _field_at_fault(detail)
        case "extra_forbidden":
            detail, remedy = "unknown field", f"choose from operation, {known}"
        case "missing":
            detail, remedy = "required field is missing", f"add the field {field}"
        case "string_pattern_mismatch":
            detail, remedy = "not a color", "write six hexadecimal digits, such as #aa3311"
        case "literal_error":
            remedy = f"choose {context['expected']}"
        case "too_short" | "bytes_too_short":
            detail, remedy = "the file is empty", "send the bytes of a JPEG, PNG or WebP file"
        case _:
            remedy = _range_remedy(field)
    return RequestError(422, detail, field=field, remedy=remedy)


def _field_at_fault(message: str) -> str:
    """Name the field of a rule about several fields: its message starts with it, or mask."""
    first_word = message.split(maxsplit=1)[0]
    return first_word if first_word in EditRequest.model_fields else "mask"


def _range_remedy(field: str | None) -> str:
    remedies = {
        "strength": "send a number from 0 to 1",
        "timestep": "send a whole number of at least 1",
        "steps": f"send a whole number from 1 to {MAX_STEPS}",
        "resamples": f"send a whole number from 1 to {MAX_RESAMPLES}",
        "seed": f"send a whole number from 0 to {MAX_SEED}",
        "regions": "send a list of region names",
        "color": "send a text such as #aa3311",
    }
    return remedies.get(field or "", "send an image file (in JSON: its base64 text)")


class ResultMetadata(BaseModel):
    """What made a result; read its entries as attributes or like a dictionary's.

    Attributes:
        width, height: size of the returned image in pixels.
        bundle_digest: digest of the models and defaults that made it.
        timings_ms: milliseconds per stage.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    operation: str
    width: int
    height: int
    bundle_digest: str
    timings_ms: dict[str, float] = {}

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None


class EditMetadata(ResultMetadata):
    """Everything needed to make the same edit again.

    Attributes:
        steps: timesteps visited.
        resamples: how often each was repeated.
        timestep: diffusion step the edit started from.
        strength: the same on the 0..1 scale.
        mask_pixels: number of pixels that were allowed to change.
        detail: where the fine detail came from, "photo" or "model".
        crop: (left, top, right, bottom) of the square the model worked on, in photo pixels; it may
            reach beyond the photo.
    """

    operation: Literal["edit"] = "edit"
    seed: int
    sampler: str
    steps: int
    resamples: int = 1
    timestep: int
    strength: float
    mask_pixels: int | None = None
    detail: str | None = None
    crop: tuple[int, int, int, int] | None = None


class RegionSummary(BaseModel):
    """One region of a label map; box is (left, top, right, bottom), or None when it is absent."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: int
    name: str
    pixels: int
    fraction: float
    box: tuple[int, int, int, int] | None


class SegmentMetadata(ResultMetadata):
    operation: Literal["segment"] = "segment"
    regions: tuple[RegionSummary, ...]


class UpscaleMetadata(ResultMetadata):
    operation: Literal["upscale"] = "upscale"
    scale: int


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[bytes, Field(repr=False)]

    def save(self, path: str | Path) -> Path:
        """Write the PNG and return where it is."""
        path = Path(path)
        path.write_bytes(self.image)
        return path


class EditResult(_Result):
    """The edited photo: a PNG of the photo's size."""

    metadata: EditMetadata


class SegmentResult(_Result):
    """The label map: a one-channel PNG of the photo's size holding region ids 0..10."""

    metadata: SegmentMetadata


class UpscaleResult(_Result):
    """The enlarged photo: a PNG."""

    metadata: UpscaleMetadata


Result = EditResult | SegmentResult | UpscaleResult
