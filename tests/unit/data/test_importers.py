"""One suite for every source of samples, then what is particular to each data set."""

import json
import logging
import pickle
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.common.regions import REGION_MAP
from neural_photo_editor.data.celeba import CelebA
from neural_photo_editor.data.celebamask_hq import PARTS, CelebAMaskHQ
from neural_photo_editor.data.ffhq import FFHQ
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import SampleSource, UnusableFileError
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from tests.unit.api import icc_profiles
from tests.unit.data import fake_datasets

# Photos of CelebA on both sides of the official boundaries between train, val and test.
BOUNDARIES = {162770: "train", 162771: "val", 182637: "val", 182638: "test"}
DUPLICATES = [
    (234, 235), (3329, 3330), (5162, 5163), (6770, 6771), (7384, 7385), (7561, 7562),
    (12444, 12445), (12885, 12886), (13825, 13826), (15506, 15507), (19199, 19200),
    (20134, 20135), (24646, 24647),
]  # fmt: skip


def _image_folder(folder: Path, *, labels: bool) -> ImageFolder:
    fake_datasets.write_image_folder(folder, count=4, labels=labels)
    label_folder = folder / "labels" if labels else None
    return ImageFolder(folder=folder / "photos", labels=label_folder, resolution=32)


def _celeba(folder: Path) -> CelebA:
    fake_datasets.write_celeba(folder, [1, *BOUNDARIES])
    return CelebA(folder=folder, resolution=32)


def _celebamask_hq(folder: Path) -> CelebAMaskHQ:
    fake_datasets.write_celebamask_hq(folder, {0: 119614, 1: 162771, 2: 182638, 2001: 8})
    return CelebAMaskHQ(folder=folder, resolution=32)


def _ffhq(folder: Path) -> FFHQ:
    fake_datasets.write_ffhq(folder, [0, 1, 1000, 59999, 60000, 69999])
    return FFHQ(folder=folder, resolution=32)


SOURCES: dict[str, Callable[[Path], SampleSource]] = {
    "folder": lambda folder: _image_folder(folder, labels=False),
    "labeled folder": lambda folder: _image_folder(folder, labels=True),
    "CelebA": _celeba,
    "CelebAMask-HQ": _celebamask_hq,
    "FFHQ": _ffhq,
    "synthetic": lambda _: SyntheticPortraits(seed=3, count=4, resolution=32),
}
LABELED = {"labeled folder", "CelebAMask-HQ", "synthetic"}


@pytest.fixture(params=SOURCES, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def source(kind: str, tmp_path_factory: pytest.TempPathFactory) -> SampleSource:
    return SOURCES[kind](tmp_path_factory.mktemp("source"))


class TestEverySource:
    def test_samples_have_the_promised_shapes_and_say_where_they_come_from(
        self, source: SampleSource, kind: str
    ) -> None:
        assert len(source) >= 4
        assert source.resolution == 32
        assert "32 x 32 pixels" in source.crop
        for index in range(len(source)):
            sample = source.load(index)
            assert sample.photo.shape == (32, 32, 3)
            assert sample.photo.dtype == np.uint8
            assert sample.photo.std() > 5
            assert (sample.labels is not None) == (kind in LABELED)
            if sample.labels is not None:
                assert sample.labels.shape == (32, 32)
                assert sample.labels.dtype == np.uint8
                assert {REGION_MAP["skin"], REGION_MAP["hair"]} <= set(np.unique(sample.labels))
            assert sample.metadata.source
            assert sample.metadata.license
            assert sample.metadata.attribution
            assert sample.metadata.note == ""

    def test_keys_and_names_are_unique_and_fit_for_shards(self, source: SampleSource) -> None:
        keys = [source.key(index) for index in range(len(source))]
        assert len(set(keys)) == len(keys)
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key) for key in keys)
        assert len({source.name(index) for index in range(len(source))}) == len(keys)
        assert [source.load(index).key for index in range(len(source))] == keys

    def test_loading_is_a_pure_function_also_in_another_process(self, source: SampleSource) -> None:
        copy = pickle.loads(pickle.dumps(source))
        for index in reversed(range(len(source))):
            first, again = source.load(index), copy.load(index)
            assert first.key == again.key
            assert first.metadata == again.metadata
            np.testing.assert_array_equal(first.photo, again.photo)
            np.testing.assert_array_equal(first.labels, again.labels)

    def test_splits_are_a_splits_name_or_left_to_the_writer(
        self, source: SampleSource, kind: str
    ) -> None:
        splits = {source.split(index) for index in range(len(source))}
        expected = {
            "CelebA": {"train", "val", "test"},
            "CelebAMask-HQ": {"train", "val", "test"},
            "FFHQ": {"train", "val"},
        }
        assert splits == expected.get(kind, {None})

    def test_shards_hold_every_sample_in_its_split(
        self, source: SampleSource, tmp_path: Path
    ) -> None:
        write_shards(source, out_dir=tmp_path, name="test", samples_per_shard=2, val_fraction=0.5)
        manifest = verify(tmp_path)
        splits = {key: shard.split for shard in manifest.shards for key in shard.keys}
        assert set(splits) == {source.key(index) for index in range(len(source))}
        for index in range(len(source)):
            assert source.split(index) in (None, splits[source.key(index)])
        assert manifest.skipped == ()
        assert manifest.resolution == 32


