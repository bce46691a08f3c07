"""Brows, eyes, nose, lips and mouth, painted in the coordinates of the frontal face."""

import numpy as np

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic.head import face_coordinates
from neural_photo_editor.data.synthetic.raster import (
    Canvas,
    Field,
    Noise,
    color,
    ellipse,
    gaussian,
    mix_color,
    scale_color,
    smooth_min,
    smoothstep,
)
from neural_photo_editor.data.synthetic.scene import Scene

EYE_LINE = 0.055
MOUTH_LINE = 0.655


def paint_features(canvas: Canvas, *, scene: Scene) -> None:
    """Paint the features of a head that is already there."""
    part = canvas.window(-0.75, 0.75, -0.5, 1.0)
    u, v = face_coordinates(part)
    _paint_nose(part, u, v, scene=scene)
    _paint_mouth(part, u, v, scene=scene)
    noise = Noise(scene.generator("features"))
    for side in (-1.0, 1.0):
        center = side * scene.face.eye_gap + 0.6 * scene.pose.yaw
        half = part.window(center - 0.32, center + 0.32, -0.48, 0.34)
        hu, hv = face_coordinates(half)
        _paint_eye(half, hu, hv, scene=scene, side=side, noise=noise)
        _paint_brow(half, hu, hv, scene=scene, side=side, noise=noise)


def _paint_nose(canvas: Canvas, u: Field, v: Field, *, scene: Scene) -> None:
    face, tip = scene.face, scene.face.nose_length
    along = np.clip((v + 0.02) / tip, 0.0, 1.0)
    bridge = np.maximum(np.abs(u) - (0.055 + 0.065 * along**2) * face.nose_width, -0.03 - v)
    bridge = np.maximum(bridge, v - tip)
    wings = ellipse(u, v - tip - 0.005, 0.185 * face.nose_width, 0.088)
    distance = smooth_min(bridge, wings, 0.08)
    canvas.labels[(distance < 0.0) & (canvas.labels == region_id("skin"))] = region_id("nose")
    side = np.abs(u)
    lx = scene.light.direction[0]
    under = gaussian(u + 0.10 * lx, v - tip - 0.105, 0.17 * face.nose_width, 0.035)
    flank = gaussian(side - 0.165 * face.nose_width, v - tip - 0.01, 0.022, 0.06)
    cast = gaussian(u + 0.24 * lx, v - tip + 0.02, 0.07, 0.16) * smoothstep(0.02, 0.08, -u * lx)
    canvas.shade(0.30 * under + 0.22 * flank + 0.25 * cast, tint=(0.72, 1.0, 1.0))
    lean = (side - 0.075 * face.nose_width) * 0.5
    nostril = ellipse(
        side - 0.078 * face.nose_width, v - tip - 0.062 + lean * 0.4, 0.042 * face.nose_width, 0.02
    )
    dark = canvas.coverage(nostril, softness=0.03)
    canvas.paint(dark * 0.8, scale_color(face.skin, 0.13))
    shine = gaussian(u + 0.03 - 0.05 * lx, v - tip + 0.045, 0.032, 0.03)
    shine += 0.4 * gaussian(u - 0.03 * lx, v - tip + 0.24, 0.02, 0.12)
    canvas.paint(0.22 * shine, scene.light.key)


def _paint_mouth(canvas: Canvas, u: Field, v: Field, *, scene: Scene) -> None:
    face = scene.face
    half = face.lip_width * (1.0 + 0.14 * max(face.smile, 0.0))
    x = u / half
    square = np.minimum(x * x, 1.4)
    line = MOUTH_LINE + 0.025 + 0.010 * np.cos(6.0 * x) * (1.0 - np.minimum(square, 1.0))
    line = line - (0.10 * face.smile + 0.042) * square
    taper = np.maximum(1.0 - square, 0.0)
    gap = face.mouth_open * (0.125 + 0.03 * max(face.smile, 0.0))
    upper_edge = line - 0.35 * gap * taper
    lower_edge = line + 1.1 * gap * taper**0.7
    bow = 1.0 - 0.28 * np.exp(-((x / 0.20) ** 2)) - 0.35 * square
    top = upper_edge - 0.098 * face.lip_fullness * bow * taper**0.75
    bottom = lower_edge + 0.112 * face.lip_fullness * taper**0.8
    lips = np.maximum(np.maximum(top - v, v - bottom), np.abs(u) - half)
    coverage = canvas.coverage(lips, softness=0.006)
    _shade_lips(canvas, x, v, scene=scene, edges=(top, upper_edge, lower_edge, bottom),
                coverage=coverage)  # fmt: skip
    if face.mouth_open:
        _paint_opening(canvas, u, v, scene=scene, upper=upper_edge, lower=lower_edge, half=half)
    else:
        seam = np.exp(-(((v - line) / 0.014) ** 2)) * smoothstep(1.06, 0.85, np.abs(x))
        canvas.paint(0.8 * seam, scale_color(face.lip_color, 0.16))
    corner = gaussian(np.abs(u) - half * 1.02, v - MOUTH_LINE - 0.025 + 0.10 * face.smile,
                      0.03, 0.025)  # fmt: skip
    below = gaussian(u, v - (MOUTH_LINE + 0.17 + 1.1 * gap), 0.15, 0.03)
    canvas.shade(0.42 * corner + 0.22 * below, tint=(0.75, 1.0, 1.0))


