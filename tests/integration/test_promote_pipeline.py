"""Bundles and recipes, on disk or in a registry -> gate.json, a page, and a promotion or none."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.recipe import Recipe
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.archive import publish_bundle
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.artifacts.policy import AliasRule, Policy
from neural_photo_editor.artifacts.promotion import PromotionError, promote
from neural_photo_editor.artifacts.registry import list_aliases, set_alias
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.gate_rules import GateRules
from neural_photo_editor.evaluation.recipes import load_recipes, write_recipes
from pipelines.promote import run
from tests.unit.editing.staged_bundle import staged_bundle
from tests.unit.editing.tiny_pipeline import make_mask, make_photo, mask_png, random_networks

ROOT = Path(__file__).resolve().parents[2]
NAME = "neural_photo_editor"
LEFT_OUT = ("~rules.bounds", "~rules.tolerances.region_mismatch", "~rules.caps.region_mismatch")
"""Untrained networks keep no bounds, and these recipes have no regions."""


def configured(**values: object) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        # This machine may be busy.
        changed = {"rules.tolerances.seconds": 1000.0, **values}
        settings = [f"{name}={value}" for name, value in changed.items()]
        return compose("promote", [*LEFT_OUT, *settings])


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    made = []
    for number in range(4):
        request = EditRequest(
            photo=encode_png(make_photo(48, 48, seed=number)),
            mask=mask_png(make_mask(48, 48)),
            color="#204080",
            strength=0.3,
            detail="model",
            seed=number,
        )
        made.append(Recipe.from_request(request, name="mask"))
    write_recipes(folder, made)
    return folder


def _export_denoiser(registry: Path, *, bias: float) -> None:
    """Export a denoiser that answers ``bias`` to everything."""
    denoiser = random_networks(0)["denoiser"]
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
        denoiser.get_parameter("conv_out.bias").fill_(bias)
    metadata = {
        "kind": "denoiser",
        "resolution": 32,
        "schedule": NoiseSchedule.linear().to_spec(),
        "scale": None,
    }
    export_artifact(
        denoiser, name="denoiser", metadata=metadata, config_yaml="{}", preview_png=None,
        provenance={}, metrics={}, registry=registry,
    )  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of denoisers that see no noise at all: versions 1 and 2; that see it everywhere: 3."""
    folder = tmp_path_factory.mktemp("registry")
    staged_bundle(folder)
    for bias in (0.0, 2.0):
        _export_denoiser(folder / "registry", bias=bias)
    handler = folder / "handler.py"
    handler.write_text("class Handler:\n    pass\n")
    for version in (2, 2, 3):
        archive = build_bundle(
            folder / "registry",
            denoiser=f"denoiser@{version}",
            segmenter="segmenter@1",
            upscaler="upscaler@1",
            defaults=ServingDefaults(steps=3, feather_px=2),
            handler=handler,
            out_dir=folder / "out",
        )
        publish_bundle(folder / "registry", archive)
    return folder / "registry"


POLICY = Policy(aliases={"production": AliasRule(unknown="allow", requires_gate=True)})


def test_a_bundle_is_judged_promoted_and_its_damaged_successor_refused(
    registry: Path, recipes: Path, tmp_path: Path
) -> None:
    common = {"registry": registry, "recipes": recipes}
    first = run(configured(candidate=f"{NAME}@1", out_dir=tmp_path / "first", **common))
    assert first.passed
    assert first.current_digest is None
    archive = registry / NAME / "versions" / "1" / f"{NAME}.mar"
    assert first.candidate_archive_sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert promote(registry, f"{NAME}@1", "production", policy=POLICY, gate=tmp_path / "first") == (
        NAME,
        1,
    )

    same = run(configured(candidate=f"{NAME}@2", out_dir=tmp_path / "same", **common))
    assert same.passed
    assert same.current_digest == first.candidate_digest
    promote(registry, f"{NAME}@2", "production", policy=POLICY, gate=tmp_path / "same")

    set_alias(registry, NAME, "candidate", 3)
    damaged = run(configured(candidate=f"{NAME}@candidate", out_dir=tmp_path / "bad", **common))
    assert not damaged.passed
    assert any(reason.startswith("paint_difference, region all") for reason in damaged.reasons)
    with pytest.raises(PromotionError, match="did not pass the gate"):
        promote(registry, f"{NAME}@3", "production", policy=POLICY, gate=tmp_path / "bad")
    # Another bundle's verdict does not help.
    with pytest.raises(PromotionError, match="is about the bundle"):
        promote(registry, f"{NAME}@3", "production", policy=POLICY, gate=tmp_path / "same")
    assert list_aliases(registry, NAME)["production"] == 2