def test_celeba_keeps_the_central_square(tmp_path: Path) -> None:
    columns = np.tile(np.arange(178, dtype=np.uint8), (218, 1))
    rows = np.tile(np.arange(218, dtype=np.uint8)[:, None], (1, 178))
    photo = np.dstack([columns, rows, columns])
    (tmp_path / "img_align_celeba").mkdir()
    path = tmp_path / "img_align_celeba" / "000001.jpg"
    Image.fromarray(photo).save(path, quality=100, subsampling=0)
    fake_datasets.write_partition(tmp_path / "list_eval_partition.txt", [1])
    square = CelebA(folder=tmp_path, resolution=178).load(0).photo
    np.testing.assert_allclose(square, photo[20:198].astype(int), atol=3)
    whole = CelebA(folder=tmp_path, resolution=None)
    assert whole.load(0).photo.shape == (218, 178, 3)
    assert whole.crop == "none: photos keep their size"


def test_celeba_takes_the_splits_of_its_list(tmp_path: Path) -> None:
    fake_datasets.write_celeba(tmp_path, list(BOUNDARIES))
    source = CelebA(folder=tmp_path)
    splits = {source.key(index): source.split(index) for index in range(len(source))}
    assert splits == {f"celeba-{number}": split for number, split in BOUNDARIES.items()}


def test_photos_of_celeba_that_are_missing_or_of_another_size_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    fake_datasets.write_celeba(tmp_path, [1, 2, 3])
    (tmp_path / "img_align_celeba" / "000001.jpg").unlink()
    Image.new("RGB", (128, 128)).save(tmp_path / "img_align_celeba" / "000002.jpg")
    source = CelebA(folder=tmp_path)
    assert "lacks 1 of 3 photos" in caplog.text
    with pytest.raises(UnusableFileError, match="missing"):
        source.load(0)
    with pytest.raises(UnusableFileError, match="128 x 128 pixels, CelebA's 178 x 218"):
        source.load(1)
    source.load(2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("000001.jpg 0\n000002.jpg 3\n", "line 2: '000002.jpg 3'"),
        ("image_id,partition\n", "line 1: 'image_id,partition'"),
        ("000001.jpg 0\n000001.jpg 1\n", "line 2"),
        ("\n", "is empty"),
        ("000002.jpg 0\n", "does not list 1 photos of .*, 000001.jpg for one"),
        (None, "list_eval_partition.txt is missing: .* set source.partition"),
    ],
)
def test_a_partition_that_does_not_fit_is_a_mistake(
    tmp_path: Path, content: str | None, message: str
) -> None:
    fake_datasets.write_celeba(tmp_path, [1])
    path = tmp_path / "list_eval_partition.txt"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=message):
        CelebA(folder=tmp_path)


def test_celeba_without_photos_is_a_mistake(tmp_path: Path) -> None:
    fake_datasets.write_partition(tmp_path / "list_eval_partition.txt", [1])
    with pytest.raises(ValueError, match="img_align_celeba is not a folder"):
        CelebA(folder=tmp_path)


