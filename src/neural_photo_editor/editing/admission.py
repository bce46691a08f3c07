"""What a request may take up, and how many that came together are worked on together."""

import io
import warnings
from collections.abc import Sequence

from PIL import Image

from neural_photo_editor.api.codec import DecodedPhoto
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, Request, UpscaleRequest

MAX_BATCH_PIXELS = 36_000_000
"""Of one group; as many as the largest single photo has."""


def group_requests(requests: Sequence[Request], *, max_pixels: int, scale: int) -> list[list[int]]:
    """Return the positions of requests in groups that are worked on one after the other.

    The order stays as it is. A group's photos, decoded, and its results have at most
    ``max_pixels`` together; a request that has more is a group of its own.

    Args:
        max_pixels: of a group.
        scale: the upscaler's factor.
    """
    groups: list[list[int]] = []
    room = 0
    for position, request in enumerate(requests):
        pixels = count_pixels(request, scale=scale)
        if not groups or pixels > room:
            groups.append([])
            room = max_pixels
        groups[-1].append(position)
        room -= pixels
    return groups


def count_pixels(request: Request, *, scale: int) -> int:
    """Return the pixels of the photo times its variations, or those of the photo upscaled.

    Only the file's header is read. A file that is no image counts as 0: it will not be decoded.
    """
    pixels = _photo_pixels(request.photo)
    if isinstance(request, EditRequest):
        return pixels * request.variations
    return pixels * scale**2 if isinstance(request, UpscaleRequest) else pixels


def _photo_pixels(data: bytes) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                return image.width * image.height
    # Whatever a decoder raises about a damaged header, the decode stage will say it properly.
    except Exception:  # noqa: BLE001
        return 0


def check_upscaled_size(photo: DecodedPhoto, *, scale: int, max_pixels: int) -> None:
    """Bound the result of upscaling; raises RequestError 413."""
    height, width = photo.size
    most = max_pixels // scale**2
    if height * width > most:
        raise RequestError(
            413,
            f"{scale} times {width} x {height} pixels is more than the "
            f"{max_pixels:,} pixels a result may have",
            field="photo",
            remedy=f"scale the photo down to at most {most:,} pixels",
        )


def check_variations(request: EditRequest, photo: DecodedPhoto, *, max_pixels: int) -> None:
    """Bound what the results of one request take up together; raises RequestError 413."""
    height, width = photo.size
    most = max_pixels // (height * width)
    if request.variations > max(most, 1):
        raise RequestError(
            413,
            f"{request.variations} variations of {width} x {height} pixels are more than the "
            f"{max_pixels:,} pixels the results of a request may have",
            field="variations",
            remedy=f"send at most {most} variations of a photo of this size",
        )


def no_key_for_receipts() -> RequestError:
    """Return the answer to a request for a receipt that nobody can sign."""
    return RequestError(
        422,
        "this server has no key to sign receipts with",
        field="receipt",
        remedy="leave receipt out, or ask who runs the server to set NPE_RECEIPT_KEY",
    )
