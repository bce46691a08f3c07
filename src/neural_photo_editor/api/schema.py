"""What travels between client and endpoint: three requests, three results.

Images are encoded files (bytes); :mod:`neural_photo_editor.api.codec` turns them into arrays.
Requests refuse unknown fields and wrong types. Results accept fields they do not know, so that an
older client reads a newer server.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from neural_photo_editor.api.image_encoding import ImageFormat

MAX_SEED = 2**63 - 1
MAX_STEPS = 1000
MAX_RESAMPLES = 20
MAX_VARIATIONS = 8
MAX_EVALUATIONS = 1000
"""Largest product of steps, resamples and variations: network evaluations of one request."""

Sampler = Literal["ddpm", "ddim", "dpmpp_2m"]
DetailSource = Literal["photo", "model", "mixed"]
Blend = Literal["feather", "gradient"]
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
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # OpenAPI shows them
    )

    photo: Annotated[bytes, Field(min_length=1, repr=False)]
    """The photo as a JPEG, PNG or WebP file."""
    response: ResponseFormat = "image"
    """What comes back: the image with its metadata in a header, or one JSON document."""


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
    strength_map: Annotated[bytes | None, Field(min_length=1, repr=False)] = None
    """Gray image file of the photo's size: a pixel's share of the strength, 255 = all of it; where
    it is 0, what is painted stays as it is."""
    timestep: Annotated[int, Field(ge=1)] | None = None
    """For experts, instead of ``strength``: the diffusion step the edit starts from."""
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    """Number of timesteps visited; at most the start step."""
    resamples: Annotated[int, Field(ge=1, le=MAX_RESAMPLES)] | None = None
    """How often each of them is repeated (RePaint), so that the edit comes to fit its surroundings;
    left out, edits without paint are, and others are not."""
    sampler: Sampler | None = None
    """How noise becomes an image, step by step; left out, the server's default."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """The same seed and request give the same image; left out, the server draws and reports one."""
    variations: Annotated[int, Field(ge=1, le=MAX_VARIATIONS)] = 1
    """How many images come back, of the seeds seed, seed + 1, ...; more than one needs the response
    ``json``. Each equals that of a request with its seed alone."""
    detail: DetailSource | None = None
    """Where fine detail comes from: the photo's own pixels, recolored; the models; or the photo
    except where the edit has structure that the photo lacks. Left out, a ``color`` of moderate
    strength keeps the photo's, other paint is mixed, and what is filled is drawn anew."""
    blend: Blend | None = None
    """How the edit meets its surroundings: a soft edge, or the edit's gradients continuing the
    colors around the mask. Left out, gradients where a ``mask`` is filled, and a soft edge with
    paint and for ``regions``, whose borders are the photo's own."""
    format: ImageFormat | None = None
    """File type of the result. Left out, WebP for WebP up to 12 megapixels, else PNG: both keep
    every pixel outside the mask exactly, which JPEG cannot."""
    receipt: bool = False
    """Whether a signed receipt of each image comes back, see :mod:`api.receipt`; needs the response
    ``json``."""

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
        if self.variations > 1 and self.response == "image":
            raise _field_error(
                "variations are several images, and the response image holds one",
                "add response=json, or leave variations out",
            )
        if self.receipt and self.response == "image":
            raise _field_error(
                "receipt needs room beside the image, and the response image has none",
                "add response=json, or leave receipt out",
            )
        return self


Request = EditRequest | SegmentRequest | UpscaleRequest
RequestT = TypeVar("RequestT", bound=EditRequest | SegmentRequest | UpscaleRequest)


class ResultMetadata(BaseModel):
    """What made a result; read its entries as attributes or like a dictionary's.

    Attributes:
        width, height: size of the returned image in pixels.
        bundle_digest: digest of the models and defaults that made it.
        timings_ms: milliseconds per stage; ``networks`` is the part of them spent in networks, and
            ``queue`` how long the request waited before.
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
        detail: where the fine detail came from, "photo", "model" or "mixed".
        blend: how the edit was put into the photo, "feather" or "gradient".
        crop: (left, top, right, bottom) of the square the model worked on, in photo pixels; it may
            reach beyond the photo.
        face: (left, top, right, bottom) of the face the square was chosen for, in photo pixels;
            None when no face was found.
        variations: number of images.
        seeds: the seed of each.
        format: file type of the images.
        exact: whether pixels outside the mask are the upload's exactly: they are unless the file
            type is JPEG.
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
    blend: str | None = None
    crop: tuple[int, int, int, int] | None = None
    face: tuple[int, int, int, int] | None = None
    variations: int = 1
    seeds: tuple[int, ...] = ()
    format: str = "png"
    exact: bool = True


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
        """Write the image file and return where it is."""
        path = Path(path)
        path.write_bytes(self.image)
        return path


class EditResult(_Result):
    """The edited photo, an image file of the photo's size; its further variations beside it.

    ``receipts`` holds the signed receipt of each image, a JSON document, where asked for.
    """

    metadata: EditMetadata
    more_images: Annotated[tuple[bytes, ...], Field(repr=False)] = ()
    receipts: Annotated[tuple[dict[str, Any], ...], Field(repr=False)] = ()

    @property
    def images(self) -> tuple[bytes, ...]:
        """All variations, in the order of ``metadata.seeds``."""
        return self.image, *self.more_images

    @property
    def receipt(self) -> dict[str, Any] | None:
        """The signed receipt of ``image``, if one was asked for."""
        return self.receipts[0] if self.receipts else None

    def save_all(self, path: str | Path) -> tuple[Path, ...]:
        """Write every variation, ``out.png`` as ``out-1.png``, ``out-2.png``, ..."""
        path = Path(path)
        paths = tuple(
            path.with_name(f"{path.stem}-{number}{path.suffix}")
            for number in range(1, len(self.images) + 1)
        )
        for target, image in zip(paths, self.images, strict=True):
            target.write_bytes(image)
        return paths


class SegmentResult(_Result):
    """The label map: a one-channel PNG of the photo's size holding region ids 0..10."""

    metadata: SegmentMetadata


class UpscaleResult(_Result):
    """The enlarged photo: a PNG."""

    metadata: UpscaleMetadata


Result = EditResult | SegmentResult | UpscaleResult
