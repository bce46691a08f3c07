"""Sets of recipes are read whole and unchanged, or not at all; the drawn set is always the same."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neural_photo_editor.api.codec import decode_mask, decode_photo, decode_strokes
from neural_photo_editor.api.recipe import Recipe
from neural_photo_editor.artifacts.digests import SUMS_NAME, write_sums
from neural_photo_editor.evaluation.gate_recipes import COLORS, STRENGTHS, default_recipes
from neural_photo_editor.evaluation.recipes import load_recipes, write_recipes


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    return default_recipes(resolution=64, portraits=1)


def test_the_drawn_set_is_always_the_same_and_covers_every_kind(recipes: list[Recipe]) -> None:
    assert recipes == default_recipes(resolution=64, portraits=1)
    assert recipes != default_recipes(resolution=64, portraits=1, series=31)
    requests = [recipe.request for recipe in recipes]
    kinds = Counter(
        "strokes" if r.strokes else r.regions[0] if r.regions else "fill" for r in requests
    )
    assert kinds == {"hair": 3, "lip": 3, "skin": 3, "strokes": 2, "fill": 2}
    assert {r.strength for r in requests if r.regions} == set(STRENGTHS)
    # Every recipe shows another person.
    assert len({r.photo for r in requests}) == len({r.seed for r in requests}) == len(recipes)
    three = [r.request for r in default_recipes(resolution=32, portraits=3)]
    assert len(three) == 39
    assert {r.color for r in three if r.regions} == {c for some in COLORS.values() for c in some}
    assert sum(r.strength_map is not None for r in three) == 2


def test_the_images_of_drawn_recipes_fit_their_photos(recipes: list[Recipe]) -> None:
    for request in (recipe.request for recipe in recipes):
        photo = decode_photo(request.photo)
        assert photo.size == (64, 64)
        if request.mask is not None:
            assert 0.002 < decode_mask(request.mask, size=photo.size).mean() < 0.3
        if request.strokes is not None:
            assert (decode_strokes(request.strokes, size=photo.size)[..., 3] > 0).mean() > 0.02


def test_a_set_comes_back_in_order_with_one_digest(recipes: list[Recipe], tmp_path: Path) -> None:
    written = write_recipes(tmp_path / "one", recipes)
    assert list(written.recipes.values()) == recipes
    assert next(iter(written.recipes)) == "001-hair-at-strength-0-2"
    again = write_recipes(tmp_path / "two", recipes)
    assert again == written == load_recipes(tmp_path / "two", digest=written.digest)
    fewer = write_recipes(tmp_path / "three", recipes[1:])
    assert fewer.digest != written.digest
    with pytest.raises(ValueError, match=f"is the set {fewer.digest}, not {written.digest}"):
        load_recipes(tmp_path / "three", digest=written.digest)
    with pytest.raises(ValueError, match="not empty"):
        write_recipes(tmp_path / "one", recipes)


def _flip_a_byte(folder: Path) -> None:
    file = folder / "001-hair-at-strength-0-2.json"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _other_parameter(folder: Path) -> None:
    file = folder / "001-hair-at-strength-0-2.json"
    file.write_bytes(file.read_bytes().replace(b'"strength": 0.2', b'"strength": 0.0'))


def _one_less(folder: Path) -> None:
    (folder / "001-hair-at-strength-0-2.json").unlink()


def _one_more(folder: Path) -> None:
    source = folder / "001-hair-at-strength-0-2.json"
    (folder / "999-more.json").write_bytes(source.read_bytes())


def _no_sums(folder: Path) -> None:
    (folder / SUMS_NAME).unlink()


def _no_recipe(folder: Path) -> None:
    (folder / "000-damaged.json").write_text('{"schema_version": 1}')
    write_sums(folder)


def _another_file(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    write_sums(folder)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_flip_a_byte, "001-hair-at-strength-0-2.json has other bytes than SHA256SUMS lists"),
        (_other_parameter, "001-hair-at-strength-0-2.json has other bytes"),
        (_one_less, "001-hair-at-strength-0-2.json is listed but missing"),
        (_one_more, "999-more.json is not listed"),
        (_no_sums, r"LC_ALL=C sha256sum \*.json > SHA256SUMS"),
        (_no_recipe, r"000-damaged.json: request: the edit is missing \(add the JSON object"),
        (_another_file, "notes.txt is no recipe"),
    ],
)
def test_a_tampered_set_is_refused(
    recipes: list[Recipe], tmp_path: Path, tamper: Callable[[Path], None], message: str
) -> None:
    write_recipes(tmp_path, recipes[:2])
    tamper(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_recipes(tmp_path)


def test_an_empty_folder_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipes in"):
        load_recipes(tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        default_recipes(portraits=0)


def test_photos_of_drawn_recipes_are_of_another_series_than_the_demos(
    recipes: list[Recipe],
) -> None:
    first = decode_photo(recipes[0].request.photo).rgb
    drawn_for_training = default_recipes(resolution=64, portraits=1, series=0)
    assert not any(
        np.array_equal(first, decode_photo(recipe.request.photo).rgb)
        for recipe in drawn_for_training
    )