def _command(tmp_path: Path, candidate: Path, *others: str) -> "subprocess.CompletedProcess[str]":
    settings = [f"candidate={candidate}", f"out_dir={tmp_path / 'gate'}"]
    settings += ["rules.tolerances.seconds=1000", *LEFT_OUT, *others]
    return subprocess.run(
        [sys.executable, "pipelines/promote.py", *settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


@pytest.mark.slow
def test_the_exit_status_tells_refusal_from_failure(
    registry: Path, recipes: Path, tmp_path: Path
) -> None:
    versions = registry / NAME / "versions"
    archive = versions / "1" / f"{NAME}.mar"
    current = f"current={archive}"
    passed = _command(tmp_path, versions / "1", current, f"recipes={recipes}")
    assert passed.returncode == 0, passed.stderr
    assert "4 of 4 recipes" in passed.stderr
    refused = _command(tmp_path, versions / "3", current, f"recipes={recipes}")
    assert refused.returncode == 3, refused.stderr
    assert "refused: " in refused.stderr
    assert not json.loads((tmp_path / "gate" / "gate.json").read_text())["passed"]
    absent = _command(tmp_path, tmp_path / "none", "current=null", f"recipes={recipes}")
    assert absent.returncode == 1
    assert "promote: " in absent.stderr
    (tmp_path / "file").touch()
    unwritable = _command(tmp_path / "file", versions / "1", "current=null", f"recipes={recipes}")
    assert unwritable.returncode == 1
    assert "promote: " in unwritable.stderr
    assert "Traceback" not in unwritable.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipes_digest": "0" * 64}, "is the set"),
        ({"recipes": "nowhere"}, "no recipes in nowhere"),
        ({"rules.bucket_edges": "[0.5, 0.4]"}, "bucket_edges must increase"),
        ({"rules.least_edits": "0"}, "rules.least_edits"),
        ({"current": "nobody@production"}, "no artifact 'nobody'"),
        ({"candidate": f"{NAME}@99"}, "no version 99"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    registry: Path, recipes: Path, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    usual = {"candidate": f"{NAME}@1", "registry": registry, "recipes": recipes}
    cfg = configured(**{**usual, "out_dir": tmp_path, **settings})
    with pytest.raises(ValueError, match=message):
        run(cfg)
    assert not (tmp_path / "gate.json").exists()


def test_without_recipes_portraits_are_drawn_and_kept(tmp_path: Path, registry: Path) -> None:
    """An untrained segmenter may refuse regions: the gate says so rather than skip them."""
    settings = {"portraits": 1, "portrait_resolution": 32, "out_dir": tmp_path, "current": "null"}
    result = run(configured(candidate=f"{NAME}@1", registry=registry, **settings))
    assert len(result.pairs) == 13
    kept = load_recipes(tmp_path / "drawn_recipes")
    assert kept.digest == result.recipes_digest
    assert list(kept.recipes) == [pair.name for pair in result.pairs]


def test_the_shipped_rules_are_valid() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("promote", ["candidate=a"])
    rules = GateRules.model_validate(dict(cfg.rules))
    assert set(rules.tolerances) == {
        "paint_difference", "color_patches", "seam", "feature_distance", "change_inside",
        "region_mismatch", "network_calls", "seconds",
    }  # fmt: skip
    assert set(rules.caps) == set(rules.tolerances) - {"network_calls", "seconds"}
