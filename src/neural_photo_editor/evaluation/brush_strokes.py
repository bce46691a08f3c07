"""A hat painted with brush strokes, as a person with a mouse would."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.common.seeding import numpy_generator

RIBS = 9
"""Lines painted down the dome."""

OVERSAMPLING = 4
"""Strokes are drawn at four times the size and shrunk, which smooths their edges."""


def beanie_strokes(
    labels: NDArray[np.uint8], *, color: tuple[int, int, int], seed: int = 0
) -> NDArray[np.uint8]:
    """Paint a beanie on a head: arcs, ribs down the dome and a lighter cuff, by a shaky hand.

    Args:
        labels: label map of the portrait, uint8 (H, W).
        color: (R, G, B) of the wool.
        seed: of the hand's shaking.

    Returns:
        Strokes, uint8 (H, W, 4); alpha is 0 where nothing is painted.

    Raises:
        ValueError: the labels show no face with brows.
    """
    head = np.isin(labels, [region_id(name) for name in ("hair", "skin", "ear")])
    brow_rows = np.flatnonzero((labels == region_id("brow")).any(axis=1))
    if not head.any() or not brow_rows.size:
        raise ValueError("no head with brows in the label map: choose another portrait")
    crown = int(np.flatnonzero(head.any(axis=1))[0])
    columns = np.flatnonzero(head[crown : int(brow_rows[0])].any(axis=0))
    left, right = float(columns[0]), float(columns[-1])
    head_height = float(brow_rows[0]) - crown
    bottom = brow_rows[0] - 0.22 * head_height
    top = max(2.0, crown - 0.30 * head_height)
    center, half_width = (left + right) / 2, 0.54 * (right - left)
    rng = numpy_generator("brush strokes", seed)
    height, width = labels.shape
    canvas = Image.new("RGBA", (width * OVERSAMPLING, height * OVERSAMPLING), (*color, 0))
    draw = ImageDraw.Draw(canvas)
    brush = max(4.0, 0.16 * (bottom - top))
    for row in np.linspace(0.0, 1.0, 14):
        # The dome: each arc is as wide as an ellipse at its height.
        reach = half_width * np.sqrt(max(0.0, 1.0 - (1.0 - row) ** 2)) - 0.3 * brush
        y = top + 0.5 * brush + row * (bottom - top - brush)
        _stroke(draw, center, y, max(reach, 0.15 * half_width), -0.10, brush, color, rng)
    shadow = tuple(int(0.68 * channel) for channel in color)
    for side in np.linspace(-0.84, 0.84, RIBS):
        # The ribs run from the crown to the cuff and lie closer to each other at the sides.
        reach = half_width * np.sin(0.5 * np.pi * side)
        _rib(draw, center, reach, top + 0.5 * brush, bottom - brush, 0.22 * brush, shadow, rng)
    _stroke(draw, center, bottom - 1.9 * brush, 0.97 * half_width, -0.06, 0.3 * brush, shadow, rng)
    cuff = tuple(int(min(255, 30 + 1.12 * channel)) for channel in color)
    for row in (0.0, 0.6, 1.2):
        y = bottom - (1.2 - row) * brush
        _stroke(draw, center, y, 1.02 * half_width - 0.3 * brush, -0.06, brush, cuff, rng)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX)).copy()


def _rib(
    draw: ImageDraw.ImageDraw,
    center: float,
    reach: float,
    top: float,
    bottom: float,
    brush: float,
    color: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """Draw one line of a dome from its top, along a meridian, to ``reach`` from its center."""
    wobble = rng.normal(0.0, 0.3 * brush, 5)
    for down in np.linspace(0.0, 1.0, 60):
        x = center + reach * np.sqrt(1.0 - (1.0 - down) ** 2)
        x += np.interp(down, np.linspace(0, 1, 5), wobble)
        y = top + down * (bottom - top)
        box = [x - 0.5 * brush, y - 0.5 * brush, x + 0.5 * brush, y + 0.5 * brush]
        draw.ellipse([side * OVERSAMPLING for side in box], fill=(*color, 255))


def _stroke(
    draw: ImageDraw.ImageDraw,
    center: float,
    y: float,
    reach: float,
    bend: float,
    brush: float,
    color: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """Draw one arc of round dabs from left to right; ``bend`` lifts its middle."""
    tone = float(rng.uniform(0.94, 1.06))
    shade = tuple(int(np.clip(channel * tone, 0, 255)) for channel in color)
    wobble = rng.normal(0.0, 0.06 * brush, 5)
    for s in np.linspace(-1.0, 1.0, 60):
        x = center + s * reach
        lift = bend * reach * (1.0 - s * s) + np.interp(s, np.linspace(-1, 1, 5), wobble)
        radius = 0.5 * brush
        box = [x - radius, y + lift - radius, x + radius, y + lift + radius]
        draw.ellipse([side * OVERSAMPLING for side in box], fill=(*shade, 255))