def _shade_lips(
    canvas: Canvas,
    x: Field,
    v: Field,
    *,
    scene: Scene,
    edges: tuple[Field, Field, Field, Field],
    coverage: Field,
) -> None:
    top, upper_edge, lower_edge, bottom = edges
    tall = np.clip((v - top) / np.maximum(upper_edge - top, 0.02), 0.0, 1.0)
    deep = np.clip((v - lower_edge) / np.maximum(bottom - lower_edge, 0.02), 0.0, 1.0)
    is_lower = v > 0.5 * (upper_edge + lower_edge)
    rounded = np.where(is_lower, 1.12 - 0.75 * (deep - 0.38) ** 2 * 2.0, 0.86 - 0.25 * tall)
    lx, ly, _ = scene.light.direction
    side_light = 1.0 + 0.22 * lx * x
    tone = (rounded * side_light * (0.62 - 0.25 * ly)).astype(np.float32)
    lip = scene.face.lip_color
    shaded = np.empty((3, *tone.shape), np.float32)
    creases = 1.0 + 0.05 * np.sin(x * 38.0) * min(1.0, 0.01 / canvas.pixel)
    gloss = 0.18 + 0.3 * scene.face.makeup
    glint = gloss * gaussian(x - 0.30 * lx, deep - 0.36, 0.34, 0.17) * is_lower
    glint = glint + 0.25 * gloss * np.exp(-((tall / 0.22) ** 2)) * ~is_lower
    for channel in range(3):
        shaded[channel] = lip[channel] * tone * creases + glint * scene.light.key[channel]
    canvas.paint(coverage * 0.94, shaded)
    canvas.labels[coverage > 0.5] = region_id("lip")


def _paint_opening(
    canvas: Canvas, u: Field, v: Field, *, scene: Scene, upper: Field, lower: Field, half: float
) -> None:
    inside = np.maximum(np.maximum(upper - v, v - lower), np.abs(u) - half * 0.93)
    coverage = canvas.coverage(inside)
    canvas.paint(coverage, color("3a0f12"), label=region_id("mouth"))
    tongue = ellipse(u, v - lower - 0.02, 0.15, 0.075)
    canvas.paint(coverage * canvas.coverage(tongue, softness=0.04) * 0.8, color("a9484c"))
    middle = MOUTH_LINE + 0.02 + 0.02 * scene.face.mouth_open
    teeth_edge = middle + 0.02 - (0.5 + 0.6 * max(scene.face.smile, 0.0)) * u * u
    teeth = np.maximum(v - teeth_edge, np.abs(u) - half * 0.90)
    gaps = 1.0 - 0.16 * np.exp(-(((np.mod(u / 0.052 + 0.5, 1.0) - 0.5) / 0.09) ** 2)) * min(
        1.0, 0.012 / canvas.pixel
    )
    round_off = gaps * (0.92 - 3.2 * u * u) * smoothstep(-0.02, 0.03, v - upper)
    white = color("f4efe6")
    enamel = np.stack([channel * (0.25 + 0.62 * round_off) for channel in white])
    canvas.paint(coverage * canvas.coverage(teeth, softness=0.008), enamel.astype(np.float32))


