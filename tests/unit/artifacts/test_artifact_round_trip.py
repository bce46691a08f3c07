import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.load import build_network, load_artifact
from neural_photo_editor.networks.discriminator import Discriminator

Export = Callable[..., Path]
KINDS = ["denoiser", "segmenter", "upscaler"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_network_gives_the_same_bits(export: Export, kind: str) -> None:
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    inputs = (x, torch.tensor([1, 500])) if kind == "denoiser" else (x,)
    folder = export(kind)
    loaded = load_artifact(folder)
    original = build_network(loaded.spec.network.name, loaded.spec.network.kwargs)
    torch.manual_seed(1)
    for parameter in original.parameters():
        torch.nn.init.normal_(parameter)
    again = load_artifact(export(kind, network=original))
    original.eval()
    with torch.no_grad():
        assert torch.equal(original(*inputs), again.network(*inputs))
        assert not torch.equal(loaded.network(*inputs), again.network(*inputs))
    assert not again.network.training
    assert again.digest != loaded.digest
    assert loaded.spec.kind == kind
    assert loaded.spec.provenance.licenses == ("CC0-1.0",)
    assert loaded.spec.metrics == {"loss": 0.5}


def test_equal_exports_have_equal_digests(export: Export) -> None:
    first, second = export("upscaler"), export("upscaler")
    assert first != second
    assert load_artifact(first).digest == load_artifact(second).digest


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json", "config.yaml", "preview.png"])
def test_a_changed_file_is_named_before_anything_is_loaded(export: Export, name: str) -> None:
    folder = export("segmenter")
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} has other bytes"):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json", "config.yaml", "SHA256SUMS"])
def test_a_missing_file_is_named(export: Export, name: str) -> None:
    folder = export("segmenter")
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        load_artifact(folder)


def test_a_file_that_is_not_listed_is_refused(export: Export) -> None:
    folder = export("segmenter")
    (folder / "weights.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.pt is not listed"):
        load_artifact(folder)
    write_sums(folder)  # Listing it does not help: it does not belong there.
    with pytest.raises(ValueError, match=r"weights\.pt does not belong"):
        load_artifact(folder)


@pytest.mark.parametrize("entry", ["../../secret", "/etc/passwd", ".hidden"])
def test_a_listed_path_outside_the_folder_is_refused(export: Export, entry: str) -> None:
    folder = export("segmenter")
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {entry}\n")
    with pytest.raises(ValueError, match="no digest"):
        load_artifact(folder)


def _rewrite_spec(folder: Path, **changes: object) -> None:
    path = folder / "spec.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_sums(folder)


def test_a_newer_schema_is_refused_naming_both_versions(export: Export) -> None:
    folder = export("segmenter")
    _rewrite_spec(folder, schema_version=7, a_field_of_the_future=1)
    message = r"version 7, this program reads 1 to 4: update the program"
    with pytest.raises(ValueError, match=message):
        load_artifact(folder)
    _rewrite_spec(folder, schema_version=0)
    with pytest.raises(ValueError, match=r"version 0, .* export it again"):
        load_artifact(folder)


def test_a_specification_of_version_1_is_read_as_it_is(export: Export) -> None:
    folder = export("denoiser")
    expected = load_artifact(folder).spec
    path = folder / "spec.json"
    spec = json.loads(path.read_text())
    # As the first release wrote it.
    del spec["provenance"]["source_digest"]
    assert spec["schedule"] == {
        "kind": "linear",
        "num_timesteps": 500,
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "prediction": "epsilon",
    }
    path.write_text(json.dumps(spec))
    _rewrite_spec(folder, schema_version=1)
    assert load_artifact(folder).spec == expected
    assert expected.schema_version == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"name": "os.system", "kwargs": {}}}, "network.name"),
        ({"network": {"name": "SRResNet", "kwargs": {}}}, "is a SegmentationUNet, not a SRResNet"),
        ({"network": {"name": "SegmentationUNet", "kwargs": {"x": 1}}}, "cannot be built"),
        ({"network": {"name": "SegmentationUNet", "kwargs": {}}}, "does not fit"),
        ({"value_range": [0, 1]}, r"\(0.0, 1.0\), this program uses \(-1.0, 1.0\)"),
        ({"region_map": {"hair": 2}}, r"region map \{'hair': 2\}, this program uses"),
        ({"schedule": {"kind": "linear"}}, "with noise schedule"),
        ({"name": "../up"}, "cannot name an artifact"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused(
    export: Export, changes: dict[str, object], message: str
) -> None:
    folder = export("segmenter")
    _rewrite_spec(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "cannot name an artifact"),
        ({"name": ".."}, "cannot name an artifact"),
        ({"network": Discriminator(widths=(8,), dense_width=8)}, "network.name"),
        ({"metrics": {"loss": float("nan")}}, "metrics.loss"),
    ],
)
def test_an_impossible_export_writes_nothing(
    export: Export, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export("segmenter", **changes)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
