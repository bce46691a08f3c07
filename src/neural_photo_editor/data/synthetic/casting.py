"""Who sits for a portrait: every choice is drawn here, before a single pixel is painted."""

import math
from dataclasses import replace

import numpy as np

from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.data.synthetic.raster import (
    Color,
    Light,
    Pose,
    color,
    mix_color,
    scale_color,
)
from neural_photo_editor.data.synthetic.scene import (
    COVERING_STYLES,
    Backdrop,
    Face,
    Hair,
    Outfit,
    Scene,
)

SKIN_TONES = tuple(
    color(text)
    for text in ("f6d6c2", "efc6a9", "e3b18f", "cf9670", "b37b54", "925f40", "70452e", "523122")
)
NATURAL_HAIR = tuple(
    color(text)
    for text in (
        "231c19", "35241b", "4d3422", "63402a", "7a3d20", "b4622c", "97734a", "c9a062",
        "e2cb9c", "a19d98", "dcd8d0",
    )
)  # fmt: skip
DYED_HAIR = tuple(
    color(text) for text in ("d9588f", "3468b8", "1f8f8c", "7346a4", "b01c30", "3f8a4e")
)
IRISES = tuple(color(text) for text in ("4a2c17", "6b4423", "7a6a35", "4f7a4a", "4f84b0", "6f8791"))
CLOTHES = tuple(
    color(text)
    for text in (
        "26313f", "7b2d34", "d9d4c7", "3c5a4a", "b5843f", "45618f", "8a8d91", "c56f5c", "5b3f63",
        "1f1f22", "6fa3a8", "e4b7b0",
    )
)  # fmt: skip
HAT_COLORS = CLOTHES + tuple(color(text) for text in ("c4342e", "3458a8", "e2a127", "2f7d54"))
BACKDROPS = tuple(
    color(text)
    for text in (
        "5d7389", "a7b8b4", "c9b79c", "6a5a52", "334155", "8aa37f", "c48b72", "7d6f93", "d8d4cc",
        "3f4a44", "9fb7cf", "b86f5a",
    )
)  # fmt: skip
HAIR_STYLES = {
    "short": 0.17, "quiff": 0.09, "buzz": 0.06, "bald": 0.05, "curly": 0.09, "afro": 0.06,
    "bob": 0.13, "long": 0.13, "wavy": 0.12, "bun": 0.05, "ponytail": 0.05,
}  # fmt: skip
HATS = {"beanie": 0.32, "cap": 0.28, "fedora": 0.22, "bucket": 0.18}
HAT_FREQUENCY = 0.25
OPEN_MOUTH_FREQUENCY = 0.33


def draw_scene(seed: int, index: int) -> Scene:
    """Draw the scene of a portrait from `(seed, index)` alone."""
    rng = numpy_generator("synthetic-portrait", seed, index)
    tone = float(rng.beta(1.1, 1.4)) * (len(SKIN_TONES) - 1.001)
    skin = mix_color(SKIN_TONES[int(tone)], SKIN_TONES[int(tone) + 1], tone % 1.0)
    hair = _draw_hair(rng, tone=tone)
    outfit = _draw_outfit(rng)
    if outfit.hat is not None:
        hair = replace(hair, volume=min(hair.volume, 0.05), curl=min(hair.curl, 0.7))
        if hair.style in ("afro", "quiff", "bun"):
            hair = replace(hair, style="short" if hair.style == "quiff" else "curly")
    return Scene(
        key=(seed, index),
        pose=_draw_pose(rng, hat=outfit.hat is not None),
        light=_draw_light(rng),
        face=_draw_face(rng, skin=skin, hair=hair),
        hair=hair,
        outfit=outfit,
        backdrop=_draw_backdrop(rng),
    )


def _pick(rng: np.random.Generator, table: dict[str, float]) -> str:
    weights = np.array(list(table.values()))
    return list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]


def _pick_color(rng: np.random.Generator, colors: tuple[Color, ...], jitter: float) -> Color:
    red, green, blue = colors[int(rng.integers(len(colors)))]
    gain = np.exp(rng.normal(0.0, jitter, 3) + rng.normal(0.0, jitter))
    return float(red * gain[0]), float(green * gain[1]), float(blue * gain[2])


def _clipped(rng: np.random.Generator, mean: float, spread: float) -> float:
    return mean + spread * float(np.clip(rng.normal(), -2.0, 2.0))


