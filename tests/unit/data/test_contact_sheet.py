from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.data.contact_sheet import (
    CAPTION_HEIGHT,
    find_near_duplicate_ids,
    overlay_labels,
    write_contact_sheet,
)
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.transforms import crop_to_square


def _sheet(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    with Image.open(path) as image:
        return np.array(image)


def test_tiles_are_the_photos_and_their_overlays(shards: Path, tmp_path: Path) -> None:
    path = write_contact_sheet(
        shards, path=tmp_path / "sheet.png", sample_ids=[20, 3, 7], columns=2, tile_size=40
    )
    sheet = _sheet(path)
    assert sheet.shape == (2 * (40 + CAPTION_HEIGHT), 2 * 80, 3)
    reader = ShardReader(shards)
    corners = ((0, 0), (0, 80), (40 + CAPTION_HEIGHT, 0))
    for sample_id, (top, left) in zip((20, 3, 7), corners, strict=True):
        photo, labels = crop_to_square(*reader.read(sample_id), size=40)
        tiles = sheet[top + CAPTION_HEIGHT :][:40, left : left + 80]
        np.testing.assert_array_equal(tiles[:, :40], photo)
        np.testing.assert_array_equal(tiles[:, 40:], overlay_labels(photo, labels))
        caption = sheet[top : top + CAPTION_HEIGHT, left : left + 80]
        assert caption.min() < 64 < 192 < caption.max()  # black on white
    assert (sheet[40 + CAPTION_HEIGHT :, 80:] == 255).all()  # an empty place


def test_unlabeled_photos_have_a_gray_overlay(photo_folder: Path, tmp_path: Path) -> None:
    source = ImageFolder(folder=photo_folder / "photos")
    write_shards(source, out_dir=tmp_path / "shards", name="test")
    path = write_contact_sheet(
        tmp_path / "shards", path=tmp_path / "sheet.png", num_samples=1, tile_size=40
    )
    sheet = _sheet(path)
    assert sheet.shape == (40 + CAPTION_HEIGHT, 80, 3)
    assert (sheet[CAPTION_HEIGHT:, 40:] == 128).all()


def test_a_damaged_sample_is_magenta_and_the_rest_is_shown(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = shards / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[512 : 512 + 50] = bytes(50)  # the start of the first member, a photo
    path.write_bytes(data)
    with caplog.at_level("WARNING", logger="neural_photo_editor"):
        sheet = _sheet(
            write_contact_sheet(
                shards, path=tmp_path / "sheet.png", num_samples=2, columns=1, tile_size=40
            )
        )
    assert "train-000000.tar, member" in caplog.text
    assert (sheet[CAPTION_HEIGHT : CAPTION_HEIGHT + 40] == (255, 0, 255)).all()
    assert not (sheet[-40:] == (255, 0, 255)).all(axis=2).any()


def test_near_duplicates_are_shown_group_after_group(shards: Path) -> None:
    manifest = ShardManifest.load(shards)
    keys = [key for shard in manifest.shards for key in shard.keys]
    groups = ((keys[4], keys[2]), (keys[22], keys[0], keys[9]))
    grouped = manifest.model_copy(update={"near_duplicates": groups})
    assert find_near_duplicate_ids(grouped) == [4, 2, 22, 0, 9]


def test_nothing_to_show_is_an_error(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a sample"):
        write_contact_sheet(shards, path=tmp_path / "sheet.png", sample_ids=[])
    assert list(tmp_path.glob("*.png")) == []
