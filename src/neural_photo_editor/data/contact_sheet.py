"""A picture of a data set's first samples, photo beside label overlay, for people to look at."""

from pathlib import Path

import numpy as np
from PIL import Image

from neural_photo_editor.common.regions import colorize_labels
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.transforms import Pixels, crop_to_square


def write_contact_sheet(
    folder: str | Path, *, path: Path, num_samples: int = 32, columns: int = 4, tile_size: int = 128
) -> Path:
    """Write a PNG of a data set's first samples, those of the training split first.

    Each sample takes two tiles: the photo, and the photo under its regions' colors (gray where
    the photo has no label map).

    Args:
        folder: the data set's folder with ``manifest.json``.
        columns: samples side by side.
        tile_size: side of one tile in pixels.
    """
    reader = ShardReader(Path(folder))
    num_samples = min(num_samples, len(reader))
    rows = -(-num_samples // columns)
    sheet = np.full((rows * tile_size, columns * 2 * tile_size, 3), 255, dtype=np.uint8)
    for sample_id in range(num_samples):
        photo, labels = crop_to_square(*reader.read(sample_id), size=tile_size)
        pair = np.hstack((photo, overlay_labels(photo, labels)))
        top = sample_id // columns * tile_size
        left = sample_id % columns * 2 * tile_size
        sheet[top : top + tile_size, left : left + 2 * tile_size] = pair
    Image.fromarray(sheet).save(path)
    return path


def overlay_labels(photo: Pixels, labels: Pixels | None) -> Pixels:
    """Mix a photo, uint8 (H, W, 3), half and half with its regions' colors."""
    if labels is None:
        return np.full_like(photo, 128)
    return ((photo.astype(np.uint16) + colorize_labels(labels)) // 2).astype(np.uint8)