def _draw_pose(rng: np.random.Generator, *, hat: bool) -> Pose:
    return Pose(
        shift_x=_clipped(rng, 0.0, 0.035),
        shift_y=_clipped(rng, 0.095 if hat else 0.035, 0.025),
        scale=_clipped(rng, 0.75, 0.023),
        roll=_clipped(rng, 0.0, 0.06),
        yaw=_clipped(rng, 0.0, 0.15),
        pitch=_clipped(rng, 0.0, 0.06),
    )


def _draw_light(rng: np.random.Generator) -> Light:
    side = (1.0 if rng.random() < 0.5 else -1.0) * float(rng.uniform(0.15, 0.75))
    direction = np.array([side, -float(rng.uniform(0.25, 0.65)), 0.85])
    direction /= np.linalg.norm(direction)
    warmth = float(rng.uniform(-0.05, 0.15))
    strength = float(rng.uniform(0.82, 1.02))
    cool = float(rng.uniform(-0.05, 0.08))
    fill = float(rng.uniform(0.18, 0.32))
    rim = float(rng.uniform(0.0, 0.9)) ** 2
    return Light(
        direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        key=(strength * (1.0 + warmth), strength, strength * (1.0 - warmth)),
        sky=(fill * (1.0 - cool), fill, fill * (1.0 + 2.0 * cool)),
        ground=(fill * 0.62, fill * 0.52, fill * 0.48),
        rim=(rim * (1.0 - 2.0 * cool), rim, rim * (1.0 + 2.0 * cool)),
        rim_x=-math.copysign(1.0, side),
    )


def _draw_face(rng: np.random.Generator, *, skin: Color, hair: Hair) -> Face:
    masculine = rng.random() < (0.15 if hair.style in COVERING_STYLES | {"bun"} else 0.62)
    lip_base = (skin[0] * 0.80 + 0.06, skin[1] * 0.46, skin[2] * 0.50)
    makeup = 0.0 if masculine else float(rng.uniform(0.2, 1.0))
    paint = _pick_color(rng, tuple(color(c) for c in ("b02a3a", "c4546a", "8c2f45", "c9605a")), 0.1)
    brow = mix_color(hair.color, color("2a1d16"), float(rng.uniform(0.4, 0.75)))
    bearded = masculine and rng.random() < 0.42
    return Face(
        skin=skin,
        width=_clipped(rng, 0.99 if masculine else 0.965, 0.03),
        jaw=_clipped(rng, 0.03 if masculine else -0.02, 0.02),
        chin=_clipped(rng, 0.0, 0.025),
        cheeks=float(rng.uniform(0.5, 1.3)),
        nose_width=_clipped(rng, 1.08 if masculine else 0.98, 0.09),
        nose_length=_clipped(rng, 0.42, 0.02),
        ear_size=_clipped(rng, 0.97, 0.07),
        eye_gap=_clipped(rng, 0.315, 0.012),
        eye_width=_clipped(rng, 0.172, 0.009),
        eye_open=_clipped(rng, 0.94 if masculine else 1.08, 0.12),
        eye_tilt=_clipped(rng, 0.05, 0.05),
        gaze=(_clipped(rng, 0.0, 0.11), _clipped(rng, 0.0, 0.06)),
        iris=_pick_color(rng, IRISES, 0.12),
        makeup=makeup,
        brow_thickness=_clipped(rng, 0.058 if masculine else 0.048, 0.006),
        brow_arch=_clipped(rng, 0.05 if masculine else 0.075, 0.02),
        brow_height=_clipped(rng, -0.245, 0.02),
        brow_color=brow,
        lip_color=mix_color(lip_base, paint, makeup * 0.75),
        lip_width=_clipped(rng, 0.28, 0.018),
        lip_fullness=_clipped(rng, 0.92 if masculine else 1.12, 0.10),
        smile=float(np.clip(rng.normal(0.5, 0.35), 0.0, 1.1)),
        mouth_open=float(rng.uniform(0.45, 1.0)) if rng.random() < OPEN_MOUTH_FREQUENCY else 0.0,
        blush=float(rng.uniform(0.1, 0.8)),
        freckles=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.12 else 0.0,
        beard=float(rng.uniform(0.35, 1.0)) if bearded else 0.0,
        mustache=bearded and rng.random() < 0.75,
        age=float(rng.beta(1.3, 2.5)),
    )


