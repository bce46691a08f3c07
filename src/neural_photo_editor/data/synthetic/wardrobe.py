"""Clothing, hats, glasses and jewelry."""

import math

import numpy as np

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic.features import EYE_LINE
from neural_photo_editor.data.synthetic.head import face_coordinates
from neural_photo_editor.data.synthetic.raster import (
    Canvas,
    Field,
    Noise,
    dome_normal,
    ellipse,
    lit,
    profile,
    rounded_box,
    scale_color,
    smooth_max,
    smoothstep,
)
from neural_photo_editor.data.synthetic.scene import Scene

CLOTH = region_id("background")


def paint_clothes(canvas: Canvas, *, scene: Scene) -> None:
    """Paint shoulders and neckline; clothing counts as background, as in CelebAMask-HQ."""
    outfit, width = scene.outfit, scene.outfit.shoulders
    x, y = canvas.x, canvas.y
    side = np.abs(x)
    rise = 1.16 + 0.16 * smoothstep(0.35, 0.75, side) + 0.10 * (side - 0.75)
    round_off = np.maximum(side - width + 0.35, 0.0)
    body = (rise + 1.1 * round_off**2 - y) * 0.9
    depth = {"crew": 1.33, "vee": 1.70, "shirt": 1.50, "scoop": 1.46, "roll": 1.10}
    bottom = depth[outfit.neckline]
    if outfit.neckline in ("vee", "shirt"):
        hole = (side - 0.52 * (bottom - y) / (bottom - 1.10)) * 0.8
    elif outfit.neckline == "roll":
        body = np.minimum(body, rounded_box(x, y - 1.30, 0.46, 0.22, 0.06))
        hole = np.full_like(x, 1.0)
    else:
        hole = ellipse(x, y - 1.0, 0.56, bottom - 1.0)
    distance = np.maximum(body, -hole)
    normal = dome_normal(x * (0.75 / width), np.clip((y - 1.75) * 0.9, -0.6, 0.5))
    noise = Noise(scene.generator("clothes"))
    fabric = 1.0 + 0.10 * noise(x * 2.5 + 0.8 * y, y * 1.8) + 0.05 * noise(x * 7.0, y * 5.0)
    fine = min(1.0, 0.012 / canvas.pixel)
    if outfit.pattern == "knit":
        fabric = fabric + 0.13 * fine * np.sin(x * 95.0) * np.cos(y * 60.0)
    albedo = np.stack([fabric * channel for channel in outfit.clothes]).astype(np.float32)
    if outfit.pattern == "stripes":
        stripe = smoothstep(-0.25, 0.25, np.sin((y + 0.1 * x * x) * 24.0))
        for channel in range(3):
            albedo[channel] += stripe * (outfit.trim[channel] * fabric - albedo[channel])
    shaded = lit(normal, albedo, scene.light, gloss=0.02)
    hem = np.exp(-(((hole - 0.035) / 0.012) ** 2)) + smoothstep(0.03, 0.0, hole)
    coverage = canvas.coverage(np.asarray(distance, np.float32))
    under = smoothstep(0.10, 0.0, distance) * (canvas.labels == region_id("neck"))
    canvas.shade(0.35 * under, tint=(0.8, 1.0, 1.0))
    canvas.paint(coverage, shaded * (1.0 - 0.22 * np.minimum(hem, 1.0)), label=CLOTH)
    if outfit.neckline == "shirt":
        _paint_collar(canvas, scene=scene, bottom=bottom)
    elif outfit.neckline == "roll":
        folds = np.abs(np.sin((y - 1.1) * 15.0)) * (np.abs(x) < 0.47) * (y < 1.5)
        canvas.shade(coverage * 0.18 * folds)


def _paint_collar(canvas: Canvas, *, scene: Scene, bottom: float) -> None:
    x, y = np.abs(canvas.x), canvas.y
    edge = 0.52 * (bottom - y) / (bottom - 1.10)
    flap = np.maximum(edge - 0.02 - x, x - edge - 0.13 - 0.25 * (y - 1.1))
    flap = np.maximum(flap, 1.11 + 0.9 * np.maximum(x - 0.42, 0.0) - y)
    flap = np.maximum(flap, y - bottom - 0.06 + 0.55 * x) * 0.85
    trim = scale_color(scene.outfit.clothes, 1.25)
    glow = lit(dome_normal(canvas.x * 0.5, -0.2 + 0.0 * y), trim, scene.light, gloss=0.02)
    canvas.shade(0.3 * canvas.coverage(flap - 0.01, softness=0.06))
    canvas.paint(canvas.coverage(flap), glow, label=CLOTH)


