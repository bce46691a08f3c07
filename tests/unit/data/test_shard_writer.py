import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.common.fingerprint import sha256_bytes
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_manifest import ShardManifest, Split
from neural_photo_editor.data.shard_plan import split_by_key
from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import (
    Sample,
    SampleSource,
    UnusableFileError,
)
from tests.unit.data.portrait_source import Photos


def _write(source: SampleSource, out_dir: str | Path, **options: object) -> ShardManifest:
    arguments = {"name": "test", "samples_per_shard": 5, "val_fraction": 0.3} | options
    return write_shards(source, out_dir=out_dir, **arguments)  # type: ignore[arg-type]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bytes_do_not_depend_on_the_number_of_workers(
    labeled_photos: ImageFolder, tmp_path: Path
) -> None:
    one = _write(labeled_photos, tmp_path / "one", num_workers=1)
    two = _write(labeled_photos, tmp_path / "two", num_workers=2)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert one.digest == two.digest
    assert len(one.shards) > 3


def test_tar_members_are_plain_and_carry_no_trace_of_the_machine(
    labeled_photos: ImageFolder, tmp_path: Path
) -> None:
    manifest = _write(labeled_photos, tmp_path)
    shard = manifest.shards[0]
    with tarfile.open(tmp_path / shard.file) as tar:
        members = tar.getmembers()
    suffixes = ("jpg", "labels.png", "json")
    assert [m.name for m in members] == [f"{key}.{s}" for key in shard.keys for s in suffixes]
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
        assert (member.uname, member.gname, member.pax_headers) == ("", "", {})


def test_members_hold_photo_labels_and_description(
    labeled_photos: ImageFolder, tmp_path: Path
) -> None:
    manifest = _write(labeled_photos, tmp_path, image_format="jpg")
    shard = manifest.shards[0]
    sample = labeled_photos.load(int(shard.keys[0]))
    with tarfile.open(tmp_path / shard.file) as tar:
        photo, labels, description = (
            tar.extractfile(name).read()  # type: ignore[union-attr]
            for name in tar.getnames()[:3]
        )
    with Image.open(io.BytesIO(photo)) as image:
        assert image.layer[0][1:3] == (1, 1)  # type: ignore[attr-defined]  # 4:4:4
        difference = np.abs(np.array(image).astype(int) - sample.photo)
    assert difference.max() <= 8
    with Image.open(io.BytesIO(labels)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), sample.labels)
    assert json.loads(description) == {
        "source": f"{shard.keys[0]}.png",
        "license": "not stated",
        "attribution": "not stated",
        "width": 48,
        "height": 40,
        "content_sha256": sha256_bytes(photo),
    }


def test_png_shards_are_lossless(labeled_photos: ImageFolder, tmp_path: Path) -> None:
    manifest = _write(labeled_photos, tmp_path, image_format="png")
    shard = manifest.shards[0]
    with (
        tarfile.open(tmp_path / shard.file) as tar,
        Image.open(
            tar.extractfile(f"{shard.keys[0]}.png")  # type: ignore[arg-type]
        ) as image,
    ):
        photo = np.array(image)
    np.testing.assert_array_equal(photo, labeled_photos.load(int(shard.keys[0])).photo)


def test_every_sample_is_in_one_shard_of_its_split(
    labeled_photos: ImageFolder, tmp_path: Path
) -> None:
    manifest = _write(labeled_photos, tmp_path)
    keys = [key for shard in manifest.shards for key in shard.keys]
    assert sorted(keys) == [labeled_photos.key(index) for index in range(len(labeled_photos))]
    splits = dict(zip(sorted(keys), split_by_key(sorted(keys), val_fraction=0.3), strict=True))
    assert all(splits[key] == shard.split for shard in manifest.shards for key in shard.keys)
    assert all(len(shard.keys) <= 5 for shard in manifest.shards)
    verify(tmp_path)


