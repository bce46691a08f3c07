import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neural_photo_editor.artifacts.bundle import (
    BundleSpec,
    LoadedBundle,
    ServingDefaults,
    load_bundle,
    stage_bundle,
)
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.common.fingerprint import sha256_json
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.artifacts.conftest import metadata

Export = Callable[..., Path]


def _stage(tmp_path: Path, folder: Path, **changes: object) -> LoadedBundle:
    arguments: dict[str, object] = {
        "denoiser": "denoiser@latest",
        "segmenter": "segmenter@latest",
        "upscaler": "upscaler@latest",
        "defaults": ServingDefaults(steps=10),
    }
    return stage_bundle(tmp_path / "registry", folder=folder, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture
def folder(export: Export, tmp_path: Path) -> Path:
    for kind in ("denoiser", "segmenter", "upscaler"):
        export(kind)
    _stage(tmp_path, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_holds_the_three_artifacts(folder: Path, tmp_path: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.schedule == NoiseSchedule.linear()
    assert bundle.defaults.steps == 10
    assert bundle.upscaler.spec.scale == 4
    assert bundle.spec.parts["segmenter"].version == 1
    x = torch.rand(1, 3, 16, 16)
    original = load_artifact(tmp_path / "registry/segmenter/versions/1")
    assert torch.equal(bundle.segmenter.network(x), original.network(x))


def test_equal_bundles_have_equal_digests_and_defaults_count(folder: Path, tmp_path: Path) -> None:
    digest = load_bundle(folder).digest
    assert _stage(tmp_path, tmp_path / "same").digest == digest
    changed = _stage(tmp_path, tmp_path / "other", defaults=ServingDefaults(steps=11))
    assert changed.digest != digest


def test_handler_and_manifest_beside_the_bundle_do_no_harm(folder: Path) -> None:
    (folder / "handler.py").write_text("")
    (folder / "MAR-INF").mkdir()
    assert load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 3}, "version 3, this program reads 1 to 2"),
        ({"digest": "0" * 64}, f"is {'0' * 64}, but the rest of the bundle says"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_changed_description_is_refused(
    folder: Path, change: dict[str, object], message: str
) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_bundle(folder)


def test_another_artifact_in_its_place_is_refused(
    folder: Path, export: Export, tmp_path: Path
) -> None:
    other = export("upscaler", metrics={"psnr": 30.0})
    shutil.rmtree(folder / "artifacts/upscaler")
    shutil.copytree(other, folder / "artifacts/upscaler")
    with pytest.raises(ValueError, match="digest of artifacts/upscaler is"):
        load_bundle(folder)


def test_a_missing_or_additional_part_is_refused(folder: Path) -> None:
    (folder / "artifacts/fourth").mkdir()
    with pytest.raises(ValueError, match="fourth"):
        load_bundle(folder)
    (folder / "artifacts/fourth").rmdir()
    shutil.rmtree(folder / "artifacts/denoiser")
    with pytest.raises(ValueError, match="expected"):
        load_bundle(folder)


def test_parts_that_disagree_are_refused_naming_both_values(
    folder: Path, export: Export, tmp_path: Path
) -> None:
    export("segmenter", metadata=metadata("segmenter", resolution=32))
    with pytest.raises(ValueError, match="segmenter is 32, but the rest of the bundle says 16"):
        _stage(tmp_path, tmp_path / "second")


def test_a_kind_in_the_wrong_place_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind of artifacts/upscaler is segmenter"):
        _stage(tmp_path, tmp_path / "second", upscaler="segmenter@1")


def test_more_steps_than_the_schedule_has_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="default of 501 steps, but the noise schedule has 500"):
        _stage(tmp_path, tmp_path / "second", defaults=ServingDefaults(steps=501))


def test_another_noise_schedule_is_refused_naming_both(folder: Path) -> None:
    path = folder / "bundle.json"
    spec = BundleSpec.model_validate_json(path.read_bytes())
    schedule = NoiseSchedule.linear(num_timesteps=1000).to_spec()
    spec = spec.model_copy(update={"schedule": schedule})
    spec = spec.model_copy(update={"digest": spec.content_digest()})
    path.write_text(spec.model_dump_json())
    with pytest.raises(ValueError, match=r"'num_timesteps': 500.*'num_timesteps': 1000"):
        load_bundle(folder)


def test_a_bundle_is_under_the_licenses_of_all_its_parts(export: Export, tmp_path: Path) -> None:
    of_kind = {"denoiser": ["CC0-1.0", "MIT"], "segmenter": ["CC-BY-2.0"], "upscaler": []}
    for kind, licenses in of_kind.items():
        export(kind, provenance={"licenses": licenses})
    spec = _stage(tmp_path, tmp_path / "bundle").spec
    assert spec.licenses == ("CC-BY-2.0", "CC0-1.0", "MIT")
    assert {kind: list(part.licenses) for kind, part in spec.parts.items()} == of_kind


def _rewrite(folder: Path, content: dict[str, object]) -> None:
    content.pop("digest")
    signed = {**content, "digest": sha256_json(content)}
    (folder / "bundle.json").write_text(json.dumps(signed))


def test_a_bundle_of_version_1_gets_the_licenses_of_its_artifacts(folder: Path) -> None:
    expected = load_bundle(folder).spec
    content = json.loads((folder / "bundle.json").read_text())
    # As the first release wrote it.
    del content["licenses"]
    for part in content["parts"].values():
        del part["licenses"]
    _rewrite(folder, {**content, "schema_version": 1})
    migrated = load_bundle(folder).spec
    assert migrated.licenses == expected.licenses == ("CC0-1.0",)
    assert migrated.model_copy(update={"digest": expected.digest}) == expected


@pytest.mark.parametrize("place", ["part", "bundle"])
def test_other_licenses_than_the_artifacts_are_refused(folder: Path, place: str) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    content["licenses"] = ["MIT"]
    if place == "part":
        for part in content["parts"].values():
            part["licenses"] = ["MIT"]
    _rewrite(folder, content)
    with pytest.raises(ValueError, match=r"licenses of .*'MIT'"):
        load_bundle(folder)
