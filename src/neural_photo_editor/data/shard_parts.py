"""One of several machines that prepare the same shards: each writes every n-th of them."""

from pathlib import Path

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_collection import write_manifest
from neural_photo_editor.data.shard_file import ShardFileWriter, store_bytes
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
    if storage.folder is not None:
        storage.folder.mkdir(parents=True, exist_ok=True)
    own = plans[part::parts]
    finished = find_finished(storage, own, fingerprint=fingerprint)
    # Asked only now: who writes the manifest removes the records after it, so that finished shards
    # look unfinished to those who had asked before.
    if storage.exists(MANIFEST_NAME):
        return _finished_data_set(storage, source, plans, image_format)
    remove_leftovers(storage, keep=finished, among=own)

    writer = ShardFileWriter(source, storage, image_format, jpeg_quality, fingerprint)
    for file, record in write_missing(writer, own, finished, num_workers=num_workers).items():
        if record.info is None:  # No tar and so far no record: the other parts must know, too.
            store_bytes(storage, journal_name(file), record.to_bytes())
    records = find_finished(storage, plans, fingerprint=fingerprint, with_empty=True)
    if len(records) < len(plans):
        if storage.exists(MANIFEST_NAME):  # By another part, which has removed the records.
            remove_journals(storage)
            return _finished_data_set(storage, source, plans, image_format)
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


def _finished_data_set(
    storage: ShardStorage, source: SampleSource, plans: list[PlannedShard], image_format: str
) -> ShardManifest:
    """Return the manifest that another part has written, or refuse another data set's."""
    manifest = ShardManifest.load(storage)
    planned = {plan.file: {source.key(index) for index in plan.indices} for plan in plans}
    same = (manifest.resolution, manifest.image_format) == (source.resolution, image_format)
    if same and all(planned.get(shard.file, set()) >= set(shard.keys) for shard in manifest.shards):
        _log.warning("%s holds these samples already: nothing is left to do", storage)
        return manifest
    raise ValueError(f"{storage} already holds another data set: choose another out_dir")
