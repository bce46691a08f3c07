"""A folder of small photos with label maps, and shards made of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_writer import write_shards

NUM_PHOTOS = 23


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 photos of 48x40 pixels in ``photos`` and a label map for each in ``labels``.

    Red is 10 x the photo's number everywhere; green rises to the right by 4 a column; the label
    map is column // 4 (0..9).
    """
    folder = tmp_path_factory.mktemp("folder")
    (folder / "photos").mkdir()
    (folder / "labels").mkdir()
    columns = np.arange(48)
    for number in range(NUM_PHOTOS):
        photo = np.zeros((40, 48, 3), dtype=np.uint8)
        photo[..., 0] = 10 * number
        photo[..., 1] = 4 * columns
        Image.fromarray(photo).save(folder / "photos" / f"{number:02d}.png")
        labels = np.tile((columns // 4).clip(max=10).astype(np.uint8), (40, 1))
        Image.fromarray(labels).save(folder / "labels" / f"{number:02d}.png")
    return folder


@pytest.fixture
def labeled_photos(photo_folder: Path) -> ImageFolder:
    return ImageFolder(folder=photo_folder / "photos", labels=photo_folder / "labels")


@pytest.fixture
def shards(labeled_photos: ImageFolder, tmp_path: Path) -> Path:
    """Lossless shards of at most 6 samples with both splits."""
    out_dir = tmp_path / "shards"
    write_shards(
        labeled_photos,
        out_dir=out_dir,
        name="test",
        samples_per_shard=6,
        val_fraction=0.3,
        image_format="png",
    )
    return out_dir
