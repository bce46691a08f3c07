"""W&B's own client against a server that answers as far as artifacts need it."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neural_photo_editor.artifacts import mirror
from neural_photo_editor.artifacts.mirror import mirror_alias, mirror_version
from neural_photo_editor.artifacts.registry import list_aliases, set_alias
from neural_photo_editor.cli import main
from tests.unit.artifacts.conftest import KINDS, export_tiny, publish_tiny_bundle
from tests.unit.artifacts.wandb_server import WandbServer, serve_wandb

BUNDLE = "neural_photo_editor"


@pytest.fixture(autouse=True)
def heard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> pytest.LogCaptureFixture:
    """The package's warnings, whoever configured logging before; no account but the test's own."""
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    caplog.set_level(logging.WARNING, "neural_photo_editor")
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setattr(mirror, "TIMEOUT_S", 10)
    return caplog


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with serve_wandb() as running:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        yield running


@pytest.mark.slow
def test_versions_appear_with_their_aliases_and_promotion_moves_them(
    server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = tmp_path / "registry"
    for kind in KINDS:
        export_tiny(kind, registry)
    for steps in (10, 11):
        version = publish_tiny_bundle(registry, tmp_path / "out", steps=steps)
        mirror_version(registry, BUNDLE, version)
    mirror_version(registry, "segmenter", 1)
    types = [(a["artifactCollectionName"], a["artifactTypeName"]) for a in server.artifacts]
    assert types == [(BUNDLE, "bundle"), (BUNDLE, "bundle"), ("segmenter", "model")]
    assert server.aliases_of(1) == {"registry-1"}
    assert server.aliases_of(2) == {"registry-2", "latest"}
    assert server.aliases_of(3) == {"registry-1", "latest"}
    archive = registry / BUNDLE / "versions/2/neural_photo_editor.mar"
    assert archive.read_bytes() in server.files.values()
    metadata = json.loads(server.artifacts[1]["metadata"])
    assert json.loads(metadata["bundle.json"])["licenses"] == ["CC0-1.0"]

    policy = str(Path(__file__).parents[3] / "conf" / "policy.yaml")
    shared = ["--registry", str(registry)]
    for number in (1, 2):
        reference = f"{BUNDLE}@{number}"
        promoted = ["registry", "promote", reference, "canary", "--policy", policy, *shared]
        assert main(promoted) == 0
        assert server.aliases[BUNDLE, "canary"] == number
    assert main(["registry", "rollback", BUNDLE, "canary", *shared]) == 0
    assert server.aliases[BUNDLE, "canary"] == 1 == list_aliases(registry, BUNDLE)["canary"]


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["UpsertBucket", "CreateArtifact", "CommitArtifact"])
def test_a_server_that_refuses_costs_a_warning(
    server: WandbServer, tmp_path: Path, heard: pytest.LogCaptureFixture, operation: str
) -> None:
    server.fails_at = operation
    export_tiny("segmenter", tmp_path)
    mirror_version(tmp_path, "segmenter", 1)
    assert "W&B did not take segmenter@1, the registry has it: " in heard.text


@pytest.mark.slow
def test_a_server_that_is_not_there_fails_no_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "TIMEOUT_S", 2)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # Nobody listens there.
    export_tiny("segmenter", tmp_path)
    mirror_version(tmp_path, "segmenter", 1)
    policy = tmp_path / "policy.yaml"
    policy.write_text("aliases: {}\n")
    arguments = ["segmenter@1", "production", "--policy", str(policy), "--registry", str(tmp_path)]
    assert main(["registry", "promote", *arguments]) == 0
    assert list_aliases(tmp_path, "segmenter")["production"] == 1
    for what in ("segmenter@1", "segmenter@production"):
        assert f"W&B did not take {what}, the registry has it: " in heard.text


@pytest.mark.parametrize(
    "variables",
    [{"WANDB_API_KEY": ""}, *({"WANDB_MODE": mode} for mode in ("offline", "disabled", "dryrun"))],
    ids=str,
)
def test_nothing_is_sent_unless_online(
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    heard: pytest.LogCaptureFixture,
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    export_tiny("segmenter", tmp_path)
    set_alias(tmp_path, "segmenter", "production", 1)
    mirror_version(tmp_path, "segmenter", 1)
    mirror_alias("segmenter", "production", 1)
    assert server.num_requests == 0
    assert heard.text == ""


def test_without_the_package_a_warning_is_all(
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    heard: pytest.LogCaptureFixture,
) -> None:
    export_tiny("segmenter", tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    mirror_version(tmp_path, "segmenter", 1)
    assert "wandb is not installed: segmenter@1 is in the registry alone" in heard.text
