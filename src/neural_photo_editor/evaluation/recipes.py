"""Sets of recipes: folders of recorded edits that bundles are judged by.

A set is a folder of recipes ``*.json`` and their digests in ``SHA256SUMS``, as the command
``LC_ALL=C sha256sum *.json > SHA256SUMS`` writes it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.recipe import MAX_RECIPE_BYTES, Recipe, read_recipe
from neural_photo_editor.artifacts.digests import SUMS_NAME, verify_sums, write_sums

MAX_RECIPES = 1000
"""Of a set, all of which is kept in memory."""


@dataclass(frozen=True)
class RecipeSet:
    """Recipes in the order of their files' names.

    Attributes:
        recipes: by the name of the file, without its ending.
        digest: of the whole set: the SHA-256 of its ``SHA256SUMS``.
    """

    recipes: dict[str, Recipe]
    digest: str


def write_recipes(folder: Path, recipes: Sequence[Recipe]) -> RecipeSet:
    """Write a set into a folder without recipes.

    Raises:
        ValueError: there are recipes already, or none to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) or not recipes:
        raise ValueError(f"{folder} is not empty, or there are no recipes: name a new folder")
    for number, recipe in enumerate(recipes, 1):
        slug = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-")[:40]
        (folder / f"{number:03d}-{slug or 'edit'}.json").write_bytes(recipe.to_bytes())
    write_sums(folder)
    return load_recipes(folder)


def load_recipes(folder: Path, *, digest: str | None = None) -> RecipeSet:
    """Read a set after comparing the digests of all its files.

    Args:
        folder: see the module.
        digest: of the set that is wanted; None: any.

    Raises:
        ValueError: a recipe is missing, superfluous, changed, too large or no recipe, or this is
            another set; names the file and the remedy.
    """
    files = sorted(path for path in folder.glob("*") if path.name != SUMS_NAME)
    if not files:
        raise ValueError(f"there are no recipes in {folder}: name a folder of recipes")
    if len(files) > MAX_RECIPES:
        raise ValueError(f"{folder} holds {len(files)} files: a set has at most {MAX_RECIPES}")
    if not (folder / SUMS_NAME).is_file():
        raise ValueError(
            f"{folder / SUMS_NAME} is missing: look the recipes through, then run there "
            f"'LC_ALL=C sha256sum *.json > {SUMS_NAME}'"
        )
    for file in files:
        if file.suffix != ".json" or file.stat().st_size > MAX_RECIPE_BYTES:
            raise ValueError(
                f"{file} is no recipe of at most {MAX_RECIPE_BYTES:,} bytes: remove it"
            )
    found = verify_sums(folder)
    if digest not in (None, found):
        raise ValueError(f"{folder} is the set {found}, not {digest}: name the folder of that one")
    return RecipeSet({file.stem: _read(file) for file in files}, found)


def _read(file: Path) -> Recipe:
    try:
        return read_recipe(file.read_bytes())
    except RequestError as error:
        raise ValueError(f"{file}: {error}") from error
