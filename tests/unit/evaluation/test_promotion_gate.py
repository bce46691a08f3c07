"""The gate with networks whose faults are known: each is refused, and named for what it is."""

import base64
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.recipe import Recipe
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.replay import unpacked_bundle
from neural_photo_editor.evaluation.gate_rules import GateRules
from neural_photo_editor.evaluation.promotion import GateResult, region_of, run_gate
from neural_photo_editor.evaluation.promotion_report import write_gate_report
from neural_photo_editor.evaluation.recipes import RecipeSet, write_recipes
from tests.unit.editing.staged_bundle import staged_bundle
from tests.unit.editing.tiny_pipeline import (
    ColorSegmenter,
    TowardsPaint,
    defaults,
    make_mask,
    make_photo,
    make_pipeline,
    mask_png,
)

RULES = GateRules(
    tolerances={
        "paint_difference": 1.0,
        "seam": 0.15,
        "feature_distance": 0.2,
        "change_inside": 4.0,
        "region_mismatch": 0.15,
        "network_calls": 0.0,
        # Time has a test of its own: this machine may be busy.
        "seconds": 1000.0,
    },
    caps={"paint_difference": 8.0},
    bounds={"paint_difference": 22.5},
)


class DamagedLate(TowardsPaint):
    """Doubts what it sees, from a third of the noise on."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        eps = super().forward(x_t, t)
        late = (t > 340).reshape(-1, 1, 1, 1)
        return torch.where(late, 0.5 * eps, eps)


class Noisy(TowardsPaint):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return super().forward(x_t, t) + 0.5 * torch.randn(x_t.shape, generator=generator)


class TakesHairForSkin(ColorSegmenter):
    """Half of the red above, on the left, is skin."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        half = x.shape[-1] // 2
        logits[:, 1, :, :half] = -9.0
        return logits


class FindsNothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros((x.shape[0], 11, *x.shape[2:]))


def mean_and_spread(images: Tensor) -> Tensor:
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1).double()


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> RecipeSet:
    """Hair and skin at two strengths, and a fill: three of each."""
    made = []
    for number in range(15):
        seed = number % 3
        photo = (make_photo(64, 64, seed=seed) * (0.7, 0.85, 1.0)[seed]).astype(np.uint8)
        fields: dict[str, Any] = {"photo": encode_png(photo), "seed": number}
        if number < 12:
            region = "hair" if number < 6 else "skin"
            strength = 0.2 if number % 6 < 3 else 0.9
            fields |= {"regions": (region,), "color": "#3050c0", "strength": strength}
        else:
            fields |= {"mask": mask_png(make_mask(64, 64)), "steps": 6, "resamples": 1}
        made.append(Recipe.from_request(EditRequest(**fields), name=f"edit {number}"))
    return write_recipes(tmp_path_factory.mktemp("recipes"), made)


