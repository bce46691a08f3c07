"""Pictures put beside one another, with a line of text above each column."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neural_photo_editor.imaging.value_range import to_uint8

Picture = NDArray[np.uint8]

GAP_PX = 4
HEADER_PX = 22
PAPER = (255, 255, 255)
INK = (40, 44, 52)


def to_pictures(images: Tensor) -> list[Picture]:
    """Turn float images, (N, 3, H, W) in [-1, 1], into N pictures, uint8 (H, W, 3)."""
    return list(to_uint8(images).permute(0, 2, 3, 1).cpu().numpy())


def enlarge(picture: Picture, side_px: int) -> Picture:
    """Repeat pixels until the picture is about ``side_px`` wide; larger ones are kept."""
    factor = max(1, side_px // picture.shape[1])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def save_grid(
    rows: Sequence[Sequence[Picture]], path: Path, *, headers: Sequence[str] = ()
) -> Path:
    """Write a PNG of pictures in rows; all have the size of the first.

    Args:
        rows: rows of pictures, uint8 (H, W, 3).
        path: file to write; its folder is made.
        headers: text above each column.

    Returns:
        The path.

    Raises:
        ValueError: there is no picture, or sizes differ.
    """
    shapes = {picture.shape for row in rows for picture in row}
    if len(shapes) != 1:
        raise ValueError(f"pictures of one size are needed, got {sorted(shapes)}")
    height, width, _ = shapes.pop()
    top_px = HEADER_PX if headers else 0
    columns = max(len(row) for row in rows)
    size = (columns * (width + GAP_PX) - GAP_PX, top_px + len(rows) * (height + GAP_PX) - GAP_PX)
    sheet = Image.new("RGB", size, PAPER)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            position = (j * (width + GAP_PX), top_px + i * (height + GAP_PX))
            sheet.paste(Image.fromarray(picture), position)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for j, text in enumerate(headers):
        center = (j * (width + GAP_PX) + width / 2, HEADER_PX / 2)
        draw.text(center, text, fill=INK, font=font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