def _draw_hair(rng: np.random.Generator, *, tone: float) -> Hair:
    style = _pick(rng, HAIR_STYLES)
    shade = float(rng.beta(1.0, 1.25 + 0.3 * tone)) * len(NATURAL_HAIR)
    base = NATURAL_HAIR[min(int(shade), len(NATURAL_HAIR) - 1)]
    if rng.random() < 0.25:
        base = DYED_HAIR[int(rng.integers(len(DYED_HAIR)))]
    base = _pick_color(rng, (base,), 0.08)
    tips = base
    if rng.random() < 0.1:
        tips = mix_color(base, _pick_color(rng, NATURAL_HAIR[5:9] + DYED_HAIR, 0.05), 0.6)
    fringe = _pick(rng, {"none": 0.5, "swept": 0.3, "straight": 0.2})
    if style in ("quiff", "buzz", "afro", "bun", "bald"):
        fringe = "none"
    lengths = {"bob": (0.62, 0.95), "long": (1.5, 2.4), "wavy": (1.3, 2.4)}
    sides = [(True, True), (True, True), (True, False), (False, True), (False, False)]
    return Hair(
        style=style,
        color=base,
        tips=tips,
        volume=_clipped(rng, 0.10, 0.02),
        length=float(rng.uniform(*lengths.get(style, (0.1, 0.2)))),
        part=_clipped(rng, 0.0, 0.16),
        fringe=fringe,
        hairline=_clipped(rng, -0.60, 0.035),
        tucked=rng.random() < 0.5,
        wave={"wavy": 0.05, "bob": 0.012}.get(style, 0.006) * float(rng.uniform(0.6, 1.3)),
        wave_frequency=float(rng.uniform(7.0, 11.0)),
        curl={"curly": 1.0, "afro": 1.0, "wavy": 0.15}.get(style, 0.0),
        shine=float(rng.uniform(0.6, 1.2)),
        halo=_clipped(rng, 0.2, 0.06),
        in_front=sides[int(rng.integers(len(sides)))],
        side=1.0 if rng.random() < 0.5 else -1.0,
    )


def _draw_outfit(rng: np.random.Generator) -> Outfit:
    clothes = _pick_color(rng, CLOTHES, 0.12)
    hat_color = _pick_color(rng, HAT_COLORS, 0.1)
    metals = (color("d8b25a"), color("c8ccd2"), color("c98f70"))
    return Outfit(
        clothes=clothes,
        trim=_pick_color(rng, CLOTHES, 0.1),
        neckline=_pick(rng, {"crew": 0.3, "vee": 0.25, "shirt": 0.2, "scoop": 0.15, "roll": 0.1}),
        pattern=_pick(rng, {"plain": 0.55, "stripes": 0.15, "knit": 0.3}),
        shoulders=_clipped(rng, 1.42, 0.09),
        hat=_pick(rng, HATS) if rng.random() < HAT_FREQUENCY else None,
        hat_color=hat_color,
        hat_trim=_pick_color(rng, (scale_color(hat_color, 0.35), *CLOTHES), 0.05),
        hat_line=_clipped(rng, -0.42, 0.03),
        pompom=rng.random() < 0.4,
        glasses=_pick(rng, {"round": 0.5, "square": 0.5}) if rng.random() < 0.14 else None,
        frame=_pick_color(rng, (color("1d1a1a"), color("5b3a24"), metals[0], color("6d2230")), 0.1),
        lens_tint=float(rng.uniform(0.02, 0.10)),
        earring=_pick(rng, {"stud": 0.5, "hoop": 0.5}) if rng.random() < 0.22 else None,
        metal=metals[int(rng.integers(len(metals)))],
        necklace=rng.random() < 0.12,
    )


def _draw_backdrop(rng: np.random.Generator) -> Backdrop:
    return Backdrop(
        kind=_pick(rng, {"studio": 0.4, "bokeh": 0.25, "window": 0.15, "hills": 0.2}),
        top=scale_color(_pick_color(rng, BACKDROPS, 0.12), float(rng.uniform(0.55, 1.0))),
        bottom=scale_color(_pick_color(rng, BACKDROPS, 0.12), float(rng.uniform(0.4, 0.9))),
        accent=_pick_color(rng, BACKDROPS, 0.15),
        angle=float(rng.uniform(-0.8, 0.8)),
    )
