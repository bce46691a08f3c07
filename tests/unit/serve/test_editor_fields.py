"""The browser editor knows the same regions, choices and limits as the server."""

import re
from pathlib import Path
from typing import get_args

from neural_photo_editor.api import schema
from neural_photo_editor.api.recipe import (
    MAX_NAME_CHARACTERS,
    MAX_NOTES_CHARACTERS,
    MAX_RECIPE_BYTES,
)

EDITOR = Path(__file__).resolve().parents[3] / "serve" / "editor"
FIELDS = (EDITOR / "api" / "fields.js").read_text(encoding="utf-8")
RECIPE = (EDITOR / "api" / "recipe.js").read_text(encoding="utf-8")


def _strings_after(start: str) -> list[str]:
    """Return the strings of the first array after some text of fields.js."""
    rest = FIELDS[FIELDS.index(start) + len(start) :]
    return re.findall(r'"(\w+)"', rest[: rest.index("]")])


def test_regions_are_the_servers_in_its_order() -> None:
    assert tuple(_strings_after("REGIONS = [")) == schema.REGION_NAMES


def test_choices_are_the_servers() -> None:
    assert set(_strings_after("sampler: [")) == set(get_args(schema.Sampler))
    assert set(_strings_after("detail: [")) == set(get_args(schema.DetailSource))
    assert set(_strings_after("blend: [")) == set(get_args(schema.Blend))


def test_limits_are_the_servers() -> None:
    limits = dict(re.findall(r"(\w+): (\d+)", FIELDS[FIELDS.index("MAX = {") :]))
    assert int(limits["steps"]) == schema.MAX_STEPS
    assert int(limits["resamples"]) == schema.MAX_RESAMPLES
    assert int(limits["variations"]) == schema.MAX_VARIATIONS
    assert int(limits["evaluations"]) == schema.MAX_EVALUATIONS


def test_recipes_are_as_large_as_those_of_npe() -> None:
    assert f"MAX_BYTES = {MAX_RECIPE_BYTES // 2**20} * 2 ** 20\n" in RECIPE
    assert f'"name", {MAX_NAME_CHARACTERS})' in RECIPE
    assert f'"notes", {MAX_NOTES_CHARACTERS})' in RECIPE