def test_overlapping_parts_are_painted_in_the_official_order(tmp_path: Path) -> None:
    # Part k covers all columns from block k on, so block k shows class k if parts are painted in
    # order 1..18, and nothing else does; block 0 stays background.
    fake_datasets.write_celebamask_hq(tmp_path, {0: 1})
    # The class list of the data set's own g_mask.py.
    official = [
        "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
        "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
    ]  # fmt: skip
    assert list(PARTS) == official
    for class_id, part in enumerate(official, start=1):
        covered = np.zeros((32, 32), dtype=bool)
        covered[:, class_id:] = True
        fake_datasets.write_part(tmp_path, 0, part, covered)
    labels = CelebAMaskHQ(folder=tmp_path, resolution=32).load(0).labels
    assert labels is not None
    seen = ["background", "skin", "nose", "skin", "eye", "eye", "brow", "brow", "ear", "ear"]
    seen += ["mouth", "lip", "lip", "hair", "hat", "ear", "neck", "neck"]
    seen += ["background"] * (32 - len(seen))  # clothes and what lies right of them
    np.testing.assert_array_equal(labels, [[REGION_MAP[name] for name in seen]] * 32)


def test_masks_come_back_as_the_regions_they_were_made_of(tmp_path: Path) -> None:
    numbers = {0: 119614, 7: 162771, 2001: 8}
    fake_datasets.write_celebamask_hq(tmp_path, numbers)
    source = CelebAMaskHQ(folder=tmp_path, resolution=fake_datasets.SIDE)
    for index, number in enumerate(numbers):
        drawn = fake_datasets.portrait(number)
        sample = source.load(index)
        np.testing.assert_array_equal(sample.labels, drawn.labels)
        assert np.abs(sample.photo.astype(int) - drawn.photo).mean() < 3
        assert (
            sample.metadata.source == f"CelebAMask-HQ {number} (CelebA {numbers[number]:06d}.jpg)"
        )


def test_celebamask_hq_is_split_by_the_original_file_not_by_orig_idx(tmp_path: Path) -> None:
    # orig_idx of 162771.jpg is 162770, so a split by it would call the first val photo train.
    originals = dict(enumerate(BOUNDARIES))
    fake_datasets.write_celebamask_hq(tmp_path, originals)
    source = CelebAMaskHQ(folder=tmp_path)
    splits = [source.split(index) for index in range(len(source))]
    assert splits == list(BOUNDARIES.values())


def test_a_mapping_of_full_size_gives_the_official_counts(tmp_path: Path) -> None:
    # 24,183 originals from train's range, 2,993 from val's, 2,824 from test's, in mixed order.
    generator = np.random.default_rng(0)
    train = 1 + generator.choice(162770, 24183, replace=False)
    val = 162771 + generator.choice(19867, 2993, replace=False)
    test = 182638 + generator.choice(19962, 2824, replace=False)
    originals = generator.permutation(np.concatenate([train, val, test])).tolist()
    fake_datasets.write_celebamask_hq(tmp_path, {0: originals[0]})
    fake_datasets.write_mapping(tmp_path, dict(enumerate(originals)))
    fake_datasets.write_partition(tmp_path / "list_eval_partition.txt", range(1, 202600))
    source = CelebAMaskHQ(folder=tmp_path)
    counts = Counter(source.split(index) for index in range(len(source)))
    assert counts == {"train": 24183, "val": 2993, "test": 2824}
    assert source.key(29999) == "celebamask-hq-29999"


def _dirty_data_set(folder: Path) -> list[int]:
    numbers = sorted({0, 70, 404, 2110, 4790} | {number for pair in DUPLICATES for number in pair})
    fake_datasets.write_celebamask_hq(folder, {0: 1, 70: 2, 404: 3, 2110: 4, 4790: 5})
    pairs = {number: 200 + number for number in numbers if number not in (0, 70, 404, 2110, 4790)}
    # Only the lists matter for the pairs: their photos are never decoded here.
    fake_datasets.write_mapping(folder, {0: 1, 70: 2, 404: 3, 2110: 4, 4790: 5} | pairs)
    fake_datasets.write_partition(
        folder / "list_eval_partition.txt", [1, 2, 3, 4, 5, *pairs.values()]
    )
    for part in (folder / "CelebAMask-HQ-mask-anno" / "2").glob("04790_*.png"):
        part.unlink()
    return numbers


def test_known_dirty_records_are_skipped_by_id_with_a_reason(tmp_path: Path) -> None:
    numbers = _dirty_data_set(tmp_path)
    source = CelebAMaskHQ(folder=tmp_path, dirty="skip")
    skipped = {}
    for index, number in enumerate(numbers):
        try:
            source.load(index)
        except UnusableFileError as error:
            if "known defect" in str(error):
                skipped[number] = str(error)
    assert "half of the face" in skipped.pop(70)
    assert "mouth is not annotated" in skipped.pop(404)
    assert "does not lie on the face" in skipped.pop(2110)
    assert "annotation is empty" in skipped.pop(4790)
    assert len(skipped) == len(DUPLICATES)
    for first, second in DUPLICATES:
        (dropped,) = {first, second} & set(skipped)
        kept = first + second - dropped
        assert skipped[dropped].endswith(f"the same photo as number {kept}")


