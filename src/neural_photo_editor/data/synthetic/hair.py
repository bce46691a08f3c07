"""Hair: a mass around the skull, an opening for the face, and strands that flow from the crown."""

from dataclasses import dataclass

import numpy as np

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic.head import face_coordinates
from neural_photo_editor.data.synthetic.raster import (
    Canvas,
    Field,
    Noise,
    dome_normal,
    ellipse,
    lit,
    profile,
    smooth_max,
    smooth_min,
    smoothstep,
)
from neural_photo_editor.data.synthetic.scene import COVERING_STYLES, Hair, Scene

_CENTER_Y = -0.14
_SIDE = {"buzz": 0.035, "short": 0.07, "quiff": 0.055, "curly": 0.17, "afro": 0.36, "bun": 0.045,
         "ponytail": 0.05, "bob": 0.15, "long": 0.12, "wavy": 0.16}  # fmt: skip
_TOP = {"buzz": 0.045, "short": 0.17, "quiff": 0.25, "curly": 0.24, "afro": 0.36, "bun": 0.085,
        "ponytail": 0.09, "bob": 0.19, "long": 0.18, "wavy": 0.21}  # fmt: skip

# Half widths of the face's window over the height of the face.
_OPENINGS = {
    "framed": ((-0.4, 0.60), (0.2, 0.635), (0.8, 0.56), (1.2, 0.50), (2.4, 0.62)),
    "tucked": ((-0.45, 0.60), (-0.18, 0.68), (0.0, 1.0), (0.45, 1.0), (0.8, 0.78), (2.4, 0.62)),
    "short": ((-0.4, 0.605), (-0.08, 0.67), (0.14, 0.76), (0.2, 2.0)),
}


@dataclass(frozen=True)
class HairMass:
    """Distances and shading of a head of hair, computed once for its back and front layers.

    Attributes:
        outer: signed distance to the whole mass.
        shaded: linear light, (3, H, W).
        strands: strand texture around 0, for ragged edges.
    """

    outer: Field
    shaded: Field
    strands: Field


def build_hair(canvas: Canvas, *, scene: Scene) -> HairMass | None:
    """Lay out and shade the hair; `None` for a bald head."""
    hair = scene.hair
    if hair.style == "bald":
        return None
    noise = Noise(scene.generator("hair"))
    loose = hair.volume / 0.10
    width = 0.745 * scene.face.width + _SIDE[hair.style] * loose
    height = 0.985 + _TOP[hair.style] * loose + _CENTER_Y
    drift = 0.05 * scene.pose.yaw
    x, y = canvas.x + drift, canvas.y
    dome = ellipse(x, y - _CENTER_Y, width, height)
    envelope = np.sqrt(np.maximum(1.0 - ((y - _CENTER_Y) / (height * 1.04)) ** 2, 0.05)) * width
    outer = dome
    wave = hair.wave * np.sin(hair.wave_frequency * y + 2.0 * x) * smoothstep(-0.5, 0.4, y)
    if hair.style in COVERING_STYLES:
        knots = _curtain(hair, width)
        below = profile(y, knots)
        envelope = np.where(y > _CENTER_Y, below, envelope)
        side = np.maximum(np.abs(x + wave) - below, np.maximum(_CENTER_Y - y, y - hair.length))
        outer = smooth_min(dome, side * 0.95, 0.05)
    elif hair.style == "afro":
        outer = smooth_min(dome, ellipse(x, y - 0.05, width * 0.98, 0.62), 0.2)
    else:
        cut = 0.16 if hair.style != "curly" else 0.26
        outer = smooth_max(dome, y - cut + 0.9 * (np.abs(x) - 0.60), 0.06)
    across, along = _flow(hair, x + wave, y, envelope)
    strands = _strand_texture(canvas, noise, hair, across, along)
    lumps = hair.curl * (
        0.055 * noise(x * 5.5, y * 5.5 + 9.0) + 0.035 * noise(x * 11.0 + 5.0, y * 11.0)
    )
    spikes: Field = np.zeros_like(x)
    if hair.style in ("quiff", "short"):
        strength = 0.06 if hair.style == "quiff" else 0.022
        spikes = strength * noise(across * 6.0, along * 0.7 + 20.0) * smoothstep(-0.3, -0.9, y)
    outer = outer + lumps + spikes + 0.022 * strands * loose
    shaded = _shade_hair(scene, (x, y, width, height), envelope, across, strands)
    return HairMass(np.asarray(outer, np.float32), shaded, strands)


def _curtain(hair: Hair, width: float) -> list[tuple[float, float]]:
    end = hair.length
    if hair.style == "bob":
        return [(_CENTER_Y, width), (0.3, width * 1.04), (end - 0.12, width * 1.05),
                (end, width * 0.93)]  # fmt: skip
    flare = 1.12 if hair.style == "wavy" else 1.0
    return [(_CENTER_Y, width), (0.4, width * 1.03), (1.0, width * 1.08 * flare),
            (1.6, width * 1.12 * flare), (2.4, width * 0.9)]  # fmt: skip


