import subprocess
import sys
from pathlib import Path

import pytest

from neural_photo_editor.artifacts.archive import archive_digest, read_bundle
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.cli import main
from tests.unit.artifacts.conftest import KINDS, export_tiny, publish_tiny_bundle

BUNDLE = "neural_photo_editor"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "registry"
    for kind in KINDS:
        export_tiny(kind, folder)
    publish_tiny_bundle(folder, tmp_path / "out")
    monkeypatch.setenv("NPE_REGISTRY", str(folder))
    monkeypatch.setenv("NPE_ACTOR", "ann")
    return folder


def _say(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["registry", *arguments]) == status
    said = capsys.readouterr()
    return said.err if status else said.out


def test_list(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{BUNDLE}: 1 version up to 1; latest = 1\n" in _say(capsys, "list")
    _say(capsys, "promote", f"{BUNDLE}@1", "candidate", "--reason", "new photos", *_policy())
    said = _say(capsys, "list", BUNDLE)
    assert "candidate new -> 1 (set by ann): new photos\n" in said
    assert "denoiser" not in said
    assert "there is no artifact 'x'" in _say(capsys, "list", "x", status=1)


def _policy() -> list[str]:
    return ["--policy", str(Path(__file__).parents[3] / "conf" / "policy.yaml")]


def test_show_prints_the_lineage_as_a_tree(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, _ = read_bundle(registry, f"{BUNDLE}@1")
    config = load_artifact(registry / "denoiser/versions/1").spec.provenance.config_digest
    lines = _say(capsys, "show", f"{BUNDLE}@latest").splitlines()
    assert lines[:11] == [
        f"{BUNDLE}@1 (latest): bundle  {spec.digest}",
        f"archive: sha256:{archive_digest(registry, BUNDLE, 1)}",
        "licenses: CC0-1.0",
        "defaults: dpmpp_2m, 10 steps, strength 0.37",
        f"├─ denoiser: denoiser@1  {spec.parts['denoiser'].digest}",
        "│  └─ training run",
        "│     ├─ commit abc",
        f"│     ├─ configuration {config}",
        "│     ├─ tracker run run1",
        f"│     └─ data: portraits  {'7' * 64}",
        "│        └─ licenses: CC0-1.0",
    ]
    artifact = _say(capsys, "show", "upscaler@1").splitlines()
    assert artifact[1] == "metrics: loss 0.5"
    assert artifact[-1] == "      └─ licenses: CC0-1.0"


def test_diff_names_configuration_metrics_licenses_digests_and_defaults(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = "kind: denoiser\nlr: 0.1\n"
    export_tiny("denoiser", registry, ["MIT"], metrics={"loss": 0.25}, config_yaml=config)
    said = _say(capsys, "diff", "denoiser@1", "denoiser@2").splitlines()
    assert "spec: metrics.loss: 0.5 -> 0.25" in said
    assert 'spec: provenance.licenses: ["CC0-1.0"] -> ["MIT"]' in said
    assert "config: +lr: 0.1" in said
    assert "config: -kind: denoiser" not in said
    assert any(line.startswith("file: config.yaml: ") for line in said)
    assert not any("model.safetensors" in line for line in said)
    publish_tiny_bundle(registry, tmp_path / "out", steps=11)
    said = _say(capsys, "diff", f"{BUNDLE}@1", f"{BUNDLE}@2").splitlines()
    assert "bundle: defaults.steps: 10 -> 11" in said
    assert 'bundle: licenses: ["CC0-1.0"] -> ["CC0-1.0", "MIT"]' in said
    assert "lineage: parts.denoiser.metrics.loss: 0.5 -> 0.25" in said
    assert any(line.startswith("bundle: parts.denoiser.digest: ") for line in said)
    assert not any("segmenter" in line for line in said)
    assert _say(capsys, "diff", "denoiser@1", "denoiser@1") == "both are the same\n"


def test_pull_fetches_what_can_be_served(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _say(capsys, "pull", f"{BUNDLE}@latest", "--to", str(tmp_path / "served"))
    assert said == f"{tmp_path / 'served' / 'neural_photo_editor.mar'}\n"
    by_digest = f"{BUNDLE}@sha256:{archive_digest(registry, BUNDLE, 1)}"
    assert _say(capsys, "pull", by_digest, "--to", str(tmp_path / "served")) == said
    archive = registry / BUNDLE / "versions/1/neural_photo_editor.mar"
    archive.write_bytes(archive.read_bytes()[:-1])
    error = _say(capsys, "pull", f"{BUNDLE}@latest", "--to", str(tmp_path / "other"), status=1)
    assert "has other bytes than SHA256SUMS lists" in error
    assert not list((tmp_path / "other").iterdir())


def test_promotion_is_refused_by_the_policy_and_cannot_be_forced(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _say(capsys, "promote", f"{BUNDLE}@1", "production", *_policy(), status=3)
    assert "needs a passed gate to become production" in error
    error = _say(capsys, "promote", f"{BUNDLE}@9", "production", *_policy(), status=1)
    assert "no version 9" in error
    with pytest.raises(SystemExit):
        main(["registry", "promote", f"{BUNDLE}@1", "production", "--force"])


def test_rollback_and_gc(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (1, 2):
        assert f"{BUNDLE}@canary is version {version} now\n" in _say(
            capsys, "promote", f"{BUNDLE}@{version}", "canary", *_policy()
        )
        publish_tiny_bundle(registry, tmp_path / "out")
    said = _say(capsys, "promote", f"{BUNDLE}@2", "canary", *_policy())
    assert said == f"{BUNDLE}@canary is version 2 already; asked again\n"
    said = _say(capsys, "rollback", BUNDLE, "canary", "--reason", "worse hair")
    assert said == f"{BUNDLE}@canary is version 1 now, was 2\n"
    assert "none before it" in _say(capsys, "rollback", BUNDLE, "canary", status=1)
    assert _say(capsys, "gc", "--keep", "1") == f"not needed: {BUNDLE}@2\n"
    assert _say(capsys, "gc", "--keep", "1", "--delete") == f"deleted: {BUNDLE}@2\n"
    assert _say(capsys, "gc", "--keep", "1") == "everything is needed\n"


def test_no_action_needs_torch(registry: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from neural_photo_editor.cli import main
for name in ("torch", "safetensors", "wandb", "fsspec"):
    sys.modules[name] = None
for arguments in (
    ["list"], ["list", "{BUNDLE}"], ["show", "{BUNDLE}@1"], ["show", "denoiser@1"],
    ["diff", "denoiser@1", "upscaler@1"], ["pull", "{BUNDLE}@1", "--to", r"{tmp_path / "to"}"],
    ["promote", "{BUNDLE}@1", "candidate", *{_policy()}], ["gc"],
):
    assert main(["registry", *arguments]) == 0, arguments
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_registry_that_needs_a_package_says_which(
    registry: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    error = _say(capsys, "list", "--registry", "s3://bucket/registry", status=1)
    assert "pip install 'neural-photo-editor[registry,s3]'" in error