def paint_hat(canvas: Canvas, *, scene: Scene) -> None:
    """Paint the hat over the hair and its shadow on the forehead."""
    kind = scene.outfit.hat
    if kind is None:
        return
    part = canvas.window(-1.5, 1.5, -1.75, 0.4)
    u, v = face_coordinates(part)
    line = scene.outfit.hat_line + (0.10 if kind == "cap" else 0.0)
    fit = 0.745 * scene.face.width + 0.09
    if scene.hair.style in ("curly", "wavy", "bob"):
        fit += 0.05
    band = line + 0.11 * (1.0 - (u / 0.8) ** 2)
    under = np.clip(1.0 - (v - band) / 0.30, 0.0, 1.0) * (v > band - 0.1)
    skin = (part.labels != 0) & (part.labels != region_id("hair"))
    part.shade(0.55 * under * under * skin, tint=(0.85, 1.0, 1.0))
    noise = Noise(scene.generator("hat"))
    painter = {"beanie": _beanie, "cap": _cap, "fedora": _fedora, "bucket": _bucket}[kind]
    painter(part, v - band, fit, scene, noise)


def _crown(
    canvas: Canvas, distance: Field, *, scene: Scene, fit: float, tall: float, texture: Field
) -> None:
    normal = dome_normal(canvas.x / fit * 0.93, np.clip((canvas.y + 0.35) / tall, -0.93, 0.1))
    base = scene.outfit.hat_color
    albedo = np.stack([channel * texture for channel in base]).astype(np.float32)
    shaded = lit(normal, albedo, scene.light, gloss=0.03)
    canvas.paint(canvas.coverage(distance), shaded, label=region_id("hat"))


def _beanie(canvas: Canvas, above: Field, fit: float, scene: Scene, noise: Noise) -> None:
    x, y = canvas.x, canvas.y
    around = np.arcsin(np.clip(x / (fit + 0.04), -0.99, 0.99))
    fine = min(1.0, 0.03 / canvas.pixel)
    ribs = 1.0 + 0.22 * fine * np.sin(around * 46.0) + 0.08 * noise(around * 24.0, y * 22.0)
    if scene.outfit.pompom:
        ball = ellipse(x, y + 1.30, 0.24, 0.22) + 0.04 * noise(x * 16.0, y * 16.0)
        fluff = 1.0 + 0.35 * noise(x * 22.0, y * 22.0)
        normal = dome_normal(x * 4.0, (y + 1.30) * 4.2)
        tint = np.stack([c * fluff for c in scene.outfit.hat_trim]).astype(np.float32)
        canvas.paint(
            canvas.coverage(ball, softness=0.02), lit(normal, tint, scene.light),
            label=region_id("hat"),
        )  # fmt: skip
    dome = np.maximum(ellipse(x, y + 0.30, fit + 0.02, 0.90), above)
    _crown(canvas, dome, scene=scene, fit=fit, tall=0.9, texture=ribs)
    cuff = rounded_box(x, above + 0.12, fit + 0.045, 0.14, 0.09)
    rounded = (above + 0.12) / 0.135
    normal = dome_normal(x / (fit + 0.04) * 0.93, np.clip(rounded, -1, 1) * 0.55)
    ribs = 1.0 + 0.26 * fine * np.sin(around * 40.0)
    tint = np.stack([c * ribs * 1.12 for c in scene.outfit.hat_color]).astype(np.float32)
    canvas.shade(
        0.35 * canvas.coverage(cuff - 0.015, softness=0.06) * (canvas.labels == region_id("hat"))
    )
    canvas.paint(canvas.coverage(cuff), lit(normal, tint, scene.light), label=region_id("hat"))


