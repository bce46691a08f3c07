"""What a portrait shows: plain data, the same at every resolution."""

from dataclasses import dataclass

import numpy as np

from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.data.synthetic.raster import Color, Light, Pose

COVERING_STYLES = frozenset({"bob", "long", "wavy"})


@dataclass(frozen=True)
class Face:
    """The face's shape, skin and expression; lengths in head units."""

    skin: Color
    width: float
    jaw: float
    chin: float
    cheeks: float
    nose_width: float
    nose_length: float
    ear_size: float
    eye_gap: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    gaze: tuple[float, float]
    iris: Color
    makeup: float
    brow_thickness: float
    brow_arch: float
    brow_height: float
    brow_color: Color
    lip_color: Color
    lip_width: float
    lip_fullness: float
    smile: float
    mouth_open: float
    blush: float
    freckles: float
    beard: float
    mustache: bool
    age: float


@dataclass(frozen=True)
class Hair:
    """The hair's style, color and flow; lengths in head units."""

    style: str
    color: Color
    tips: Color
    volume: float
    length: float
    part: float
    fringe: str
    hairline: float
    tucked: bool
    wave: float
    wave_frequency: float
    curl: float
    shine: float
    halo: float
    in_front: tuple[bool, bool]
    side: float

    @property
    def covers_ears(self) -> bool:
        """Whether the hair hangs over the ears."""
        return self.style in COVERING_STYLES and not self.tucked


@dataclass(frozen=True)
class Outfit:
    """Clothing, hat, glasses and earrings; `None` where there is none."""

    clothes: Color
    trim: Color
    neckline: str
    pattern: str
    shoulders: float
    hat: str | None
    hat_color: Color
    hat_trim: Color
    hat_line: float
    pompom: bool
    glasses: str | None
    frame: Color
    lens_tint: float
    earring: str | None
    metal: Color
    necklace: bool


@dataclass(frozen=True)
class Backdrop:
    """The background's kind and its three colors."""

    kind: str
    top: Color
    bottom: Color
    accent: Color
    angle: float


@dataclass(frozen=True)
class Scene:
    """Everything a portrait shows, at any resolution; `key` seeds its textures."""

    key: tuple[int, int]
    pose: Pose
    light: Light
    face: Face
    hair: Hair
    outfit: Outfit
    backdrop: Backdrop

    def generator(self, part: str) -> np.random.Generator:
        """Return the generator of one part's texture."""
        return numpy_generator("synthetic-portrait", *self.key, part)
