"""Write a source as shards whose bytes depend on the samples alone, in one pass that resumes."""

from contextlib import closing
from pathlib import Path
from typing import get_args

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_collection import write_manifest
from neural_photo_editor.data.shard_file import ShardFileWriter
from neural_photo_editor.data.shard_journal import (
    FinishedShard,
    find_finished,
    fingerprint_preparation,
    remove_leftovers,
)
from neural_photo_editor.data.shard_manifest import MANIFEST_NAME, ImageFormat, ShardManifest
from neural_photo_editor.data.shard_plan import PlannedShard, plan_shards
from neural_photo_editor.data.shard_pool import write_all
from neural_photo_editor.data.shard_progress import ShardProgress
from neural_photo_editor.data.sources import SampleSource
from neural_photo_editor.data.storage import ShardStorage

_log = get_logger(__name__)


def write_shards(
    source: SampleSource,
    *,
    out_dir: str | Path,
    name: str,
    samples_per_shard: int = 1000,
    val_fraction: float = 0.05,
    image_format: ImageFormat = "jpg",
    jpeg_quality: int = 95,
    num_workers: int = 1,
    overwrite: bool = False,
    resume: bool = True,
) -> ShardManifest:
    """Write a source as shards and, last of all, their manifest.

    The same source gives the same bytes for any number of workers (with the same versions of
    the image libraries). A folder without a manifest is not a data set, so a preparation that
    was interrupted is never mistaken for a finished one. Called again with the same arguments, it
    continues: shards that are finished are not written again, and the result is that of an
    undisturbed run. Nothing notices that a photo's file was changed in between.

    Args:
        out_dir: a folder, or a URL that `ShardStorage` can write to.
        samples_per_shard: the last shard of a split holds fewer.
        val_fraction: share of the samples in the "val" split, in [0, 1), among those whose split
            the source does not name; see `split_by_key`.
        num_workers: processes that load and encode; each writes whole shards.
        overwrite: replace a data set that is already in `out_dir`.
        resume: use the finished shards of a preparation that was stopped.

    Raises:
        ValueError: an argument out of range, a key that is not usable or used twice, a data set
            already in `out_dir`, or no usable sample.
        OSError: a shard could not be stored.
        WorkerKilledError: a worker process was killed.
    """
    storage = ShardStorage(out_dir)
    check_arguments(
        source, storage, samples_per_shard, val_fraction, image_format, jpeg_quality, num_workers
    )
    replaced = storage.exists(MANIFEST_NAME)
    if replaced and not overwrite:
        raise ValueError(
            f"{storage} already holds a data set: choose another out_dir or set overwrite=true"
        )
    plans = plan_shards(source, samples_per_shard=samples_per_shard, val_fraction=val_fraction)
    fingerprint = fingerprint_preparation(
        source, plans, image_format=image_format, jpeg_quality=jpeg_quality
    )
    if storage.folder is not None:
        storage.folder.mkdir(parents=True, exist_ok=True)
    storage.remove(MANIFEST_NAME)
    finished = {}
    if resume and not replaced:
        finished = find_finished(storage, plans, fingerprint=fingerprint)
    remove_leftovers(storage, keep=finished)

    writer = ShardFileWriter(source, storage, image_format, jpeg_quality, fingerprint)
    finished |= write_missing(writer, plans, finished, num_workers=num_workers)
    return write_manifest(
        storage,
        [finished[plan.file] for plan in plans],
        name=name,
        source=source,
        image_format=image_format,
    )


def check_arguments(
    source: SampleSource,
    storage: ShardStorage,
    samples_per_shard: int,
    val_fraction: float,
    image_format: str,
    jpeg_quality: int,
    num_workers: int,
) -> None:
    if len(source) == 0:
        raise ValueError("the source has no samples")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction must be in [0, 1), not {val_fraction}")
    if samples_per_shard < 1 or num_workers < 1 or not 1 <= jpeg_quality <= 100:
        raise ValueError(
            "samples_per_shard and num_workers must be at least 1, jpeg_quality 1 to 100"
        )
    if image_format not in get_args(ImageFormat):
        raise ValueError(f"image_format must be jpg or png, not {image_format!r}")
    if storage.protocol == "memory" and num_workers > 1:
        raise ValueError(f"{storage} is this process's own: set num_workers=1")


def write_missing(
    writer: ShardFileWriter,
    plans: list[PlannedShard],
    finished: dict[str, FinishedShard],
    *,
    num_workers: int,
) -> dict[str, FinishedShard]:
    """Write the planned shards that are not finished and return their records by file name."""
    missing = [plan for plan in plans if plan.file not in finished]
    num_samples = sum(len(plan.indices) for plan in plans)
    num_done = num_samples - sum(len(plan.indices) for plan in missing)
    if finished:
        _log.info(
            "%s: going on with a stopped preparation, %d of %d shards are finished",
            writer.storage, len(finished), len(plans),
        )  # fmt: skip
    progress = ShardProgress(num_samples=num_samples, num_done=num_done)
    written = {}
    with closing(write_all(writer, missing, num_workers=num_workers)) as results:
        for plan, record in results:
            written[plan.file] = record
            progress.add(record, num_samples=len(plan.indices))
    return written