def test_a_sample_keeps_its_split_when_others_are_added() -> None:
    keys = [f"photo-{number}" for number in range(4000)]
    splits = split_by_key(keys, val_fraction=0.1)
    # Five standard deviations of a binomial.
    assert abs(splits.count("val") - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5
    assert split_by_key(keys[::3], val_fraction=0.1) == splits[::3]


def test_both_splits_get_a_sample_of_a_tiny_data_set() -> None:
    for number in range(20):
        assert set(split_by_key([f"{number}a", f"{number}b"], val_fraction=0.01)) == {
            "train",
            "val",
        }
    assert set(split_by_key(["a", "b", "c"], val_fraction=0.0)) == {"train"}
    assert split_by_key(["a"], val_fraction=0.01) == ["train"]


def test_unusable_files_are_listed_and_the_rest_is_written(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        Image.new("RGB", (20, 20), (number * 40, 0, 0)).save(photos / f"{number}.png")
    (photos / "3.png").write_bytes(b"not a photo")
    manifest = _write(ImageFolder(folder=photos), tmp_path / "out", val_fraction=0.0)
    assert [(file.file, file.reason) for file in manifest.skipped] == [
        ("3.png", "the file is not a JPEG, PNG or WebP image")
    ]
    assert manifest.shards[0].keys == ("0", "1", "2", "4")
    assert manifest.num_samples("train") == 5
    assert ShardManifest.load(tmp_path / "out") == manifest
    assert all(shard.unlabeled == shard.keys for shard in manifest.shards)


def test_no_usable_file_at_all_is_an_error_naming_one(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"not a photo")
    with pytest.raises(ValueError, match=r"none of the 1 files is usable; a\.jpg: the file is not"):
        _write(ImageFolder(folder=tmp_path / "photos"), tmp_path / "out")
    with pytest.raises(ValueError, match="no data set in"):
        ShardManifest.load(tmp_path / "out")


def test_a_data_set_is_replaced_only_on_request(
    labeled_photos: ImageFolder, tmp_path: Path
) -> None:
    _write(labeled_photos, tmp_path, samples_per_shard=2)
    (tmp_path / "mine.tar").write_bytes(b"stays")
    before = _bytes(tmp_path)
    with pytest.raises(ValueError, match="overwrite=true"):
        _write(labeled_photos, tmp_path)
    assert _bytes(tmp_path) == before
    manifest = _write(labeled_photos, tmp_path, overwrite=True)
    expected = {shard.file for shard in manifest.shards} | {"manifest.json", "mine.tar"}
    assert set(_bytes(tmp_path)) == expected


def test_the_licenses_of_all_shards_are_listed_once(tmp_path: Path) -> None:
    class Mixed(Photos):
        def load(self, index: int) -> Sample:
            sample = super().load(index)
            license = ("CC0-1.0", "CC-BY-4.0", "CC0-1.0", "CC-BY-2.0")[index // 3]
            return replace(sample, metadata=replace(sample.metadata, license=license))

    manifest = _write(Mixed(), tmp_path, samples_per_shard=3, val_fraction=0.0)
    assert manifest.licenses == ("CC-BY-2.0", "CC-BY-4.0", "CC0-1.0")


class Contradicting(Photos):
    """Its last sample's label map does not fit; importable, as workers need it."""

    def load(self, index: int) -> Sample:
        sample = super().load(index)
        return replace(sample, labels=sample.labels[1:]) if index == 11 else sample  # type: ignore[index]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_sample_that_contradicts_itself_stops_the_run_and_is_named(
    tmp_path: Path, num_workers: int
) -> None:
    with pytest.raises(ValueError, match="labels of p11 do not have the photo's size"):
        _write(Contradicting(), tmp_path, samples_per_shard=3, num_workers=num_workers)
    assert "manifest.json" not in _bytes(tmp_path)


def test_the_source_names_splits_and_keys_decide_the_rest(tmp_path: Path) -> None:
    class Halves(Photos):
        def split(self, index: int) -> Split | None:
            return ("test", "val", "train", None)[index // 3]

    manifest = _write(Halves(), tmp_path, samples_per_shard=3, val_fraction=0.9)
    assert [shard.file for shard in manifest.shards] == [
        "train-000000.tar",
        "train-000001.tar",
        "val-000000.tar",
        "val-000001.tar",
        "test-000000.tar",
    ]
    keys = {split: [] for split in ("train", "val", "test")}
    for shard in manifest.shards:
        keys[shard.split] += shard.keys
    rest = split_by_key(["p09", "p10", "p11"], val_fraction=0.9)
    assert keys["test"] == ["p00", "p01", "p02"]
    assert keys["val"] == ["p03", "p04", "p05"] + [
        f"p{n:02d}" for n, split in zip((9, 10, 11), rest, strict=True) if split == "val"
    ]
    assert manifest.num_samples("test") == 3
    assert sum(map(len, keys.values())) == 12
    verify(tmp_path)


def test_notes_framing_and_near_duplicates_are_in_manifest_and_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Album(Photos):
        def split(self, index: int) -> Split | None:
            return "val" if index == 9 else "train"

        def load(self, index: int) -> Sample:
            if index == 5:
                raise UnusableFileError("a blank page")
            sample = super().load(2 if index == 9 else index)
            noise = np.random.default_rng(0).integers(0, 3, sample.photo.shape, dtype=np.uint8)
            return replace(
                sample,
                key=self.key(index),
                photo=np.minimum(sample.photo, 252) + noise if index == 9 else sample.photo,
                metadata=replace(sample.metadata, note="torn" if index == 4 else ""),
            )

    with caplog.at_level("INFO", logger="neural_photo_editor"):
        manifest = _write(Album(), tmp_path)
    assert manifest.near_duplicates == (("p02", "p09"),)
    assert [(file.file, file.reason) for file in manifest.notes] == [("album/4.jpg", "torn")]
    assert [(file.file, file.reason) for file in manifest.skipped] == [
        ("album/5.jpg", "a blank page")
    ]
    assert manifest.crop == "drawn"
    assert "skipped album/5.jpg: a blank page" in caplog.text
    assert "kept album/4.jpg: torn" in caplog.text
    assert "2 samples look like another one (groups: 1, of them across splits: 1)" in caplog.text
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        described = {
            name: json.loads(tar.extractfile(name).read())  # type: ignore[union-attr]
            for name in tar.getnames()
            if name.endswith(".json")
        }
    assert described["p04.json"]["note"] == "torn"
    assert "note" not in described["p03.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.0}, "val_fraction must be in"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"num_workers": 0}, "num_workers"),
        ({"jpeg_quality": 0}, "jpeg_quality"),
        ({"image_format": "bmp"}, "image_format"),
    ],
)
def test_arguments_are_checked(
    labeled_photos: ImageFolder, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _write(labeled_photos, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
