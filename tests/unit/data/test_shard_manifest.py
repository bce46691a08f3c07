import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.data.shard_manifest import (
    MANIFEST_NAME,
    FileNote,
    ShardInfo,
    ShardManifest,
)
from neural_photo_editor.data.storage import ShardStorage


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
        (lambda m: m.update(near_duplicates=[["01", "stranger"]]), "'stranger'.* are not two or"),
        (lambda m: m.update(near_duplicates=[["01", "01"]]), "'01'.* are not two or more"),
        (lambda m: m.update(near_duplicates=[["01"]]), "'01'.* are not two or more"),
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


def test_a_manifest_lies_in_an_object_store_too(shards: Path, tmp_path: Path) -> None:
    storage = ShardStorage(f"memory://{tmp_path.name}/manifest")
    with pytest.raises(ValueError, match=r"no data set in memory://.*/manifest"):
        ShardManifest.load(storage)
    storage.write(MANIFEST_NAME, shards / MANIFEST_NAME)
    assert ShardManifest.load(str(storage)) == ShardManifest.load(shards)
    (tmp_path / "broken").write_text("{}")
    storage.write(MANIFEST_NAME, tmp_path / "broken")
    with pytest.raises(ValueError, match=r"memory://.*manifest/manifest\.json is not a valid"):
        ShardManifest.load(storage)


def test_fields_added_later_may_be_absent(shards: Path) -> None:
    before = ShardManifest.load(shards)
    _edit(shards, lambda m: [m.pop(name) for name in ("crop", "notes", "near_duplicates")])
    manifest = ShardManifest.load(shards)
    assert (manifest.crop, manifest.notes, manifest.near_duplicates) == ("", (), ())
    assert manifest.shards == before.shards


def test_a_large_manifest_survives_and_its_file_stays_small(tmp_path: Path) -> None:
    keys = tuple(f"photo-{number:06d}-0123456789ab" for number in range(200_000))
    shards = tuple(
        ShardInfo(
            file=f"train-{number:06d}.tar",
            split="train",
            keys=keys[number * 1000 : (number + 1) * 1000],
            bytes=1,
            sha256=f"{number:064x}",
        )
        for number in range(200)
    )
    manifest = ShardManifest(
        name="large",
        resolution=128,
        image_format="jpg",
        licenses=("CC0-1.0",),
        notes=tuple(FileNote(file=f"{key}.jpg", reason="torn") for key in keys[::10]),
        near_duplicates=tuple(zip(keys[:50_000:2], keys[1:50_000:2], strict=True)),
        shards=shards,
    )
    path = manifest.save(tmp_path)
    assert path.stat().st_size < 12e6
    loaded = ShardManifest.load(tmp_path)
    assert loaded.num_samples("train") == 200_000
    assert loaded.digest == manifest.digest
