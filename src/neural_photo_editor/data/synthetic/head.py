"""Ears, neck, and the head itself: outline, relief and skin."""

import math

import numpy as np

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic.raster import (
    Canvas,
    Color,
    Field,
    Noise,
    color,
    dome_normal,
    ellipse,
    gaussian,
    lit,
    mix_color,
    profile,
    scale_color,
    smooth_min,
    smoothstep,
)
from neural_photo_editor.data.synthetic.scene import Face, Scene

SKIN_WRAP: Color = (0.55, 0.38, 0.32)
_OUTLINE = np.array([1.0, 0.945, 0.795, 0.742, 0.742, 0.82, 0.925, 0.965])

Bump = tuple[float, float, float, float, float]


def face_coordinates(canvas: Canvas) -> tuple[Field, Field]:
    """Return where each pixel lies on the frontal face: head coordinates with the turn undone."""
    depth = np.sqrt(np.maximum(1.0 - canvas.x**2 - 0.64 * canvas.y**2, 0.12))
    yaw, pitch = canvas.pose.yaw, canvas.pose.pitch
    u = canvas.x * math.cos(yaw) - 0.75 * math.sin(yaw) * depth
    v = canvas.y * math.cos(pitch) - 0.75 * math.sin(pitch) * depth
    return u, v


def face_outline(x: Field, y: Field, *, face: Face, yaw: float) -> Field:
    """Signed distance to the head's outline: a radius that is a polynomial of the cosine.

    The radii at eight equally spaced angles from the chin (0) to the crown (pi) are interpolated
    by Chebyshev polynomials, so the outline is smooth and symmetric.
    """
    shape = np.zeros(8)
    shape[:4] = (face.chin, face.chin * 0.3 + face.jaw * 0.6, face.jaw, face.jaw * 0.3)
    angles = np.linspace(0.0, np.pi, 8)
    coefficients = np.polynomial.chebyshev.chebfit(np.cos(angles), _OUTLINE + shape, 7)
    powers = np.polynomial.chebyshev.cheb2poly(coefficients)
    px = (x - 0.12 * math.sin(yaw) * y) * (1.0 / face.width)
    radius = np.sqrt(px * px + y * y) + 1e-6
    cosine = y / radius
    edge = np.full_like(radius, powers[-1])
    for power in powers[-2::-1]:
        edge *= cosine
        edge += power
    return np.asarray((radius - edge) * 0.97, np.float32)


def paint_ears(canvas: Canvas, *, scene: Scene) -> None:
    """Paint both ears behind the head, with a helix and a shaded bowl."""
    if scene.hair.covers_ears:
        return
    face, turn = scene.face, math.sin(scene.pose.yaw)
    skin = mix_color(face.skin, (face.skin[0], face.skin[1] * 0.7, face.skin[2] * 0.65), 0.45)
    for side in (-1.0, 1.0):
        center = side * 0.765 * face.width - 0.16 * turn
        part = canvas.window(center - 0.24, center + 0.24, -0.24, 0.52)
        size = face.ear_size
        x, y = (part.x - center) * side / size, (part.y - 0.09) / size
        x = x + 0.14 * y - 0.01
        upper = ellipse(x, y + 0.06, 0.125, 0.19)
        lobe = ellipse(x + 0.035, y - 0.15, 0.075, 0.11)
        distance = smooth_min(upper, lobe, 0.08)
        normal = dome_normal(side * (x * 4.0 + 0.1), y * 3.2)
        shaded = lit(normal, skin, scene.light, wrap=SKIN_WRAP, gloss=0.06)
        part.paint(part.coverage(distance), shaded, label=region_id("ear"))
        bowl = gaussian(x + 0.035, y + 0.01, 0.05, 0.10)
        groove = np.exp(-(((distance + 0.042) / 0.014) ** 2)) * smoothstep(0.14, 0.02, y)
        inside = part.coverage(distance + 0.01, softness=0.03)
        part.shade(inside * (0.5 * bowl + 0.28 * groove), tint=(0.75, 1.0, 1.0))


def paint_neck(canvas: Canvas, *, scene: Scene, outline: Field) -> None:
    """Paint the neck, in the shadow of the chin."""
    face = scene.face
    width = 0.43 + 1.2 * max(face.jaw, -0.02) + 0.4 * (face.width - 0.97)
    lean = 0.10 * math.sin(scene.pose.yaw)
    half = profile(canvas.y, ((0.5, width), (1.0, width * 0.97), (1.3, width * 1.12), (1.7, 1.0)))
    x = canvas.x - lean * smoothstep(1.5, 0.6, canvas.y) * 0.5
    distance = np.maximum(np.abs(x) - half, 0.3 - canvas.y)
    ex = np.clip(x / half, -1.0, 1.0)
    cords = 0.25 * gaussian(np.abs(x) - 0.17 - 0.1 * (1.4 - canvas.y), canvas.y * 0.0, 0.05, 1.0)
    normal = dome_normal(ex * 0.93, cords * 0.5)
    shaded = lit(normal, scale_color(face.skin, 0.93), scene.light, wrap=SKIN_WRAP, gloss=0.03)
    coverage = canvas.coverage(distance)
    canvas.paint(coverage, shaded, label=region_id("neck"))
    lx = scene.light.direction[0]
    below = outline + 0.10 * lx * x
    shadow = smoothstep(0.34, 0.02, below) * smoothstep(0.4, 0.7, canvas.y)
    canvas.shade(coverage * shadow * 0.62, tint=(0.82, 1.0, 1.0))


