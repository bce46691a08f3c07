"""One of several machines that prepare the same shards: each writes every n-th of them."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_collection import write_manifest
from neural_photo_editor.data.shard_file import ShardFileWriter, encode_photo, store_bytes
from neural_photo_editor.data.shard_journal import (
    find_finished,
    fingerprint_preparation,
    journal_name,
    remove_journals,
    remove_leftovers,
)
from neural_photo_editor.data.shard_manifest import MANIFEST_NAME, ImageFormat, ShardManifest
from neural_photo_editor.data.shard_plan import PlannedShard, plan_shards
from neural_photo_editor.data.shard_writer import check_arguments, write_missing
from neural_photo_editor.data.sources import SampleSource
from neural_photo_editor.data.storage import ShardStorage

_log = get_logger(__name__)


def write_part(
    source: SampleSource,
    *,
    part: int,
    parts: int,
    out_dir: str | Path,
    name: str,
    samples_per_shard: int = 1000,
    val_fraction: float = 0.05,
    image_format: ImageFormat = "jpg",
    jpeg_quality: int = 95,
    num_workers: int = 1,
) -> ShardManifest | None:
    """Write a part of the shards that `write_shards` writes, byte for byte, and maybe the manifest.

    Parts run at any time, in any order and on any machine that reaches `out_dir`; each goes on
    where it was stopped. The one that finds all shards finished, after its own, writes the
    manifest. Two may find that at once: both write the same bytes. A part of a data set that is
    finished does nothing.

    Args:
        part: which one, 0 to ``parts - 1``.
        parts: how many; the same for all of them, like every other argument.

    Returns:
        The manifest; None while other parts are at work.

    Raises:
        ValueError, OSError, WorkerKilledError: as `write_shards`.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part must be 0 to {parts - 1} (parts - 1), not {part}")
    storage = ShardStorage(out_dir)
    check_arguments(
        source, storage, samples_per_shard, val_fraction, image_format, jpeg_quality, num_workers
    )
    plans = plan_shards(source, samples_per_shard=samples_per_shard, val_fraction=val_fraction)
    fingerprint = fingerprint_preparation(
        source, plans, image_format=image_format, jpeg_quality=jpeg_quality
    )
    writer = ShardFileWriter(source, storage, image_format, jpeg_quality, fingerprint)
    if storage.folder is not None:
        storage.folder.mkdir(parents=True, exist_ok=True)
    own = plans[part::parts]
    finished = find_finished(storage, own, fingerprint=fingerprint)
    # Asked only now: who writes the manifest removes the records after it, so that finished shards
    # look unfinished to those who had asked before.
    if storage.exists(MANIFEST_NAME):
        return _finished_data_set(writer, plans)
    remove_leftovers(storage, keep=finished, among=own)
    for file, record in write_missing(writer, own, finished, num_workers=num_workers).items():
        if record.info is None:  # No tar and so far no record: the other parts must know, too.
            store_bytes(storage, journal_name(file), record.to_bytes())
    records = find_finished(storage, plans, fingerprint=fingerprint, with_empty=True)
    if len(records) < len(plans):
        if storage.exists(MANIFEST_NAME):  # By another part, which has removed the records.
            remove_journals(storage)
            return _finished_data_set(writer, plans)
        _log.info(
            "part %d of %d is finished; of all %d shards %d are",
            part, parts, len(plans), len(records),
        )  # fmt: skip
        return None
    remove_leftovers(storage, keep=records)
    return write_manifest(
        storage,
        [records[plan.file] for plan in plans],
        name=name,
        source=source,
        image_format=image_format,
    )


def _finished_data_set(writer: ShardFileWriter, plans: list[PlannedShard]) -> ShardManifest:
    """Return the manifest that another part has written, or refuse another data set's."""
    storage, source = writer.storage, writer.source
    manifest = ShardManifest.load(storage)
    planned = {plan.file: {source.key(index) for index in plan.indices} for plan in plans}
    wanted = (source.resolution, writer.image_format)
    if (manifest.resolution, manifest.image_format) != wanted or not all(
        planned.get(shard.file, set()) >= set(shard.keys) for shard in manifest.shards
    ):
        raise ValueError(f"{storage} already holds another data set: choose another out_dir")
    if not _has_quality(storage, manifest, writer.jpeg_quality):
        raise ValueError(
            f"{storage} already holds these samples with another jpeg_quality than "
            f"{writer.jpeg_quality}: set that one, or choose another out_dir"
        )
    _log.warning("%s holds these samples already: nothing is left to do", storage)
    return manifest


def _has_quality(storage: ShardStorage, manifest: ShardManifest, quality: int) -> bool:
    """Whether the first photo was encoded with a JPEG quality: the manifest does not list it."""
    if manifest.image_format != "jpg":
        return True
    # A shard begins with a block of tar, then the photo, of which the tables come first.
    stored = storage.read(manifest.shards[0].file, first=4096)[tarfile.BLOCKSIZE :]
    sample = encode_photo(np.zeros((8, 8, 3), np.uint8), image_format="jpg", quality=quality)
    return _quantization(stored) == _quantization(sample)


def _quantization(jpeg: bytes) -> dict[int, list[int]]:
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        return dict(image.quantization)  # type: ignore[attr-defined] # of JPEG files