@pytest.fixture(scope="module")
def same(recipes: RecipeSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[GateResult, Path]:
    """A bundle beside itself, under another digest."""
    folder = tmp_path_factory.mktemp("same")
    current = make_pipeline(bundle_digest="b" * 64)
    return _gate(make_pipeline(bundle_digest="a" * 64), current, recipes, folder), folder


@pytest.fixture(scope="module")
def noisy(recipes: RecipeSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[GateResult, Path]:
    folder = tmp_path_factory.mktemp("noisy")
    return _gate(make_pipeline(denoiser=Noisy()), make_pipeline(), recipes, folder), folder


def _gate(
    candidate: EditPipeline, current: EditPipeline | None, recipes: RecipeSet, folder: Path
) -> GateResult:
    result = run_gate(
        candidate, current, recipes, rules=RULES, out_dir=folder, features=mean_and_spread
    )
    document = json.loads((folder / "gate.json").read_text())
    assert document["passed"] == result.passed == (not document["reasons"])
    return result


def _failed(result: GateResult) -> set[tuple[str, str, str]]:
    return {(c.metric, c.region, c.bucket) for c in result.checks if not c.passed}


def test_a_bundle_passes_beside_itself(recipes: RecipeSet, same: tuple[GateResult, Path]) -> None:
    result, folder = same
    assert result.passed
    assert result.reasons == []
    # Not for want of anything to compare.
    groups = {(c.region, c.bucket) for c in result.checks if c.metric == "paint_difference"}
    assert {("hair", "0%-34%"), ("skin", "67%-100%"), ("all", "all")} <= groups
    changes = [c.candidate for c in result.checks if c.metric == "change_inside"]
    assert min(change for change in changes if change is not None) > 1.0
    pictures = sorted(path.stem for path in (folder / "pictures").iterdir())
    assert pictures == sorted(recipes.recipes)
    with Image.open(folder / "pictures" / f"{pictures[0]}.png") as picture:
        assert picture.size == (5 * 192 + 4 * 4, 22 + 192)


def test_gate_json_says_what_was_compared(
    recipes: RecipeSet, same: tuple[GateResult, Path]
) -> None:
    document = json.loads((same[1] / "gate.json").read_text())
    assert document["schema_version"] == 1
    assert document["candidate_digest"] == "a" * 64
    assert document["current_digest"] == "b" * 64
    assert document["recipes_digest"] == recipes.digest
    assert document["candidate_archive_sha256"] is None
    assert document["rules_digest"] == same[0].rules_digest
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["created"])
    assert GateRules.model_validate(document["rules"]) == RULES
    assert len(document["checks"]) > 30


def test_other_rules_have_another_digest(same: tuple[GateResult, Path]) -> None:
    result = same[0]
    for update in ({"most_refused": 0.2}, {"caps": {"seam": 1.0}}, {"bucket_edges": (0.5,)}):
        rules = RULES.model_copy(update=update)
        assert replace(result, rules=rules).rules_digest != result.rules_digest
    equal = GateRules.model_validate(RULES.model_dump())
    assert replace(result, rules=equal).rules_digest == result.rules_digest


def test_a_denoiser_damaged_at_much_noise_is_refused_there_alone(
    recipes: RecipeSet, tmp_path: Path
) -> None:
    result = _gate(make_pipeline(denoiser=DamagedLate()), make_pipeline(), recipes, tmp_path)
    failed = _failed(result)
    painted = {("paint_difference", region, "67%-100%") for region in ("hair", "skin")}
    assert painted <= failed
    assert not any(bucket == "0%-34%" for _, _, bucket in failed)
    assert any(
        line.startswith("paint_difference, region hair, 67%-100% of the noise, 3 edits: ")
        for line in result.reasons
    )


def test_a_noisy_denoiser_is_refused(noisy: tuple[GateResult, Path]) -> None:
    metrics = {metric for metric, _, _ in _failed(noisy[0])}
    assert "paint_difference" in metrics
    assert not {"drift", "failed", "region_mismatch", "network_calls"} & metrics


def test_a_spoiled_segmenter_is_refused_for_the_regions_it_misses(
    recipes: RecipeSet, tmp_path: Path
) -> None:
    candidate = make_pipeline(segmenter=TakesHairForSkin())
    failed = _failed(_gate(candidate, make_pipeline(), recipes, tmp_path))
    assert ("region_mismatch", "hair", "all") in failed
    assert not any(region == "mask fill" for _, region, _ in failed)


def test_a_segmenter_that_finds_nothing_fails_the_edits_by_name(
    recipes: RecipeSet, tmp_path: Path
) -> None:
    result = _gate(make_pipeline(segmenter=FindsNothing()), make_pipeline(), recipes, tmp_path)
    (check,) = [check for check in result.checks if check.metric == "failed"]
    assert check.recipes == tuple(list(recipes.recipes)[:12])
    document = json.loads((tmp_path / "gate.json").read_text())
    assert set(document["errors"]) == set(check.recipes)
    assert "hair" in document["errors"][check.recipes[0]]["candidate"]
    write_gate_report(result, tmp_path)


def test_a_candidate_that_paints_beside_the_mask_is_refused(
    recipes: RecipeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neural_photo_editor.editing import pipeline as module

    careful = module.finish_edit

    def careless(photo: np.ndarray, edit: Any, **squares: Any) -> np.ndarray:
        finished = careful(photo, edit, **squares).copy()
        finished[-1, 0] ^= 1  # A corner that no mask of the recipes contains.
        return finished

    monkeypatch.setattr(module, "finish_edit", careless)
    result = _gate(make_pipeline(), None, recipes, tmp_path)
    drift = {c.metric: c for c in result.checks if c.metric in ("drift", "changed_outside")}
    assert not drift["drift"].passed
    assert drift["drift"].candidate == 1.0
    assert not drift["changed_outside"].passed


def test_more_network_calls_are_refused(recipes: RecipeSet, tmp_path: Path) -> None:
    slower = make_pipeline(defaults=defaults(steps=6))
    failed = _failed(_gate(slower, make_pipeline(), recipes, tmp_path))
    assert ("network_calls", "all", "all") in failed


def test_the_first_promotion_asks_for_the_bounds_alone(recipes: RecipeSet, tmp_path: Path) -> None:
    result = _gate(make_pipeline(), None, recipes, tmp_path)
    assert result.passed
    assert result.current_digest is None
    assert {c.metric for c in result.checks} == {
        "failed", "not_compared", "drift", "changed_outside", "paint_difference"
    }  # fmt: skip
    damaged = _gate(make_pipeline(denoiser=Noisy()), None, recipes, tmp_path)
    assert {metric for metric, _, _ in _failed(damaged)} == {"paint_difference"}


def test_the_page_needs_nothing_but_itself_and_says_the_verdict_in_words(
    same: tuple[GateResult, Path], noisy: tuple[GateResult, Path]
) -> None:
    page = write_gate_report(*noisy).read_text()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) == 12
    for source in sources:
        head, _, content = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content).startswith(b"\x89PNG")
    for text in ("Promotion gate: refused", "✗ fails", "✓ holds", "The edits that differ most"):
        assert text in page
    page = write_gate_report(*same).read_text()
    assert "Promotion gate: passed" in page
    assert "distance from the paint, CIEDE2000, each edit: largest worsening" in page
    assert "✗" not in page