def _relief(u: Field, v: Field, face: Face) -> Field:
    """Return the height of the face's forms over the skull, in head units."""
    nose, tip = face.nose_width, face.nose_length
    bumps: list[Bump] = [
        (0.0, tip - 0.26, 0.072 * nose, 0.20, 0.075),
        (0.0, tip - 0.02, 0.105 * nose, 0.085, 0.115),
        (0.115 * nose, tip + 0.02, 0.06, 0.055, 0.042),
        (0.30, -0.16, 0.24, 0.085, 0.032),
        (0.27, 0.05, 0.16, 0.11, -0.05),
        (0.43, 0.31, 0.19, 0.16, 0.042 * face.cheeks + 0.02 * max(face.smile, 0.0)),
        (0.0, 0.93, 0.17, 0.11, 0.045),
        (0.0, 0.655, 0.27, 0.15, 0.035),
        (0.0, 0.805, 0.15, 0.04, -0.02),
        (0.0, tip + 0.13, 0.035, 0.06, -0.012),
        (0.0, -0.55, 0.42, 0.28, 0.03),
    ]
    side = np.abs(u)
    height = np.zeros_like(u)
    for x, y, width, tall, amount in bumps:
        height += amount * gaussian(side - x, v - y, width, tall)
    fold = side - (0.17 + 0.55 * (v - 0.42) - 0.30 * np.maximum(v - 0.6, 0.0))
    depth = 0.006 * (0.35 + max(face.smile, 0.0) * 0.8 + face.age)
    height -= depth * gaussian(fold, v - 0.54, 0.03, 0.13)
    return height


def _skin_albedo(canvas: Canvas, u: Field, v: Field, *, face: Face, noise: Noise) -> Field:
    side = np.abs(u)
    red = 0.55 * face.blush * gaussian(side - 0.43, v - 0.31, 0.17, 0.13)
    red += 0.30 * gaussian(u, v - face.nose_length, 0.10, 0.08)
    red += 0.18 * gaussian(u, v - 0.93, 0.16, 0.08)
    red += 0.06 * noise(u * 5.0 + 11.0, v * 5.0)
    dark = 0.16 * gaussian(side - 0.30, v - 0.07, 0.17, 0.10) + 0.03 * noise(u * 14.0, v * 14.0)
    dark += 0.55 * face.makeup**2 * gaussian(side - 0.33, v + 0.035, 0.15, 0.055)
    if face.freckles:
        spots = noise(u * 42.0 + 7.0, v * 42.0) * min(1.0, 0.016 / canvas.pixel)
        where = gaussian(side - 0.22, v - 0.27, 0.27, 0.13)
        dark += 0.45 * face.freckles * where * np.clip(spots * 2.4 - 0.75, 0.0, 1.0)
    albedo = np.empty((3, *u.shape), np.float32)
    for channel, blush, shade in ((0, 0.04, 0.75), (1, -0.42, 1.0), (2, -0.36, 1.05)):
        albedo[channel] = face.skin[channel] * (1.0 + blush * red) * (1.0 - shade * dark)
    return albedo


def _beard(canvas: Canvas, u: Field, v: Field, *, scene: Scene, noise: Noise) -> Field:
    """Return how densely the beard covers the skin, 0..1."""
    face, side = scene.face, np.abs(u)
    jawline = smoothstep(-0.04, 0.20, v - (0.52 - 0.45 * smoothstep(0.28, 0.62, side)))
    density = jawline * smoothstep(-0.10, 0.06, ellipse(u, v - 0.665, 0.31, 0.125))
    if scene.face.mustache:
        lip_top = face.nose_length + 0.085
        strip = gaussian(v - lip_top - 0.05 - 0.9 * u * u, u * 0.0, 0.05, 1.0)
        density = np.maximum(density, strip * smoothstep(0.34, 0.22, side))
    fade = min(1.0, 0.02 / canvas.pixel)
    hairs = 0.55 + 0.28 * fade * noise(u * 85.0 + 9.0 * v, v * 30.0)
    hairs = hairs + 0.17 * noise(u * 13.0 + 40.0, v * 9.0)
    cover: Field = np.clip(density * (0.45 + 0.75 * hairs), 0.0, 1.0) * face.beard
    return cover


def paint_head(canvas: Canvas, *, scene: Scene, outline: Field) -> None:
    """Paint the head's skin: relief, blush, freckles, beard, and the shading of it all."""
    face = scene.face
    noise = Noise(scene.generator("skin"))
    u, v = face_coordinates(canvas)
    height = _relief(u, v, face)
    slope_y, slope_x = np.gradient(height, canvas.pixel)
    ex, ey = canvas.x * (0.92 / (0.78 * face.width)), (canvas.y - 0.02) * (0.86 / 1.03)
    nx, ny, nz = dome_normal(ex * np.abs(ex) ** 0.35, ey * np.abs(ey) ** 0.35)
    roll = canvas.pose.roll
    slope_x, slope_y = 1.4 * slope_x, 1.4 * slope_y
    nx = nx - math.cos(roll) * slope_x - math.sin(roll) * slope_y
    ny = ny - math.cos(roll) * slope_y + math.sin(roll) * slope_x
    length = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-6)
    albedo = _skin_albedo(canvas, u, v, face=face, noise=noise)
    if face.beard:
        beard = _beard(canvas, u, v, scene=scene, noise=noise)
        tone = mix_color(face.brow_color, color("2a1d16"), 0.3)
        for channel in range(3):
            albedo[channel] += 0.88 * beard * (tone[channel] - albedo[channel])
    shaded = lit(
        (nx * length, ny * length, nz * length),
        albedo,
        scene.light,
        wrap=SKIN_WRAP,
        gloss=0.10,
        shininess=22.0,
    )
    shaded *= 1.0 - 0.30 * smoothstep(-0.16, 0.02, outline)
    canvas.paint(canvas.coverage(outline), shaded, label=region_id("skin"))