def test_known_dirty_records_are_kept_with_a_note(tmp_path: Path) -> None:
    numbers = _dirty_data_set(tmp_path)
    source = CelebAMaskHQ(folder=tmp_path, dirty="keep", resolution=32)
    notes = {n: source.load(numbers.index(n)).metadata.note for n in (0, 70, 404, 2110, 4790)}
    assert notes[0] == ""
    assert all(notes[number] for number in (70, 404, 2110, 4790))
    empty = source.load(numbers.index(4790)).labels
    assert empty is not None
    assert not empty.any()


def test_a_bad_policy_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dirty must be skip or keep, not 'drop'"):
        CelebAMaskHQ(folder=tmp_path, dirty="drop")  # type: ignore[arg-type]


def test_masks_that_are_damaged_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    fake_datasets.write_celebamask_hq(tmp_path, {0: 1, 1: 2, 2: 3, 3: 4})
    masks = tmp_path / "CelebAMask-HQ-mask-anno" / "0"
    Image.new("RGB", (256, 256)).save(masks / "00000_nose.png")
    (masks / "00001_hair.png").write_bytes((masks / "00001_hair.png").read_bytes()[:80])
    for part in masks.glob("00002_*.png"):
        part.unlink()
    source = CelebAMaskHQ(folder=tmp_path)
    for index, message in enumerate(
        ["its mask 00000_nose.png measures 256 x 256", "its mask 00001_hair.png: ", "has no masks"]
    ):
        with pytest.raises(UnusableFileError, match=message):
            source.load(index)
    source.load(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("idx orig_idx orig_file\n", "lists no photos"),
        ("0 0 000001.jpg\n0 1 000002.jpg\n", "line 2 lists 0 again"),
        ("0 1 000001.jpg\n", "orig_idx 1 and orig_file 000001.jpg are not the same photo"),
        ("0 000001.jpg\n", "line 1: '0 000001.jpg' is not 'idx orig_idx orig_file'"),
        ("0 8 000009.jpg\n", "does not list 000009.jpg"),
        ("1 0 000001.jpg\n", "does not list 1 photos of .*, 0.jpg for one"),
        (None, "mapping.txt is missing"),
    ],
)
def test_a_mapping_that_does_not_fit_is_a_mistake(
    tmp_path: Path, content: str | None, message: str
) -> None:
    fake_datasets.write_celebamask_hq(tmp_path, {0: 1})
    fake_datasets.write_partition(tmp_path / "list_eval_partition.txt", [1, 2])
    path = tmp_path / "CelebA-HQ-to-CelebA-mapping.txt"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=message):
        CelebAMaskHQ(folder=tmp_path)


def test_ffhq_names_license_and_photographer_of_each_image(tmp_path: Path) -> None:
    fake_datasets.write_ffhq(tmp_path, [0, 1, 2, 3, 4])
    source = FFHQ(folder=tmp_path)
    metadata = [source.load(index).metadata for index in range(5)]
    assert [entry.license for entry in metadata] == [
        "CC-BY-2.0",
        "CC-BY-NC-2.0",
        "Public Domain Mark 1.0",
        "CC0-1.0",
        "United States Government Work",
    ]
    assert metadata[1].attribution == ("Photographer 1 é, DSC1.JPG, https://photos.example/1")
    assert metadata[1].source == "FFHQ images1024x1024/00000/00001.png"


def test_ffhq_splits_at_sixty_thousand_and_offers_two_editions(tmp_path: Path) -> None:
    fake_datasets.write_ffhq(tmp_path, [60000, 59999])
    large = FFHQ(folder=tmp_path, resolution=None)
    small = FFHQ(folder=tmp_path, resolution=None, edition="thumbnail")
    for source, side in ((large, 64), (small, 32)):
        assert [source.key(index) for index in range(2)] == ["ffhq-59999", "ffhq-60000"]
        assert [source.split(index) for index in range(2)] == ["train", "val"]
        expected = fake_datasets.portrait(99, side=side).photo
        np.testing.assert_array_equal(source.load(0).photo, expected)
    with pytest.raises(ValueError, match="edition must be image or thumbnail"):
        FFHQ(folder=tmp_path, edition="wild")  # type: ignore[arg-type]


