import json
from pathlib import Path

import numpy as np
import pytest

from neural_photo_editor.data.ffhq import FFHQ
from neural_photo_editor.data.sources import UnusableFileError
from tests.unit.data import fake_datasets


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
