"""A picture of a data set's samples, photo beside label overlay, for people to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.common.regions import colorize_labels
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.storage import ShardStorage
from neural_photo_editor.data.transforms import Pixels, crop_to_square

_log = get_logger(__name__)

CAPTION_HEIGHT = 14
_DAMAGED_COLOR = (255, 0, 255)


def write_contact_sheet(
    folder: str | Path | ShardStorage,
    *,
    path: Path,
    sample_ids: Sequence[int] | None = None,
    num_samples: int = 32,
    columns: int = 4,
    tile_size: int = 128,
) -> Path:
    """Write a PNG of a data set's samples, each under its split and key.

    Each sample takes two tiles: the photo, and the photo under its regions' colors (gray where
    the photo has no label map). A damaged sample's tiles are magenta and its damage is logged.

    Args:
        folder: the data set's folder with ``manifest.json``, or where else it lies.
        sample_ids: which to show; None shows the first, those of the training split before others.
        num_samples: shown at most.
        columns: samples side by side.
        tile_size: side of one tile in pixels.

    Raises:
        ValueError: no valid manifest, or nothing to show.
    """
    reader = ShardReader(folder if isinstance(folder, ShardStorage) else ShardStorage(folder))
    shown = list(range(len(reader)) if sample_ids is None else sample_ids)[:num_samples]
    if not shown or columns < 1 or tile_size < 1:
        raise ValueError("a contact sheet needs a sample, a column and tiles of a pixel or more")
    splits = [shard.split for shard in reader.manifest.shards for _ in shard.keys]
    width, height = 2 * tile_size, tile_size + CAPTION_HEIGHT
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (min(columns, len(shown)) * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for position, sample_id in enumerate(shown):
        left, top = position % columns * width, position // columns * height
        pair = Image.fromarray(_pair(reader, sample_id, tile_size))
        sheet.paste(pair, (left, top + CAPTION_HEIGHT))
        # 6 pixels a letter; the end of a key tells more than its start.
        caption = f"{splits[sample_id]} {reader.key(sample_id)}"
        draw.text((left + 2, top + 1), caption[-max(width // 6 - 1, 1) :], fill="black")
    sheet.save(path, format="PNG")
    return path


def find_near_duplicate_ids(manifest: ShardManifest) -> list[int]:
    """Return the ids of the samples that look like another one, group after group."""
    ids: dict[str, int] = {}
    for shard in manifest.shards:
        for key in shard.keys:
            ids[key] = len(ids)
    return [ids[key] for group in manifest.near_duplicates for key in group]


def overlay_labels(photo: Pixels, labels: Pixels | None) -> Pixels:
    """Mix a photo, uint8 (H, W, 3), half and half with its regions' colors."""
    if labels is None:
        return np.full_like(photo, 128)
    return ((photo.astype(np.uint16) + colorize_labels(labels)) // 2).astype(np.uint8)


def _pair(reader: ShardReader, sample_id: int, tile_size: int) -> Pixels:
    """Return photo and overlay side by side, uint8 (tile_size, 2 * tile_size, 3)."""
    try:
        photo, labels = crop_to_square(*reader.read(sample_id), size=tile_size)
    except CorruptSampleError as error:
        _log.warning("%s", error)
        return np.full((tile_size, 2 * tile_size, 3), _DAMAGED_COLOR, dtype=np.uint8)
    return np.hstack((photo, overlay_labels(photo, labels)))
