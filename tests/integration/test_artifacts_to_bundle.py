"""Arrow: three artifacts -> one .mar that TorchServe can unpack."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle, load_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.artifacts.load import load_artifact
from tests.unit.artifacts.conftest import metadata, tiny_network

KINDS = ("denoiser", "segmenter", "upscaler")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for kind in KINDS:
        export_artifact(
            tiny_network(kind),
            name=f"tiny_{kind}",
            metadata=metadata(kind),
            config_yaml="a: 1\n",
            preview_png=None,
            provenance={},
            metrics={},
            registry=tmp_path / "registry",
        )
    return tmp_path / "registry"


def test_the_archive_holds_a_bundle_that_loads(registry: Path, tmp_path: Path) -> None:
    handler = tmp_path / "handler.py"
    handler.write_text("class Handler:\n    pass\n")
    model_config = tmp_path / "model-config.yaml"
    model_config.write_text("minWorkers: 1\n")
    archive = build_bundle(
        registry,
        **{kind: f"tiny_{kind}@latest" for kind in KINDS},  # type: ignore[arg-type]
        defaults=ServingDefaults(steps=5),
        handler=handler,
        model_config=model_config,
        out_dir=tmp_path / "out",
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [archive.name]
    model_dir = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as file:
        file.extractall(model_dir)
    manifest = json.loads((model_dir / "MAR-INF/MANIFEST.json").read_text())
    assert manifest["model"]["handler"] == "handler.py"
    assert manifest["model"]["modelName"] == "neural_photo_editor"
    assert manifest["model"]["configFile"] == "model-config.yaml"
    assert (model_dir / "handler.py").read_text() == handler.read_text()

    bundle = load_bundle(model_dir)
    assert bundle.defaults.steps == 5
    x = torch.rand(1, 3, 16, 16)
    source = load_artifact(registry / "tiny_upscaler/versions/1")
    assert torch.equal(bundle.upscaler.network(x), source.network(x))


def test_a_missing_handler_is_named(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.py is missing"):
        build_bundle(
            registry,
            **{kind: f"tiny_{kind}@latest" for kind in KINDS},  # type: ignore[arg-type]
            defaults=ServingDefaults(),
            handler=tmp_path / "nothing.py",
            out_dir=tmp_path / "out",
        )