def _cap(canvas: Canvas, above: Field, fit: float, scene: Scene, noise: Noise) -> None:
    x, y = canvas.x, canvas.y
    turn = 0.9 * math.sin(scene.pose.yaw)
    seam_x = x - turn * 0.5
    texture = 1.0 + 0.05 * noise(x * 6.0, y * 6.0)
    for bend in (0.0, 0.85, -0.85):
        curve = seam_x - bend * 0.62 * fit * np.sqrt(np.maximum(1.0 - ((y + 1.2) / 1.0 - 1.0) ** 2,
                                                               0.02))  # fmt: skip
        texture = texture - 0.25 * np.exp(-((curve / 0.014) ** 2))
    dome = np.maximum(ellipse(x, y + 0.32, fit, 0.86), above)
    _crown(canvas, dome, scene=scene, fit=fit, tall=0.88, texture=texture)
    shift = x - turn * 0.35
    lip = ellipse(shift, above + 0.05, 0.66, 0.25)
    visor = np.maximum(lip, -0.10 - 0.10 * shift * shift - above)
    light_top = 0.5 + 0.65 * smoothstep(0.17, -0.04, above) * smoothstep(-0.12, -0.02, above)
    stitch = 1.0 - 0.15 * np.exp(-(((lip + 0.045) / 0.01) ** 2))
    normal = dome_normal(shift * 0.8, -0.55 + 0.0 * y)
    tint = np.stack([c * light_top * stitch for c in scene.outfit.hat_trim]).astype(np.float32)
    canvas.shade(0.45 * canvas.coverage(visor - 0.05, softness=0.16))
    canvas.paint(canvas.coverage(visor), lit(normal, tint, scene.light, gloss=0.05),
                 label=region_id("hat"))  # fmt: skip


def _fedora(canvas: Canvas, _: Field, fit: float, scene: Scene, noise: Noise) -> None:
    x, y = canvas.x, canvas.y
    level = scene.outfit.hat_line + 0.02
    felt = 1.0 + 0.07 * noise(x * 30.0, y * 30.0) * min(1.0, 0.02 / canvas.pixel)
    brim_line = y - level + 0.16 * (x / 1.1) ** 2
    brim = ellipse(x, brim_line, fit + 0.44, 0.15)
    normal = dome_normal(x * 0.45, -0.6 + 1.5 * brim_line)
    tint = np.stack([c * felt for c in scene.outfit.hat_color]).astype(np.float32)
    canvas.paint(canvas.coverage(brim), lit(normal, tint, scene.light), label=region_id("hat"))
    canvas.shade(0.45 * canvas.coverage(brim, softness=0.02) * smoothstep(0.02, 0.15, brim_line))
    top = -1.30 + 0.08 * np.exp(-((x / 0.16) ** 2)) + 0.35 * np.abs(x) ** 3
    half = profile(y, ((-1.33, fit - 0.17), (-0.9, fit - 0.06), (level, fit + 0.02)))
    crown = np.maximum(np.maximum(np.abs(x) - half, top - y), y - level - 0.05 + 0.1 * x * x)
    dents = felt - 0.28 * np.exp(
        -(((np.abs(x) - 0.30 - 0.2 * (y + 1.3)) / 0.09) ** 2)
    ) * smoothstep(-0.8, -1.3, y)
    _crown(canvas, crown, scene=scene, fit=fit, tall=1.3, texture=dents)
    ribbon = np.maximum(crown, np.abs(y - level + 0.075 + 0.06 * x * x) - 0.095)
    normal = dome_normal(x / fit * 0.93, 0.0 * y)
    canvas.paint(
        canvas.coverage(ribbon), lit(normal, scene.outfit.hat_trim, scene.light, gloss=0.06),
        label=region_id("hat"),
    )  # fmt: skip


def _bucket(canvas: Canvas, _: Field, fit: float, scene: Scene, noise: Noise) -> None:
    x, y = canvas.x, canvas.y
    weave = 1.0 + 0.06 * noise(x * 40.0, y * 40.0) * min(1.0, 0.015 / canvas.pixel)
    level = scene.outfit.hat_line - 0.04
    half = profile(y, ((-1.20, fit - 0.16), (level, fit + 0.03)))
    crown = smooth_max(np.abs(x) - half, -1.12 + 0.14 * x * x - y, 0.22)
    crown = np.maximum(crown, y - level - 0.1)
    _crown(canvas, crown, scene=scene, fit=fit, tall=1.2, texture=weave)
    flare = profile(y, ((level - 0.05, fit + 0.02), (level + 0.32, fit + 0.36)))
    sag = 0.13 * (1.0 - (x / fit) ** 2)
    brim = np.maximum(np.abs(x) - flare, level - 0.10 + sag * 0.6 - y)
    brim = smooth_max(brim, y - level - 0.14 - sag, 0.06)
    rings = weave - 0.12 * _fine_lines((y - level - sag * 0.8) / 0.05, canvas.pixel)
    normal = dome_normal(x * 0.72, -0.45 + 0.0 * y)
    tint = np.stack([c * rings for c in scene.outfit.hat_color]).astype(np.float32)
    canvas.shade(0.4 * canvas.coverage(brim - 0.02, softness=0.10) * (canvas.labels != 0))
    canvas.paint(canvas.coverage(brim), lit(normal, tint, scene.light), label=region_id("hat"))


