"""Edits that show what the editor does, sent to a server like anybody's, and their checks."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.client import EditClient
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import Portrait, generate_portrait
from neural_photo_editor.evaluation.brush_strokes import beanie_strokes
from neural_photo_editor.evaluation.edit_masks import mouth_mask, scratch_mask
from neural_photo_editor.evaluation.pictures import save_grid
from neural_photo_editor.imaging.compositing import paint_over
from neural_photo_editor.imaging.recoloring import recolor
from neural_photo_editor.metrics.edit_quality import (
    Mask,
    Photo,
    color_movement,
    color_patches,
    detail_kept,
    max_difference_outside,
    shading_kept,
)

ERASED = (128, 128, 128)
MAX_PORTRAITS = 400
"""Portraits looked at to find those that an edit needs."""


@dataclass(frozen=True)
class ShowcaseEdit:
    """One request: what to mark, what to paint there and where to start.

    Marked are ``regions``, the ``mask`` or the painted pixels of ``strokes``; the paint is
    ``color`` or ``strokes``, and without either the marked pixels are erased and filled.
    """

    name: str
    title: str
    photo: Photo
    timestep: int
    regions: tuple[str, ...] = ()
    mask: Mask | None = None
    color: str | None = None
    strokes: NDArray[np.uint8] | None = None
    resamples: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ShownEdit:
    """An edit's outcome.

    Attributes:
        edit: the request.
        picture: file of original, painted and result side by side.
        max_difference_outside: largest change outside the mask, 0..255.
        movement: share of the way to the paint's color; None for a fill.
        detail: share of the fine contrast that stayed; None for a fill.
        shading: correlation of light and shade before and after; None for a fill.
        patches: variation of the result's color where the paint has none; None for strokes, whose
            paint has some, and fills.
        facts: what the server says about it.
    """

    edit: ShowcaseEdit
    picture: Path
    max_difference_outside: int
    movement: float | None
    detail: float | None
    shading: float | None
    patches: float | None
    facts: dict[str, str]


def choose_edits(*, portrait_seed: int, resolution: int) -> list[ShowcaseEdit]:
    """Find portraits of a series that suit each edit, and describe the edits.

    Args:
        portrait_seed: the series, another one than that of the training photos.
        resolution: side of the photos in pixels.

    Raises:
        ValueError: too few of the series' portraits suit.
    """
    used: set[int] = set()

    def find(suits: Callable[[Portrait], bool]) -> Portrait:
        for index in range(MAX_PORTRAITS):
            # Chosen by a small picture of the same person, which takes less time to paint.
            if index not in used and suits(generate_portrait(portrait_seed, index, resolution=64)):
                used.add(index)
                return generate_portrait(portrait_seed, index, resolution=resolution)
        raise ValueError(f"series {portrait_seed} has too few suitable portraits: try another")

    edits = [
        ShowcaseEdit(
            f"hair-{name}", f"Hair, {name}", find(_has_much_hair).photo, 200, ("hair",), color=color
        )
        for name, color in (("copper", "#c2571f"), ("blond", "#e0b45a"), ("teal", "#1f8f8c"))
    ]
    photo = find(_shows_the_mouth).photo
    edits.append(ShowcaseEdit("lips", "Lips, red", photo, 60, ("lip",), color="#c01838"))
    photo = find(_has_light_skin).photo
    whole_face = ("skin", "nose", "ear", "neck")
    edits.append(ShowcaseEdit("skin", "Skin, tanned", photo, 100, whole_face, color="#a8683f"))
    for name, color in (("red", (196, 52, 46)), ("blue", (52, 88, 168))):
        portrait = find(_has_room_for_a_hat)
        strokes = beanie_strokes(portrait.labels, color=color)
        title = f"Hat by free-hand strokes, {name}"
        edits.append(
            ShowcaseEdit(f"hat-{name}", title, portrait.photo, 200, strokes=strokes, resamples=3)
        )
    for name, title, marked in (
        ("scratch", "A scratch erased", scratch_mask),
        ("mouth", "A mouth erased", mouth_mask),
    ):
        portrait = find(_shows_the_mouth)
        mask = marked(portrait.labels)
        edits.append(ShowcaseEdit(f"fill-{name}", title, portrait.photo, 475, mask=mask))
    return edits


def run_edits(
    client: EditClient, edits: Sequence[ShowcaseEdit], *, folder: Path
) -> list[ShownEdit]:
    """Send the edits to the server, write a picture of each and measure it; raises EditError."""
    return [_run_edit(client, edit, folder / f"edit-{edit.name}.png") for edit in edits]


def _run_edit(client: EditClient, edit: ShowcaseEdit, picture: Path) -> ShownEdit:
    start = time.perf_counter()
    answer = client.edit(
        edit.photo,
        mask=edit.mask,
        regions=edit.regions,
        strokes=edit.strokes,
        color=edit.color,
        timestep=edit.timestep,
        resamples=edit.resamples,
        seed=edit.seed,
    )
    duration_s = time.perf_counter() - start
    result = np.asarray(Image.open(io.BytesIO(answer.image)).convert("RGB"))
    mask = _marked_pixels(client, edit)
    painted, paint = _painted(edit, mask)
    save_grid(
        [[edit.photo, painted, result]],
        picture,
        headers=("original", "painted" if paint is not None else "erased", "result"),
    )
    made = answer.metadata
    facts = {
        "t": str(made.timestep),
        "strength": f"{made.strength:.2f}",
        "sampler": f"{made.sampler}, {made.steps} steps x {made.resamples}",
        "seed": str(made.seed),
        "detail": str(made.detail),
        "answered in": f"{duration_s:.1f} s",
        **{name: f"{value:.0f} ms" for name, value in made.timings_ms.items()},
    }
    movement = detail = shading = patches = None
    if paint is not None:
        movement = color_movement(edit.photo, result, mask, paint=paint)
        detail = detail_kept(edit.photo, result, mask)
        shading = shading_kept(edit.photo, result, mask)
        if edit.color is not None:
            patches = color_patches(painted, result, mask)
            facts["color patches"] = f"{patches:.1f}"
        facts["color moved"] = f"{100 * movement:.0f} %"
        facts["detail kept"] = f"{100 * detail:.0f} %"
        facts["shading kept"] = f"{shading:.2f}"
    outside = max_difference_outside(edit.photo, result, mask)
    facts["largest change outside"] = str(outside)
    return ShownEdit(edit, picture, outside, movement, detail, shading, patches, facts)


def _marked_pixels(client: EditClient, edit: ShowcaseEdit) -> Mask:
    """Return the pixels the server may change; of regions, those its own segmenter finds."""
    if edit.mask is not None:
        return edit.mask
    if edit.strokes is not None:
        return edit.strokes[..., 3] > 0
    labels = np.asarray(Image.open(io.BytesIO(client.segment(edit.photo).image)))
    return np.isin(labels, [region_id(name) for name in edit.regions])


def _painted(edit: ShowcaseEdit, mask: Mask) -> tuple[Photo, NDArray[np.uint8] | None]:
    """Return the photo as painted, and the paint: one color, the painted photo or None."""
    if edit.strokes is not None:
        painted = paint_over(edit.photo, edit.strokes)
        return painted, painted
    if edit.color is not None:
        red, green, blue = bytes.fromhex(edit.color[1:])
        paint = np.array([red, green, blue], dtype=np.uint8)
        return recolor(edit.photo, mask, (red, green, blue)), paint
    return np.where(mask[..., None], np.array(ERASED, dtype=np.uint8), edit.photo), None


def _share(portrait: Portrait, region: str) -> float:
    """Return the share of the picture that a region takes."""
    return float((portrait.labels == region_id(region)).mean())


def _has_much_hair(portrait: Portrait) -> bool:
    """Hair that stands out: a small segmenter loses black hair before a black wall."""
    hair, wall = (portrait.labels == region_id(name) for name in ("hair", "background"))
    if _share(portrait, "hair") < 0.10 or _share(portrait, "hat") > 0:
        return False
    return bool(abs(portrait.photo[hair].mean() - portrait.photo[wall].mean()) > 40)


def _has_room_for_a_hat(portrait: Portrait) -> bool:
    margin = np.flatnonzero((portrait.labels > 0).any(axis=1))[0] / len(portrait.labels)
    bare = _share(portrait, "hat") == 0 and _share(portrait, "hair") < 0.06
    return bool(bare and margin > 0.16 and _share(portrait, "brow") > 0)


def _shows_the_mouth(portrait: Portrait) -> bool:
    return _share(portrait, "lip") > 0.008 and _share(portrait, "hat") == 0


def _has_light_skin(portrait: Portrait) -> bool:
    skin = portrait.photo[portrait.labels == region_id("skin")]
    return _shows_the_mouth(portrait) and bool(skin.mean() > 170)
