"""Label maps as PNG files: mode L, one region id (0..10) a pixel."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits, open_image
from neural_photo_editor.common.regions import NUM_REGIONS


def encode_labels(labels: NDArray[np.uint8]) -> bytes:
    """Encode a label map, uint8 (H, W) in 0..10, as a PNG of mode L."""
    check_labels(labels)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_labels(data: bytes, *, max_pixels: int = 4096 * 4096) -> NDArray[np.uint8]:
    """Decode a PNG of mode L or P (the palette's indices are the ids) to uint8 (H, W) in 0..10.

    Raises:
        ValueError: not a PNG, another mode, too large, cut off, or ids above 10.
    """
    limits = ImageLimits(max_bytes=2**26, max_pixels=max_pixels, min_side=1)
    try:
        with open_image(data, field="label map", limits=limits) as image:
            image_format, mode = image.format, image.mode
            labels = np.array(image)
    except RequestError as error:
        raise ValueError(f"not a readable PNG label map: {error.detail}") from error
    if image_format != "PNG":
        raise ValueError(f"not a readable PNG label map: it is a {image_format} file")
    if mode not in ("L", "P"):
        raise ValueError(f"a label map must be a gray 8-bit PNG of region ids, this one is {mode}")
    check_labels(labels)
    return labels


def check_labels(labels: NDArray[np.uint8]) -> None:
    """Check that a label map is uint8 (H, W) with ids 0..10.

    Raises:
        ValueError: another shape or type, or an id that names no region.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"a label map is uint8 (H, W), not {labels.dtype} {labels.shape}")
    largest = int(labels.max(initial=0))
    if largest >= NUM_REGIONS:
        raise ValueError(f"label id {largest} names no region: ids are 0..{NUM_REGIONS - 1}")
