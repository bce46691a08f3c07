"""The forms in which a Python program holds an image, turned into an image file."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from neural_photo_editor.api.codec import encode_png

ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8] | NDArray[np.bool_]


def encode_image(image: ImageInput) -> bytes:
    """Return the bytes of an image file.

    Args:
        image: a path or the bytes of a file (both sent as they are), a PIL image, or an array:
            uint8 (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, or a bool mask (H, W).

    Raises:
        ValueError: an array of another type or shape.
        OSError: the path cannot be read.
    """
    match image:
        case bytes():
            return image
        case str() | Path():
            return Path(image).read_bytes()
        case Image.Image():
            buffer = io.BytesIO()
            upright = ImageOps.exif_transpose(image)
            if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                upright = upright.convert("RGB")
            upright.save(buffer, "PNG", icc_profile=image.info.get("icc_profile"))
            return buffer.getvalue()
        case _:
            return _encode_array(image)


def _encode_array(pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    if pixels.dtype == np.bool_ and pixels.ndim == 2:
        return encode_png(pixels.astype(np.uint8) * np.uint8(255))
    right_shape = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not right_shape:
        raise ValueError(
            f"cannot send an array of {pixels.dtype} {pixels.shape}; "
            "use uint8 (H, W), (H, W, 3) or (H, W, 4), or a bool mask (H, W)"
        )
    array = np.asarray(pixels, dtype=np.uint8)
    if array.ndim == 3 and array.shape[2] == 4:
        return encode_png(array[..., :3], alpha=array[..., 3])
    return encode_png(array)
