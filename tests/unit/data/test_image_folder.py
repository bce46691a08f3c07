import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.sources import UnusableFileError
from tests.unit.api import icc_profiles
from tests.unit.data import fake_datasets


def _save(path: Path, *, size: tuple[int, int] = (32, 24), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 60)).save(path, **options)


def test_a_sample_holds_the_files_pixels_labels_and_origin(photo_folder: Path) -> None:
    source = ImageFolder(
        folder=photo_folder / "photos",
        labels=photo_folder / "labels",
        license="CC-BY-4.0",
        attribution="A. Painter",
    )
    sample = source.load(7)
    with Image.open(photo_folder / "photos" / "07.png") as image:
        np.testing.assert_array_equal(sample.photo, np.array(image))
    with Image.open(photo_folder / "labels" / "07.png") as image:
        np.testing.assert_array_equal(sample.labels, np.array(image))
    assert sample.key == source.key(7) == "07"
    metadata = sample.metadata
    assert (metadata.source, metadata.license, metadata.attribution) == (
        "07.png",
        "CC-BY-4.0",
        "A. Painter",
    )


def test_resolution_crops_and_resizes(photo_folder: Path) -> None:
    source = ImageFolder(
        folder=photo_folder / "photos", labels=photo_folder / "labels", resolution=20
    )
    sample = source.load(0)
    assert sample.photo.shape == (20, 20, 3)
    assert sample.labels is not None
    # Columns 4..43 of 48 remain, two of them per pixel; green is 4 a column, the label column // 4.
    np.testing.assert_allclose(sample.photo[10, 2:-2, 1], 4 * (4.5 + 2 * np.arange(2, 18)), atol=1)
    np.testing.assert_array_equal(sample.labels[10], (5 + 2 * np.arange(20)) // 4)


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(tmp_path / "turned.jpg", size=(40, 24), exif=exif)
    assert ImageFolder(folder=tmp_path).load(0).photo.shape == (40, 24, 3)


def test_sub_folders_are_read_and_keys_stay_unique(tmp_path: Path) -> None:
    for name in ("b/one.v2.jpg", "a/one.png", "a/one.jpg", "ünï côde.webp", ".hidden.jpg"):
        _save(tmp_path / name)
    source = ImageFolder(folder=tmp_path)
    names = [source.name(index) for index in range(len(source))]
    assert names == ["a/one.jpg", "a/one.png", "b/one.v2.jpg", "ünï côde.webp"]
    keys = [source.key(index) for index in range(len(source))]
    assert keys[2:] == ["b_one_v2", "_n__c_de"]
    assert len(set(keys)) == 4
    assert all(key.startswith("a_one-") for key in keys[:2])


def test_a_label_folder_inside_the_photo_folder_is_not_taken_for_photos(tmp_path: Path) -> None:
    _save(tmp_path / "face.jpg")
    (tmp_path / "labels").mkdir()
    Image.new("L", (32, 24), 3).save(tmp_path / "labels" / "face.png")
    source = ImageFolder(folder=tmp_path, labels=tmp_path / "labels")
    assert len(source) == 1
    assert source.load(0).labels is not None


def test_a_smaller_label_map_is_enlarged_to_the_photo(tmp_path: Path) -> None:
    _save(tmp_path / "photos" / "face.jpg", size=(64, 48))
    (tmp_path / "labels").mkdir()
    half = np.zeros((24, 32), dtype=np.uint8)
    half[:, 16:] = 9
    Image.fromarray(half).save(tmp_path / "labels" / "face.png")
    source = ImageFolder(folder=tmp_path / "photos", labels=tmp_path / "labels")
    expected = np.zeros((48, 64), dtype=np.uint8)
    expected[:, 32:] = 9
    np.testing.assert_array_equal(source.load(0).labels, expected)


def test_a_photo_without_label_map_has_none(photo_folder: Path, tmp_path: Path) -> None:
    assert ImageFolder(folder=photo_folder / "photos").load(0).labels is None
    source = ImageFolder(folder=photo_folder / "photos", labels=tmp_path)
    assert source.load(0).labels is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((24, 32), 11, dtype=np.uint8), "label map: label id 11"),
        (np.zeros((32, 24), dtype=np.uint8), "24x32 pixels, has another aspect ratio"),
    ],
)
def test_wrong_label_maps_are_refused(
    tmp_path: Path, labels: np.ndarray[tuple[int, int], np.dtype[np.uint8]], message: str
) -> None:
    _save(tmp_path / "photos" / "face.jpg")
    (tmp_path / "labels").mkdir()
    Image.fromarray(labels).save(tmp_path / "labels" / "face.png")
    source = ImageFolder(folder=tmp_path / "photos", labels=tmp_path / "labels")
    with pytest.raises(UnusableFileError, match=message):
        source.load(0)


def test_damaged_and_oversized_photos_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "a.jpg", size=(640, 480))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    (tmp_path / "b.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    _save(tmp_path / "c.png", size=(101, 100))
    source = ImageFolder(folder=tmp_path, max_pixels=10_000)
    for index in range(3):
        with pytest.raises(UnusableFileError):
            source.load(index)


def test_other_files_are_counted_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    _save(tmp_path / "a.jpg")
    for name in ("b.heic", "c.heic", "README"):
        (tmp_path / name).write_bytes(b"x")
    ImageFolder(folder=tmp_path)
    assert "ignored 3 other files: .heic (2), no suffix (1)" in caplog.text


def test_a_folder_without_photos_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.jpg"):
        ImageFolder(folder=tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        ImageFolder(folder=tmp_path / "absent")


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