def _paint_eye(
    canvas: Canvas, u: Field, v: Field, *, scene: Scene, side: float, noise: Noise
) -> None:
    face = scene.face
    width = face.eye_width
    x, y = (u * side - face.eye_gap) / width, (v - EYE_LINE) / width
    y = y + face.eye_tilt * 1.6 * x
    bent = x + 0.10 * (1.0 - np.minimum(x * x, 1.0))
    arch = np.maximum(1.0 - bent * bent, 0.0)
    squint = 0.10 * max(face.smile, 0.0)
    lift = 0.525 * face.eye_open
    upper = -lift * arch**0.75 + 0.02
    lower = (0.36 - squint) * np.maximum(1.0 - x * x, 0.0) + 0.02
    distance = np.maximum(upper - y, y - lower) * width
    distance = np.maximum(distance, (np.abs(x) - 1.0) * width)
    crease = np.exp(-(((y - upper + 0.24) / 0.09) ** 2)) * smoothstep(1.15, 0.75, np.abs(x))
    bag = gaussian(x, y - 0.62, 0.75, 0.12) * (0.35 + 0.6 * face.age)
    canvas.shade(0.40 * crease + 0.18 * bag, tint=(0.75, 1.0, 1.0))

    coverage = canvas.coverage(distance)
    ball = (0.97 - 0.30 * x * x) * (0.52 + 0.42 * smoothstep(-0.02, 0.40, y - upper))
    white = color("eee9e4")
    canvas.paint(
        coverage,
        np.stack([channel * ball for channel in white]).astype(np.float32),
        label=region_id("eye"),
    )
    canvas.paint(coverage * gaussian(x + 0.95, y, 0.14, 0.14) * 0.8, color("c98078"))
    _paint_iris(canvas, x, y, coverage, scene=scene, side=side, noise=noise, upper=upper)

    lash = 0.075 + 0.055 * face.makeup
    ends = smoothstep(1.20, 0.92, x) * smoothstep(1.03, 0.80, -x)
    edge = np.where(np.abs(x) < 1.0, upper, 0.02 - 0.55 * np.maximum(x - 1.0, 0.0))
    reach = np.abs(y - edge + lash * 0.35) - lash * ends * (0.72 + 0.38 * smoothstep(-0.9, 0.9, x))
    line = canvas.coverage(reach * width, softness=0.006) * np.minimum(ends * 4.0, 1.0)
    canvas.paint(line * 0.93, color("1c1310"))
    rim = np.exp(-(((y - lower) / 0.055) ** 2)) * smoothstep(1.02, 0.8, np.abs(x))
    canvas.paint(rim * 0.45, mix_color(scale_color(face.skin, 0.45), color("7a3a34"), 0.4))


def _paint_iris(
    canvas: Canvas,
    x: Field,
    y: Field,
    coverage: Field,
    *,
    scene: Scene,
    side: float,
    noise: Noise,
    upper: Field,
) -> None:
    face = scene.face
    dx, dy = x - face.gaze[0] * side, y - face.gaze[1] + 0.08
    radius = np.sqrt(dx * dx + dy * dy) * (1.0 / 0.455)
    angle = np.arctan2(dy, dx)
    fibers = 0.16 * noise(angle * 9.0, radius * 3.0) * min(1.0, 0.01 / canvas.pixel)
    glow = 0.62 + 0.75 * smoothstep(-0.3, 0.35, dy) + fibers
    limbus = 1.0 - 0.72 * smoothstep(0.72, 1.02, radius)
    lid_shadow = 0.45 + 0.55 * smoothstep(0.0, 0.34, y - upper)
    tone = glow * limbus * lid_shadow
    iris = np.stack([(0.02 + 1.15 * channel) * tone for channel in face.iris]).astype(np.float32)
    reach = 0.455 * face.eye_width
    canvas.paint(coverage * canvas.coverage((radius - 1.0) * reach, softness=0.006), iris)
    pupil = canvas.coverage((radius - 0.42) * reach, softness=0.006)
    canvas.paint(coverage * pupil, color("0c0909"))
    lx = scene.light.direction[0] * side
    glint = ellipse(dx - 0.20 * np.sign(lx), dy + 0.17, 0.115, 0.125) * face.eye_width
    canvas.paint(coverage * canvas.coverage(glint, softness=0.005) * 0.95, (1.0, 1.0, 0.98))
    soft = gaussian(dx + 0.18 * np.sign(lx), dy - 0.20, 0.12, 0.10)
    canvas.paint(coverage * soft * 0.35, (0.9, 0.95, 1.0))


def _paint_brow(
    canvas: Canvas, u: Field, v: Field, *, scene: Scene, side: float, noise: Noise
) -> None:
    face = scene.face
    x = (u * side - face.eye_gap - 0.005) / (face.eye_width * 1.28)
    bend = np.where(x < 0.3, 0.32, 1.35)
    arch = face.brow_arch * (1.0 - (x - 0.3) ** 2 * bend)
    y = v - (face.brow_height + 0.045 - arch) + 0.02 * face.mouth_open
    thickness = (
        face.brow_thickness
        * (1.0 - 0.55 * smoothstep(0.0, 1.1, x))
        * smoothstep(1.35, 0.6, np.abs(x))
    )
    ragged = 0.012 * noise(x * 16.0 + y * 60.0, y * 10.0 + 3.0)
    distance = np.maximum(np.abs(y) - thickness, (np.abs(x) - 1.05) * face.eye_width) + ragged
    fade = min(1.0, 0.012 / canvas.pixel)
    strands = 1.0 + 0.35 * fade * noise(x * 26.0 + y * 90.0, y * 30.0)
    tint = np.stack([channel * strands for channel in face.brow_color]).astype(np.float32)
    coverage = canvas.coverage(distance, softness=0.02)
    canvas.paint(coverage * 0.92, tint)
    canvas.labels[coverage > 0.5] = region_id("brow")
