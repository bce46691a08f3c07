from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.common.regions import REGION_MAP
from neural_photo_editor.data.celebamask_hq import PARTS, CelebAMaskHQ
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import UnusableFileError
from tests.unit.data import fake_datasets

DUPLICATES = [
    (234, 235), (3329, 3330), (5162, 5163), (6770, 6771), (7384, 7385), (7561, 7562),
    (12444, 12445), (12885, 12886), (13825, 13826), (15506, 15507), (19199, 19200),
    (20134, 20135), (24646, 24647),
]  # fmt: skip


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
    originals = dict(enumerate(fake_datasets.BOUNDARIES))
    fake_datasets.write_celebamask_hq(tmp_path, originals)
    source = CelebAMaskHQ(folder=tmp_path)
    splits = [source.split(index) for index in range(len(source))]
    assert splits == list(fake_datasets.BOUNDARIES.values())


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