def test_ffhq_checks_each_files_md5(tmp_path: Path) -> None:
    fake_datasets.write_ffhq(tmp_path, [0, 1, 2])
    folder = tmp_path / "images1024x1024" / "00000"
    (folder / "00000.png").write_bytes((folder / "00001.png").read_bytes())
    (folder / "00001.png").unlink()
    source = FFHQ(folder=tmp_path)
    with pytest.raises(UnusableFileError, match="MD5"):
        source.load(0)
    with pytest.raises(UnusableFileError, match="missing"):
        source.load(1)
    source.load(2)


def test_an_ffhq_list_that_does_not_fit_is_a_mistake(tmp_path: Path) -> None:
    fake_datasets.write_ffhq(tmp_path, [0])
    path = tmp_path / "ffhq-dataset-v2.json"
    good = json.loads(path.read_text())

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            FFHQ(folder=tmp_path)

    path.write_text(path.read_text()[:-5])
    refused("is not JSON")
    path.write_text("[]")
    refused("lists no photos")
    path.write_text(json.dumps({"0": good["0"] | {"metadata": {}}}))
    refused("entry '0' lacks or garbles 'photo_title'")
    escaping = good["0"]["image"] | {"file_path": "../../etc/passwd"}
    path.write_text(json.dumps({"0": good["0"] | {"image": escaping}}))
    refused("file_path '../../etc/passwd'")
    elsewhere = good["0"]["image"] | {"file_path": "images1024x1024/00009.png"}
    path.write_text(json.dumps({"0": good["0"] | {"image": elsewhere}}))
    refused("none of the photos .* is there, images1024x1024/00009.png for one")
    path.unlink()
    refused("download_ffhq.py --json")


def test_label_maps_without_a_photo_are_counted_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    fake_datasets.write_image_folder(tmp_path, count=2, labels=True)
    (tmp_path / "photos" / "face 1.png").unlink()
    ImageFolder(folder=tmp_path / "photos", labels=tmp_path / "labels")
    assert "ignored 1 label maps without a photo, face 1.png for one" in caplog.text


def test_colors_are_converted_by_the_photos_profile(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    profile = icc_profiles.rgb_profile(icc_profiles.ADOBE_RGB, gamma=2.2)
    Image.fromarray(pixels).save(tmp_path / "wide.png", icc_profile=profile)
    photo = ImageFolder(folder=tmp_path).load(0).photo
    expected = icc_profiles.srgb_of(pixels, icc_profiles.ADOBE_RGB, gamma=2.2)
    np.testing.assert_allclose(photo, expected, atol=2)


def test_files_that_cannot_be_read_are_skipped_with_the_reason(tmp_path: Path) -> None:
    fake_datasets.write_image_folder(tmp_path, count=3, labels=False)
    source = ImageFolder(folder=tmp_path / "photos")
    (tmp_path / "photos" / "face 0.png").unlink()
    with (tmp_path / "photos" / "face 1.png").open("r+b") as file:
        file.truncate(201 * 2**20)  # sparse: refused by its size, before it is read
    for index, message in enumerate(["the file is missing", "210,763,776 bytes, more than"]):
        with pytest.raises(UnusableFileError, match=message):
            source.load(index)
    source.load(2)


def test_dirty_and_damaged_records_reach_the_manifest_by_name(tmp_path: Path) -> None:
    fake_datasets.write_celebamask_hq(tmp_path / "in", {0: 1, 70: 2, 71: 3, 72: 4})
    (tmp_path / "in" / "CelebA-HQ-img" / "71.jpg").unlink()

    def prepare(dirty: str) -> ShardManifest:
        source = CelebAMaskHQ(folder=tmp_path / "in", resolution=32, dirty=dirty)  # type: ignore[arg-type]
        return write_shards(source, out_dir=tmp_path / dirty, name="test")

    skipping, keeping = prepare("skip"), prepare("keep")
    assert {file.file: file.reason for file in skipping.skipped} == {
        "CelebA-HQ-img/70.jpg": "known defect: half of the face is cropped away",
        "CelebA-HQ-img/71.jpg": "the file is missing",
    }
    assert [file.file for file in keeping.skipped] == ["CelebA-HQ-img/71.jpg"]
    assert [(file.file, file.reason) for file in keeping.notes] == [
        ("CelebA-HQ-img/70.jpg", "half of the face is cropped away")
    ]
    assert skipping.num_samples("train") + 1 == keeping.num_samples("train") == 3