def _flow(hair: Hair, x: Field, y: Field, envelope: Field) -> tuple[Field, Field]:
    """Return strand coordinates: constant along a strand, and the way along it."""
    root = smoothstep(0.3, -1.2, y)
    shift = hair.part * root
    if hair.fringe == "swept":
        x = x - hair.side * 0.55 * smoothstep(-1.1, -0.1, y) * root
    across = np.clip((x - shift) / envelope, -2.2, 2.2)
    across = across * (1.0 + 0.22 * across * across)
    along = y + 0.35 * np.abs(across)
    return across, along


def _strand_texture(canvas: Canvas, noise: Noise, hair: Hair, across: Field, along: Field) -> Field:
    """Return locks, strands and single hairs, each faded out where pixels cannot hold it."""
    if hair.style == "buzz":
        return 0.5 * _band(canvas, 34.0) * noise(canvas.x * 55.0, canvas.y * 38.0)
    bend = across + 0.05 * noise(across * 3.0, along * 2.2 + 31.0)
    texture = 0.42 * noise(bend * 7.0 + 3.0, along * 1.1)
    for cells, stretch, amount in ((19.0, 1.7, 0.40), (48.0, 2.6, 0.36), (105.0, 3.6, 0.28)):
        fade = _band(canvas, cells)
        if fade > 0.05:
            texture += amount * fade * noise(bend * cells, along * stretch + cells)
    if hair.curl > 0.3:
        x, y = canvas.x, canvas.y
        swirl = noise(x * 5.0 + 17.0, y * 5.0) * 1.1 + noise(x * 11.0, y * 11.0 + 5.0) * 0.55
        coil = np.sin(26.0 * (0.35 * x + y) + 7.0 * swirl)
        fine = _band(canvas, 26.0) * noise(x * 30.0 + 9.0 * swirl, y * 30.0 - 9.0 * swirl)
        curls = 0.42 * coil + 0.30 * fine + 0.35 * noise(x * 9.0 + 2.0, y * 9.0)
        texture = (1.0 - 0.85 * hair.curl) * texture + 0.95 * hair.curl * curls
    return texture


def _band(canvas: Canvas, cells: float) -> float:
    """Return how much of a texture with `cells` per head unit survives at this pixel size."""
    return float(np.clip(0.85 / (cells * canvas.pixel) - 0.35, 0.0, 1.0))


def _shade_hair(
    scene: Scene,
    frame: tuple[Field, Field, float, float],
    envelope: Field,
    across: Field,
    strands: Field,
) -> Field:
    """Kajiya and Kay (1989): the highlight is a band where strands run across the half vector."""
    hair = scene.hair
    x, y, width, height = frame
    ex = np.clip(x / np.maximum(envelope, width), -1.0, 1.0)
    ey = np.clip((y - _CENTER_Y) / height, -1.0, 0.12)
    nx, ny, nz = dome_normal(ex * 0.93, ey * 0.93)
    nx = nx + 0.30 * strands * np.cos(across * 2.0)
    ny = ny + 9.0 * hair.wave * np.cos(hair.wave_frequency * y + 2.0 * x) * smoothstep(-0.6, 0.4, y)
    tone = np.clip(1.0 + 0.62 * strands, 0.25, 2.0)
    blend = smoothstep(0.2, 1.5, y + 0.15 * strands)
    albedo = np.empty((3, *x.shape), np.float32)
    for channel in range(3):
        base, tip = hair.color[channel], hair.tips[channel]
        albedo[channel] = (base + (tip - base) * blend) * tone
    shaded = lit((nx, ny, nz), albedo, scene.light, wrap=(0.3, 0.3, 0.3), gloss=0.0)
    lx, ly, lz = scene.light.direction
    # The strand's tangent is the downward direction projected on the scalp.
    slope = 1.0 / np.sqrt(np.maximum(1.0 - ny * ny, 0.05))
    half = 1.0 / np.sqrt(2.0 + 2.0 * lz)
    facing = (nx * lx + ny * ly + nz * (lz + 1.0)) * half
    along_half = (ly * half - facing * ny) * slope + 0.22 * strands - hair.halo
    falloff = np.maximum(facing, 0.0) ** 2
    band = (np.exp(-(along_half**2) * 34.0) + 0.25 * np.exp(-(along_half**2) * 6.0)) * falloff
    if hair.curl > 0.3:
        band = band * 0.35 + 0.25 * np.maximum(strands, 0.0) * falloff
    sheen = hair.shine * (0.35 + 0.65 * np.clip(0.5 + strands, 0.0, 1.2)) * band
    for channel in range(3):
        reflect = 0.10 + 0.80 * hair.color[channel]
        shaded[channel] += 0.85 * sheen * reflect * scene.light.key[channel]
    return shaded


