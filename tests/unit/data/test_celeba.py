import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.data.celeba import CelebA
from neural_photo_editor.data.sources import UnusableFileError
from tests.unit.data import fake_datasets


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
    fake_datasets.write_celeba(tmp_path, list(fake_datasets.BOUNDARIES))
    source = CelebA(folder=tmp_path)
    splits = {source.key(index): source.split(index) for index in range(len(source))}
    assert splits == {
        f"celeba-{number}": split for number, split in fake_datasets.BOUNDARIES.items()
    }


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
