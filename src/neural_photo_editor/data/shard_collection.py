"""The end of a preparation: every shard's record together makes the manifest."""

import numpy as np

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.near_duplicates import find_near_duplicates
from neural_photo_editor.data.shard_file import store_bytes
from neural_photo_editor.data.shard_journal import FinishedShard, remove_journals
from neural_photo_editor.data.shard_manifest import MANIFEST_NAME, ImageFormat, ShardManifest
from neural_photo_editor.data.shard_summary import log_summary
from neural_photo_editor.data.sources import SampleSource
from neural_photo_editor.data.storage import ShardStorage

_log = get_logger(__name__)


def write_manifest(
    storage: ShardStorage,
    records: list[FinishedShard],
    *,
    name: str,
    source: SampleSource,
    image_format: ImageFormat,
) -> ShardManifest:
    """Store the manifest of shards that are all there, and remove their records.

    Args:
        records: of every planned shard, in the plan's order.

    Raises:
        ValueError: no usable sample.
        OSError: the manifest could not be stored.
    """
    manifest = _manifest(
        records,
        name=name,
        resolution=source.resolution,
        crop=source.crop,
        image_format=image_format,
    )
    store_bytes(storage, MANIFEST_NAME, manifest.to_bytes())
    remove_journals(storage)
    _log.info("%s:\n%s", storage, log_summary(manifest))
    return manifest


def _manifest(
    records: list[FinishedShard],
    *,
    name: str,
    resolution: int | None,
    crop: str,
    image_format: ImageFormat,
) -> ShardManifest:
    """Put the shards' records, in the plan's order, together."""
    skipped = tuple(file for record in records for file in record.skipped)
    shards = tuple(record.info for record in records if record.info is not None)
    if not shards:
        raise ValueError(
            f"none of the {len(skipped)} files is usable; {skipped[0].file}: {skipped[0].reason}"
        )
    return ShardManifest(
        name=name,
        resolution=resolution,
        image_format=image_format,
        licenses=tuple(sorted({license for record in records for license in record.licenses})),
        crop=crop,
        skipped=skipped,
        notes=tuple(file for record in records for file in record.notes),
        near_duplicates=_near_duplicates(records),
        shards=shards,
    )


def _near_duplicates(records: list[FinishedShard]) -> tuple[tuple[str, ...], ...]:
    """Return groups of keys whose photos look the same, and log how many there are."""
    written = [record.info for record in records if record.info is not None]
    keys = [key for info in written for key in info.keys]
    splits = [info.split for info in written for _ in info.keys]
    hashes = bytes.fromhex("".join(value for record in records for value in record.hashes))
    groups = find_near_duplicates(np.frombuffer(hashes, dtype=">u8").reshape(len(keys), -1))
    if groups:
        mixed = [group for group in groups if len({splits[position] for position in group}) > 1]
        _log.warning(
            "%d samples look like another one (groups: %d, of them across splits: %d); they are "
            "kept and listed in the manifest, for example %s",
            sum(map(len, groups)), len(groups), len(mixed),
            ", ".join(keys[position] for position in (mixed or groups)[0][:4]),
        )  # fmt: skip
    return tuple(tuple(keys[position] for position in group) for group in groups)