def paint_back_hair(canvas: Canvas, mass: HairMass | None, *, scene: Scene) -> None:
    """Paint what lies behind the head and the shoulders: curtains, afro, bun, ponytail."""
    if mass is None:
        return
    hair = scene.hair
    if hair.style in ("bun", "ponytail"):
        _paint_tied(canvas, scene=scene)
    behind = smoothstep(0.66, 0.46, np.abs(canvas.x)) * smoothstep(-0.2, 0.4, canvas.y)
    dark = mass.shaded * (0.95 - 0.72 * behind)
    canvas.paint(canvas.coverage(mass.outer), dark, label=region_id("hair"))


def _paint_tied(canvas: Canvas, *, scene: Scene) -> None:
    """Paint a bun on top of the head or a ponytail at its side, with strands of its own."""
    hair, noise = scene.hair, Noise(scene.generator("tied hair"))
    if hair.style == "bun":
        part = canvas.window(-0.5, 0.5, -1.65, -0.75)
        x, y = part.x - 0.10 * hair.part, part.y + 1.19
        coil = np.sqrt((x / 0.30) ** 2 + (y / 0.27) ** 2) + 0.35 * x + 0.15 * y
        strands = 0.6 * noise(coil * 9.0, x * 3.0) + 0.4 * noise(coil * 30.0, x * 6.0 + 9.0)
        distance = ellipse(x, y, 0.30, 0.27) + 0.02 * strands
        normal = dome_normal(x / 0.30, y / 0.27)
    else:
        near, far = sorted((0.3 * hair.side, 1.45 * hair.side))
        part = canvas.window(near, far, -0.95, 1.75)
        x = hair.side * part.x - 0.74 - 0.15 * np.sin(2.2 * part.y + 0.6)
        y = part.y
        half = 0.20 * smoothstep(-0.75, -0.1, y) * smoothstep(1.75, 0.6, y) + 0.01
        across = np.clip(x / half, -1.0, 1.0)
        strands = 0.6 * noise(across * 4.0 + 1.5 * y, y * 1.5)
        strands = strands + 0.4 * noise(across * 13.0, y * 3.0 + 9.0)
        distance = np.maximum(np.abs(x) - half, np.abs(y - 0.45) - 1.2) + 0.025 * strands
        normal = dome_normal(hair.side * across * 0.9, 0.35 * np.sin(2.2 * y + 1.2))
    tone = np.clip(1.0 + 0.6 * strands, 0.3, 1.8)
    albedo = np.stack([channel * tone for channel in hair.color])
    shaded = lit(normal, albedo, scene.light, gloss=0.05 + 0.10 * hair.color[1], shininess=14.0)
    part.paint(part.coverage(distance), shaded, label=region_id("hair"))


def paint_front_hair(canvas: Canvas, mass: HairMass | None, *, scene: Scene) -> None:
    """Paint the hair that frames the face, and the shadow it casts on the skin."""
    if mass is None:
        return
    opening = _opening(canvas, mass, scene=scene)
    front = smooth_max(mass.outer, -opening, 0.02)
    for side, shown in zip((-1.0, 1.0), scene.hair.in_front, strict=True):
        if not shown:
            limit = canvas.y - 0.86 + 0.25 * np.abs(canvas.x)
            front = np.where(canvas.x * side > 0.0, np.maximum(front, limit), front)
    reach = 0.13
    near = np.clip(1.0 - (front + 0.02) / reach, 0.0, 1.0)
    on_skin = (canvas.labels != 0) & (canvas.labels != region_id("hair"))
    canvas.shade(0.50 * near * near * on_skin, tint=(0.82, 1.0, 1.0))
    roots = 1.0 - 0.30 * smoothstep(-0.16, -0.0, -opening)
    canvas.paint(
        canvas.coverage(front, softness=0.016), mass.shaded * roots, label=region_id("hair")
    )


def _opening(canvas: Canvas, mass: HairMass, *, scene: Scene) -> Field:
    """Signed distance to the window through which the face shows; negative inside it."""
    hair = scene.hair
    u, v = face_coordinates(canvas)
    side, line = np.abs(u), hair.hairline
    covering = hair.style in COVERING_STYLES
    if hair.fringe == "straight":
        top = -0.33 + 0.10 * u * u + 0.055 * mass.strands
    elif hair.fringe == "swept":
        top = line + 0.22 + 0.30 * hair.side * u - 0.12 * u * u + 0.03 * mass.strands
    elif covering:
        top = line + 0.75 * np.abs(u - hair.part) ** 1.35 + 0.03 * mass.strands
    else:
        top = line + 0.15 * (u - hair.part) ** 2 + 0.13 * hair.side * u + 0.03 * mass.strands
    shape = "short"
    if hair.style == "afro" or (covering and hair.tucked):
        shape = "tucked"
    elif covering:
        shape = "framed"
    half = profile(v, _OPENINGS[shape]) + 0.02 * mass.strands
    return smooth_max(top - v, side - half, 0.22 if covering else 0.13)
