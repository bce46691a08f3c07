"""How much of a data set's photos each region covers, for losses that balance them."""

import numpy as np

from neural_photo_editor.common.regions import NUM_REGIONS
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader

MAX_SHARDS = 4  # looked at; a remote one has to be fetched whole
MAX_SAMPLES = 1000


def region_shares(reader: ShardReader) -> list[float]:
    """Estimate each region's share of the training pixels.

    The same shards always give the same numbers: up to 1,000 samples are counted, evenly spaced
    in up to 4 evenly spaced shards. Samples without labels, or damaged, are passed over.

    Returns:
        11 shares by region id; their sum is 1, rounded to 6 digits each.

    Raises:
        ValueError: none of those samples has labels.
    """
    counts = np.zeros(NUM_REGIONS, dtype=np.int64)
    for sample_id in _sample_ids(reader):
        try:
            _, labels = reader.read(sample_id)
        except CorruptSampleError:  # Training reports it.
            continue
        if labels is not None:
            counts += np.bincount(labels.ravel(), minlength=NUM_REGIONS)
    if not counts.sum():
        raise ValueError(
            f"no labels found in {reader.storage}: label its photos, or set module.class_balance=0"
        )
    return [round(share, 6) for share in (counts / counts.sum()).tolist()]


def _sample_ids(reader: ShardReader) -> list[int]:
    ids = reader.sample_ids("train")
    ends = np.cumsum([len(shard.keys) for shard in reader.shards("train")])
    of_shards = np.split(ids, ends[:-1])
    chosen = np.unique(np.linspace(0, len(of_shards) - 1, MAX_SHARDS).round().astype(int))
    pool = np.concatenate([of_shards[number] for number in chosen])
    spaced = np.unique(np.linspace(0, len(pool) - 1, MAX_SAMPLES).round().astype(int))
    return [int(sample_id) for sample_id in pool[spaced]]
