"""One picture of an edit: before, what was marked, after."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from neural_photo_editor.api.codec import decode_mask, decode_photo, decode_strokes
from neural_photo_editor.api.schema import EditRequest, EditResult

_PANEL_PX = 768
_LABEL_PX = 30
_GAP_PX = 10
_KEPT_BRIGHTNESS = 0.3

Pixels = NDArray[np.uint8]
FindMask = Callable[[], NDArray[np.bool_]]


def side_by_side(
    request: EditRequest, result: EditResult, *, mask_of_regions: FindMask
) -> Image.Image:
    """Draw photo, marked pixels and every variation in a row, at most 768 pixels a side each.

    Args:
        mask_of_regions: returns the mask of the regions that the request names, (H, W).

    Raises:
        RequestError: an image cannot be decoded.
    """
    before = decode_photo(request.photo, to_srgb=True).rgb
    marked = _marked(request, before, mask_of_regions)
    panels = [("before", before), ("marked", marked)]
    for number, image in enumerate(result.images, start=1):
        label = "after" if len(result.images) == 1 else f"after {number}"
        panels.append((label, decode_photo(image, field="result", to_srgb=True).rgb))
    return _row(panels)


def _marked(request: EditRequest, photo: Pixels, mask_of_regions: FindMask) -> Pixels:
    """Return the photo with paint on it and darkened where it is kept."""
    height, width = size = photo.shape[0], photo.shape[1]
    strokes = None
    if request.strokes is not None:
        strokes = decode_strokes(request.strokes, size=size)
    if request.mask is not None:
        mask = decode_mask(request.mask, size=size)
    elif request.regions:
        mask = mask_of_regions()
    else:
        assert strokes is not None
        mask = strokes[..., 3] > 0
    painted = photo
    if strokes is not None:
        layer = Image.fromarray(photo)
        layer.paste(Image.fromarray(strokes), mask=Image.fromarray(strokes[..., 3]))
        painted = np.asarray(layer)
    elif request.color is not None:
        color = np.frombuffer(bytes.fromhex(request.color[1:]), dtype=np.uint8)
        painted = np.broadcast_to(color, (height, width, 3))
    kept = (photo * _KEPT_BRIGHTNESS).astype(np.uint8)
    return np.where(mask[..., None], painted, kept)


def _row(panels: list[tuple[str, Pixels]]) -> Image.Image:
    height, width = panels[0][1].shape[:2]
    scale = min(1.0, _PANEL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    step = size[0] + _GAP_PX
    sheet = Image.new(
        "RGB", (step * len(panels) - _GAP_PX, size[1] + _LABEL_PX), color=(255, 255, 255)
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for number, (label, pixels) in enumerate(panels):
        draw.text((number * step, 3), label, fill=(0, 0, 0), font=font)
        panel = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        sheet.paste(panel, (number * step, _LABEL_PX))
    return sheet