def test_pictures_of_an_earlier_gate_are_gone(recipes: RecipeSet, tmp_path: Path) -> None:
    old = tmp_path / "pictures" / "old.png"
    old.parent.mkdir()
    old.write_bytes(b"")
    (tmp_path / "gate.json").write_text('{"passed": true}')
    same = encode_png(make_photo())
    request = EditRequest(photo=same, regions=("hair",), seed=1)
    one = write_recipes(tmp_path / "one", [Recipe.from_request(request, name="only")])
    with pytest.raises(ValueError, match="all recipes show the same photo"):
        _gate(make_pipeline(), None, one, tmp_path)
    assert not old.exists()
    assert not (tmp_path / "gate.json").exists()


@pytest.mark.parametrize(
    ("fields", "region"),
    [
        ({"regions": ("skin", "nose"), "color": "#000000"}, "skin"),
        ({"regions": ("hat",)}, "hat fill"),
        ({"mask": b"m"}, "mask fill"),
        ({"mask": b"m", "strokes": b"s"}, "mask"),
        ({"strokes": b"s"}, "strokes"),
    ],
)
def test_the_region_of_an_edit(fields: dict[str, Any], region: str) -> None:
    assert region_of(EditRequest(photo=b"p", **fields)) == region


def test_real_networks_from_bundles_on_disk(tmp_path: Path) -> None:
    """The bundle's own segmenter judges; other weights of the same networks are refused."""
    pipelines = []
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(pipelines)}"
        folder.mkdir()
        with unpacked_bundle(staged_bundle(folder, seed=seed)) as bundle:
            pipelines.append(EditPipeline.from_bundle(bundle))
    made = []
    for number in range(4):
        photo = make_photo(48, 48, seed=number)
        request = EditRequest(photo=encode_png(photo), mask=mask_png(make_mask(48, 48)), seed=1)
        changed = request.model_copy(update={"color": "#204080", "strength": 0.9, "steps": 3})
        made.append(Recipe.from_request(changed, name="mask"))
    recipes = write_recipes(tmp_path / "recipes", made)
    # Masks alone: there are no regions to compare.
    tolerances = {m: limit for m, limit in RULES.tolerances.items() if m != "region_mismatch"}
    rules = RULES.model_copy(update={"bounds": {}, "tolerances": tolerances})
    run = partial(run_gate, current=pipelines[0], recipes=recipes, rules=rules, out_dir=tmp_path)
    assert run(pipelines[1]).passed
    refused = run(pipelines[2])
    assert not refused.passed
    assert refused.recipes_digest == recipes.digest
