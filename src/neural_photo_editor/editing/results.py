"""What a finished request sends back: encoded images and the receipt of what made them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.codec import (
    EXACT_FORMATS,
    DecodedPhoto,
    ImageFormat,
    check_format,
    encode_png,
)
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditRequest,
    EditResult,
    SegmentMetadata,
    SegmentResult,
    UpscaleMetadata,
    UpscaleResult,
)
from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.editing.segmentation import LabelMap, summarize_regions
from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.geometry import Box

Corners = tuple[int, int, int, int]
"""(left, top, right, bottom), the order of the wire."""


MAX_WEBP_PIXELS = 12_000_000
"""Lossless WebP is written up to here: larger ones take seconds and over 1 GB."""


def choose_format(request: EditRequest, photo: DecodedPhoto) -> ImageFormat:
    """Return the file type of an edit's result: one that keeps every pixel, if none is asked for.

    Raises:
        RequestError: 422 when the type asked for cannot hold the photo.
    """
    height, width = photo.size
    as_webp = photo.format == "webp" and height * width <= MAX_WEBP_PIXELS
    chosen = request.format or ("webp" if as_webp else "png")
    if chosen == "webp" and height * width > MAX_WEBP_PIXELS:
        raise RequestError(
            422,
            f"webp holds at most {MAX_WEBP_PIXELS:,} pixels here",
            field="format",
            remedy="choose png or jpeg",
        )
    check_format(chosen, size=photo.size, alpha=photo.alpha)
    return chosen


def edit_result(
    edit: PreparedEdit,
    images: list[bytes],
    *,
    size: tuple[int, int],
    image_format: ImageFormat,
    bundle_digest: str,
) -> EditResult:
    """Put the encoded variations of an edit together with its receipt."""
    height, width = size
    plan = edit.plans[0]
    crop = edit.crop
    metadata = EditMetadata(
        width=width,
        height=height,
        bundle_digest=bundle_digest,
        seed=plan.seed,
        sampler=plan.sampler,
        steps=plan.steps,
        resamples=plan.resamples,
        timestep=plan.t0,
        strength=round(edit.strength, 6),
        mask_pixels=int(edit.mask.sum()),
        detail=edit.detail,
        blend=edit.blend,
        crop=_corners((crop.top, crop.left, crop.top + crop.side, crop.left + crop.side)),
        face=None if edit.face is None else _corners(edit.face.box),
        variations=len(images),
        seeds=tuple(plan.seed for plan in edit.plans),
        format=image_format,
        exact=image_format in EXACT_FORMATS,
    )
    return EditResult(image=images[0], more_images=tuple(images[1:]), metadata=metadata)


def segment_result(labels: LabelMap, *, bundle_digest: str) -> SegmentResult:
    """Encode a label map and its table of regions."""
    height, width = labels.shape
    metadata = SegmentMetadata(
        width=width,
        height=height,
        bundle_digest=bundle_digest,
        regions=summarize_regions(labels),
    )
    return SegmentResult(image=encode_png(labels), metadata=metadata)


def upscale_result(
    enlarged: Photo, original: DecodedPhoto, *, scale: int, bundle_digest: str
) -> UpscaleResult:
    """Encode an enlarged photo, with its transparency enlarged alike."""
    height, width = enlarged.shape[:2]
    alpha: NDArray[np.uint8] | None = None
    if original.alpha is not None:
        resized = Image.fromarray(original.alpha).resize((width, height), Image.Resampling.BICUBIC)
        alpha = np.asarray(resized)
    metadata = UpscaleMetadata(width=width, height=height, bundle_digest=bundle_digest, scale=scale)
    image = encode_png(enlarged, alpha=alpha, icc_profile=original.icc_profile)
    return UpscaleResult(image=image, metadata=metadata)


def _corners(box: Box) -> Corners:
    top, left, bottom, right = box
    return left, top, right, bottom
