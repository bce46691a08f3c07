"""Canvas, signed distances, noise and light: what every part of a portrait is painted with.

Coordinates are resolution independent. Image coordinates run over [-1, 1] with y downwards. Head
coordinates are shifted, scaled and tilted with the head: the skull's top is at y = -1, the chin
at y = +1. Signed distances are negative inside a shape. Colors are linear light (sRGB squared).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Color = tuple[float, float, float]
_NOISE_CELLS = 64


@dataclass(frozen=True)
class Pose:
    """Where the head is: shift in image units, scale, and roll/yaw/pitch in radians."""

    shift_x: float
    shift_y: float
    scale: float
    roll: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Canvas:
    """A window on the portrait being painted; windows share their memory.

    Attributes:
        photo: linear light, float32 (3, H, W).
        labels: region ids, uint8 (H, W).
        image_x, image_y: image coordinates of the pixel centers.
        x, y: head coordinates of the pixel centers.
        pixel: width of a pixel in head units.
        pose: the head's pose.
    """

    photo: Field
    labels: NDArray[np.uint8]
    image_x: Field
    image_y: Field
    x: Field
    y: Field
    pixel: float
    pose: Pose

    @classmethod
    def blank(cls, resolution: int, *, pose: Pose) -> "Canvas":
        """Return a black canvas of `resolution` x `resolution` pixels, all background."""
        centers = ((np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0).astype(np.float32)
        image_x, image_y = np.meshgrid(centers, centers)
        cos, sin = math.cos(pose.roll) / pose.scale, math.sin(pose.roll) / pose.scale
        dx, dy = image_x - pose.shift_x, image_y - pose.shift_y
        return cls(
            photo=np.zeros((3, resolution, resolution), np.float32),
            labels=np.zeros((resolution, resolution), np.uint8),
            image_x=image_x,
            image_y=image_y,
            x=cos * dx + sin * dy,
            y=cos * dy - sin * dx,
            pixel=2.0 / resolution / pose.scale,
            pose=pose,
        )

    def window(self, x0: float, x1: float, y0: float, y1: float) -> "Canvas":
        """Return the part of the canvas that covers a box given in head coordinates."""
        pose, size = self.pose, self.labels.shape
        cos, sin = math.cos(pose.roll) * pose.scale, math.sin(pose.roll) * pose.scale
        corners = [(x, y) for x in (x0, x1) for y in (y0, y1)]
        left, top = float(self.image_x[0, 0]), float(self.image_y[0, 0])
        per_unit = 1.0 / (self.pixel * pose.scale)
        columns = [(cos * x - sin * y + pose.shift_x - left) * per_unit for x, y in corners]
        rows = [(sin * x + cos * y + pose.shift_y - top) * per_unit for x, y in corners]
        box = (_span(rows, size[0]), _span(columns, size[1]))
        return Canvas(
            self.photo[:, box[0], box[1]],
            self.labels[box],
            self.image_x[box],
            self.image_y[box],
            self.x[box],
            self.y[box],
            self.pixel,
            pose,
        )

    def coverage(self, distance: Field, *, softness: float = 0.0) -> Field:
        """Return how much of each pixel a shape covers; `softness` blurs its edge (head units)."""
        covered: Field = np.clip(0.5 - distance / (self.pixel + softness), 0.0, 1.0)
        return covered

    def paint(
        self, coverage: Field, color: "Sequence[float] | Field", *, label: int | None = None
    ) -> None:
        """Blend a color, (3,) or (3, H, W), over the photo; label the pixels mostly covered."""
        for channel in range(3):
            plane = self.photo[channel]
            plane += coverage * (color[channel] - plane)
        if label is not None:
            self.labels[coverage > 0.5] = label

    def shade(self, darkness: Field, *, tint: Color = (1.0, 1.0, 1.0)) -> None:
        """Multiply the photo by `1 - darkness * tint`."""
        for channel in range(3):
            plane = self.photo[channel]
            plane *= 1.0 - darkness * tint[channel]

    def pixels(self) -> NDArray[np.uint8]:
        """Return the photo as sRGB, uint8 (H, W, 3), with a soft shoulder in the highlights."""
        light = np.maximum(self.photo, 0.0)
        light = light * (1.0 + 0.12 * light) / (1.0 + 0.30 * light * light)
        values = np.sqrt(np.minimum(light, 1.0)) * 255.0 + 0.5
        return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))


def _span(positions: Sequence[float], size: int) -> slice:
    first = min(max(math.floor(min(positions)) - 1, 0), size - 1)
    last = min(max(math.ceil(max(positions)) + 2, first + 1), size)
    return slice(first, last)


def color(text: str) -> Color:
    """Return linear light of an sRGB color written `rrggbb`."""
    red, green, blue = (int(text[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
    return red * red, green * green, blue * blue


def mix_color(first: Color, second: Color, amount: float) -> Color:
    """Return the color `amount` (0..1) of the way from the first to the second."""
    red, green, blue = (a + (b - a) * amount for a, b in zip(first, second, strict=True))
    return red, green, blue


def scale_color(base: Color, factor: float) -> Color:
    """Return a color times a factor."""
    return base[0] * factor, base[1] * factor, base[2] * factor


def smoothstep(low: float, high: float, value: Field) -> Field:
    """Return 0 below `low`, 1 above `high` and a smooth ramp between; reversed if low > high."""
    t: Field = np.clip((value - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def gaussian(x: Field, y: Field, width: float, height: float) -> Field:
    """Return a bell of height 1 around the origin."""
    bell: Field = np.exp(-(x * x) * (1.0 / (width * width)) - (y * y) * (1.0 / (height * height)))
    return bell


def ellipse(x: Field, y: Field, width: float, height: float) -> Field:
    """Signed distance to an ellipse with the given half axes, first order at the edge.

    Source: Inigo Quilez, "Ellipsoid - distance", the bound k0 (k0 - 1) / k1.
    """
    p, q = x * (1.0 / width), y * (1.0 / height)
    inner: Field = np.sqrt(p * p + q * q)
    slope = np.sqrt((p * (1.0 / width)) ** 2 + (q * (1.0 / height)) ** 2) + 1e-6
    return inner * (inner - 1.0) / slope


def rounded_box(x: Field, y: Field, width: float, height: float, radius: float) -> Field:
    """Signed distance to a box with the given half sides and rounded corners."""
    qx, qy = np.abs(x) - (width - radius), np.abs(y) - (height - radius)
    outside = np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0))
    return outside + np.minimum(np.maximum(qx, qy), 0.0) - radius


def smooth_max(first: Field, second: Field, rounding: float) -> Field:
    """Return the maximum of two distances (an intersection) with a rounded corner."""
    bump: Field = np.maximum(rounding - np.abs(first - second), 0.0)
    joined: Field = np.maximum(first, second) + bump * bump * (0.25 / rounding)
    return joined


def smooth_min(first: Field, second: Field, rounding: float) -> Field:
    """Return the minimum of two distances (a union) with a rounded corner."""
    joined: Field = -smooth_max(-first, -second, rounding)
    return joined


def profile(y: Field, knots: Sequence[tuple[float, float]]) -> Field:
    """Interpolate a half width over y, linearly between `(y, width)` knots."""
    positions, widths = zip(*knots, strict=True)
    half: Field = np.interp(y, positions, widths).astype(np.float32)
    return half


class Noise:
    """Smooth value noise in [-1, 1] over the plane, periodic, a pure function of its table."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._table = rng.uniform(-1.0, 1.0, _NOISE_CELLS * _NOISE_CELLS).astype(np.float32)

    def __call__(self, x: Field, y: Field) -> Field:
        """Return the noise at coordinates given in cells."""
        left, top = np.floor(x), np.floor(y)
        fx, fy = x - left, y - top
        fx *= fx * (3.0 - 2.0 * fx)
        fy *= fy * (3.0 - 2.0 * fy)
        column, row = left.astype(np.int32), top.astype(np.int32)
        mask = _NOISE_CELLS - 1
        column_next, row_next = (column + 1) & mask, ((row + 1) & mask) * _NOISE_CELLS
        column &= mask
        row = (row & mask) * _NOISE_CELLS
        take = self._table.take
        upper = take(row + column)
        upper += fx * (take(row + column_next) - upper)
        lower = take(row_next + column)
        lower += fx * (take(row_next + column_next) - lower)
        return upper + fy * (lower - upper)


