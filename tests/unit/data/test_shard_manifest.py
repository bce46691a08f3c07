import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.data.shard_manifest import MANIFEST_NAME, ShardManifest, verify


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / MANIFEST_NAME).read_text())
    change(content)
    (folder / MANIFEST_NAME).write_text(json.dumps(content))


def test_load_inverts_save_and_layout_does_not_change_the_digest(
    shards: Path, tmp_path: Path
) -> None:
    manifest = ShardManifest.load(shards)
    manifest.save(tmp_path)
    assert ShardManifest.load(tmp_path) == manifest
    (tmp_path / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=4))
    assert ShardManifest.load(tmp_path).digest == manifest.digest
    assert manifest.model_copy(update={"name": "other"}).digest != manifest.digest


def test_counts(shards: Path) -> None:
    manifest = ShardManifest.load(shards)
    assert manifest.num_samples("train") + manifest.num_samples("val") == 23
    assert 0 < manifest.num_samples("val") < manifest.num_samples("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "schema version 2, this program reads 1"),
        (lambda m: m.pop("shards"), "shards: Field required"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["region_map"].update(hair=2), "the region map"),
        (lambda m: m["shards"].append(m["shards"][0]), "listed twice"),
        (lambda m: m["shards"][0].update(sha256="abc"), r"shards\.0\.sha256"),
        (lambda m: m["shards"][0].update(file="../x.tar"), "is not named"),
        (lambda m: m["shards"][0].update(split="val"), "is not named val"),
        (lambda m: m["shards"][0]["unlabeled"].append("nobody"), "lists 'nobody' as unlabeled"),
        (lambda m: m["shards"][0]["keys"].append(m["shards"][1]["keys"][0]), "two samples"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    shards: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _edit(shards, change)
    with pytest.raises(ValueError, match=message):
        ShardManifest.load(shards)


def test_no_manifest_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set in"):
        ShardManifest.load(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text("{")
    with pytest.raises(ValueError, match="not a valid manifest"):
        ShardManifest.load(tmp_path)


def test_verify_finds_one_changed_byte(shards: Path) -> None:
    assert verify(shards) == ShardManifest.load(shards)
    path = shards / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-000001\.tar has other bytes"):
        verify(shards)


def test_verify_finds_missing_and_cut_off_shards(shards: Path) -> None:
    path = shards / "val-000000.tar"
    data = path.read_bytes()
    path.write_bytes(data[:-512])
    with pytest.raises(ValueError, match=rf"val-000000\.tar has {len(data) - 512} bytes"):
        verify(shards)
    path.unlink()
    with pytest.raises(ValueError, match=r"val-000000\.tar is missing"):
        verify(shards)
