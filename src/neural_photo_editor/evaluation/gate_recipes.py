"""Recipes of drawn portraits: what a bundle is judged by where nobody recorded edits."""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.recipe import Recipe
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import Portrait, generate_portrait
from neural_photo_editor.evaluation.brush_strokes import beanie_strokes
from neural_photo_editor.evaluation.edit_cases import LEAST_SHARE, REGIONS
from neural_photo_editor.evaluation.edit_masks import blob_mask, mouth_mask, scratch_mask

COLORS = {
    "hair": ("#c2571f", "#2f5fb8", "#d8b45a"),
    "lip": ("#c01838", "#7a2a5c", "#d46a3c"),
    "skin": ("#a8683f", "#e3b491", "#70452c"),
}
"""Paints of each region, in turn."""

HATS = ((196, 52, 46), (52, 88, 168), (60, 120, 72))
STRENGTHS = (0.2, 0.45, 0.8)
"""Of recolored regions: one in each third of the noise, about."""
STROKE_STRENGTHS = (0.37, 0.6)


def default_recipes(*, series: int = 30, resolution: int = 128, portraits: int = 6) -> list[Recipe]:
    """Draw a set of 13 recipes for each of ``portraits``; equal arguments give equal recipes.

    Regions in other colors at three strengths, hats painted with strokes at two (every third with
    a strength map), and fills of blobs, mouths and scratches. Every recipe shows another person.

    Args:
        series: of drawn portraits; the demo's training photos are of series 0.
        resolution: side of the photos, in pixels.
        portraits: how many of each kind and strength, at least 1.

    Raises:
        ValueError: a number out of range.
    """
    if portraits < 1:
        raise ValueError(f"portraits is {portraits}: give at least 1")
    people = ((index, generate_portrait(series, index, resolution=resolution)) for index in count())
    recipes = []
    for region in COLORS:
        for strength in STRENGTHS:
            for number in range(portraits):
                recipes.append(_recolored(people, region, strength, number))
    for strength in STROKE_STRENGTHS:
        recipes += [_hat(people, strength, number) for number in range(portraits)]
    recipes += [_filled(people, number) for number in range(2 * portraits)]
    return recipes


People = Iterator[tuple[int, Portrait]]


def _recolored(people: People, region: str, strength: float, number: int) -> Recipe:
    ids = [region_id(name) for name in REGIONS[region]]
    index, portrait = _next(
        people, lambda labels: bool(np.isin(labels, ids).mean() >= LEAST_SHARE[region])
    )
    # Skin without the parts that a portrait may lack.
    names = tuple(name for name in REGIONS[region] if (portrait.labels == region_id(name)).any())
    request = EditRequest(
        photo=encode_png(portrait.photo),
        regions=names,
        color=COLORS[region][number % len(COLORS[region])],
        strength=strength,
        seed=index,
    )
    return Recipe.from_request(request, name=f"{region} at strength {strength}")


def _hat(people: People, strength: float, number: int) -> Recipe:
    def suits(labels: NDArray[np.uint8]) -> bool:
        has_hat, has_brows = ((labels == region_id(name)).any() for name in ("hat", "brow"))
        return bool(has_brows and not has_hat)

    index, portrait = _next(people, suits)
    strokes = beanie_strokes(portrait.labels, color=HATS[number % len(HATS)], seed=index)
    side = len(portrait.photo)
    softer = np.tile(np.linspace(64, 255, side).astype(np.uint8), (side, 1))
    request = EditRequest(
        photo=encode_png(portrait.photo),
        strokes=encode_png(strokes[..., :3], alpha=strokes[..., 3]),
        strength=strength,
        strength_map=encode_png(softer) if number % 3 == 2 else None,
        seed=index,
    )
    return Recipe.from_request(request, name=f"hat at strength {strength}")


def _filled(people: People, number: int) -> Recipe:
    index, portrait = _next(
        people, lambda labels: bool((labels == region_id("lip")).mean() >= LEAST_SHARE["lip"])
    )
    kind = ("blob", "mouth", "scratch")[number % 3]
    if kind == "blob":
        mask = blob_mask(portrait.labels, seed=index)
    else:
        mask = (mouth_mask if kind == "mouth" else scratch_mask)(portrait.labels)
    request = EditRequest(
        photo=encode_png(portrait.photo),
        mask=encode_png(mask.astype(np.uint8) * np.uint8(255)),
        seed=index,
    )
    return Recipe.from_request(request, name=f"fill {kind}")


def _next(people: People, suits: Callable[[NDArray[np.uint8]], bool]) -> tuple[int, Portrait]:
    """Return the next person whose label map suits."""
    return next((index, person) for index, person in people if suits(person.labels))