@dataclass(frozen=True)
class Light:
    """A key light, a sky above, bounce from below and a rim light from behind."""

    direction: tuple[float, float, float]
    key: Color
    sky: Color
    ground: Color
    rim: Color
    rim_x: float


def lit(
    normal: tuple[Field, Field, Field],
    albedo: "Sequence[float] | Field",
    light: Light,
    *,
    wrap: Color = (0.35, 0.35, 0.35),
    gloss: float = 0.1,
    shininess: float = 24.0,
) -> Field:
    """Shade a surface; `wrap` softens the terminator per channel, as light does in skin.

    Args:
        normal: unit normals, three (H, W) fields; z points at the viewer.
        albedo: (3,) or (3, H, W), linear light.
        light: the lights of the scene.
        wrap: how far light reaches around the form, per channel, 0..1.
        gloss: strength of the highlight.
        shininess: exponent of the highlight (Blinn-Phong).

    Returns:
        Linear light, float32 (3, H, W).
    """
    nx, ny, nz = normal
    lx, ly, lz = light.direction
    facing = nx * lx + ny * ly + nz * lz
    upward = 0.5 - 0.5 * ny
    half = math.sqrt(lx * lx + ly * ly + (lz + 1.0) ** 2)
    glint = np.maximum((nx * lx + ny * ly + nz * (lz + 1.0)) * (1.0 / half), 0.0)
    glint = gloss * np.exp(shininess * (glint - 1.0))
    edge = np.maximum(1.0 - nz, 0.0)
    edge = edge**4 * np.maximum(nx * light.rim_x + 0.1, 0.0)
    out = np.empty((3, *nx.shape), np.float32)
    for channel in range(3):
        soft = wrap[channel]
        diffuse = np.maximum((facing + soft) * (1.0 / (1.0 + soft)), 0.0)
        sky, ground = light.sky[channel], light.ground[channel]
        diffuse *= light.key[channel]
        diffuse += ground + (sky - ground) * upward
        diffuse *= albedo[channel]
        diffuse += glint * light.key[channel] + edge * light.rim[channel]
        out[channel] = diffuse
    return out


def dome_normal(ex: Field, ey: Field) -> tuple[Field, Field, Field]:
    """Return the unit normals of a unit sphere over its disk coordinates, clamped at the rim."""
    square = ex * ex + ey * ey
    shrink = np.minimum(0.97 / np.sqrt(square + 1e-6), 1.0)
    nx, ny = ex * shrink, ey * shrink
    return nx, ny, np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