def _fine_lines(phase: Field, pixel: float) -> Field:
    """Return thin periodic lines, 0..1, faded where pixels cannot hold them."""
    return np.exp(-(((np.mod(phase, 1.0) - 0.5) / 0.12) ** 2)) * min(1.0, 0.012 / pixel)


def paint_glasses(canvas: Canvas, *, scene: Scene) -> None:
    """Paint glasses; CelebAMask-HQ's class for them counts as skin."""
    outfit = scene.outfit
    if outfit.glasses is None:
        return
    part = canvas.window(-0.9, 0.9, -0.3, 0.42)
    u, v = face_coordinates(part)
    side, y = np.abs(u) - 0.325, v - EYE_LINE - 0.02
    if outfit.glasses == "round":
        lens = ellipse(side, y, 0.235, 0.215)
    else:
        lens = rounded_box(side, y - 0.15 * side * side, 0.245, 0.175, 0.07)
    bridge = np.abs(v - EYE_LINE + 0.03 + 0.25 * u * u) - 0.018
    bridge = np.maximum(bridge, np.abs(u) - 0.11)
    arm = np.maximum(np.abs(y + 0.05) - 0.018, np.maximum(0.55 - np.abs(u), np.abs(u) - 0.8))
    frame = np.minimum(np.abs(lens) - 0.021, np.minimum(bridge, arm))
    on_face = (part.labels != 0) & (part.labels != region_id("hair"))
    inside = part.coverage(lens)
    part.paint(inside * outfit.lens_tint, scale_color(scene.backdrop.top, 0.8))
    slant = smoothstep(0.10, 0.0, np.abs(side + 0.45 * y + 0.06) - 0.03)
    part.paint(inside * slant * 0.13, (1.0, 1.0, 1.0))
    part.shade(0.30 * part.coverage(frame, softness=0.07) * on_face)
    shine = 0.25 * np.exp(-(((frame + 0.012) / 0.008) ** 2)) * smoothstep(0.1, -0.2, y)
    tint = np.stack([channel + shine * 0.5 for channel in outfit.frame]).astype(np.float32)
    visible = part.coverage(frame) * on_face
    part.paint(visible, tint, label=region_id("skin"))


def paint_jewelry(canvas: Canvas, *, scene: Scene) -> None:
    """Paint earrings (they count as ear) where the ears show, and a necklace (neck)."""
    outfit = scene.outfit
    if outfit.necklace and outfit.neckline in ("vee", "scoop", "crew"):
        arc = np.abs(canvas.y - 1.24 + 0.55 * canvas.x**2) - 0.014
        on_neck = canvas.labels == region_id("neck")
        canvas.paint(canvas.coverage(arc) * on_neck, outfit.metal)
    if outfit.earring is None or scene.hair.covers_ears:
        return
    for side in (-1.0, 1.0):
        center = side * 0.735 * scene.face.width - 0.16 * math.sin(scene.pose.yaw)
        part = canvas.window(center - 0.2, center + 0.2, 0.2, 0.75)
        x, y = part.x - center, part.y - 0.37
        if outfit.earring == "stud":
            distance = np.hypot(x, y + 0.02) - 0.04
        else:
            distance = np.abs(np.hypot(x, y - 0.11) - 0.11) - 0.02
        on_head = np.isin(part.labels, (region_id("skin"), region_id("hair")))
        coverage = part.coverage(distance) * ~on_head
        glow = 0.55 + 0.9 * np.clip(-(x * 4.0 + y * 5.0) + 0.4, 0.0, 1.2)
        tint = np.stack([channel * glow for channel in outfit.metal]).astype(np.float32)
        part.paint(coverage, tint, label=region_id("ear"))
