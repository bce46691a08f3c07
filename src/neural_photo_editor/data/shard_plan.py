"""Which sample goes into which shard, decided before the first photo is read."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from typing import get_args

from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.sources import SampleSource

# WebDataset ends the key at a dot; 80 characters and a suffix fit the name field of a tar header.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclasses.dataclass(frozen=True)
class PlannedShard:
    """One tar file to be.

    Attributes:
        indices: the source's samples in the order they go into the tar.
    """

    file: str
    split: Split
    indices: tuple[int, ...]


def plan_shards(
    source: SampleSource, *, samples_per_shard: int, val_fraction: float
) -> list[PlannedShard]:
    """Deal a source's samples out to shards, split by split and in the source's order.

    A sample is in the split that the source names; where it names none, `split_by_key` decides.

    Raises:
        ValueError: a key that is not usable or used twice.
    """
    keys = [source.key(index) for index in range(len(source))]
    for key in keys:
        if not _KEY.fullmatch(key):
            raise ValueError(f"the key {key!r} is not 1 to 80 letters, digits, '_' or '-'")
    if len(set(keys)) < len(keys):
        twice = min(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"two samples of the source have the same key, {twice!r}")
    named = [source.split(index) for index in range(len(source))]
    open_keys = [key for key, split in zip(keys, named, strict=True) if split is None]
    decided = iter(split_by_key(open_keys, val_fraction=val_fraction))
    splits = [next(decided) if split is None else split for split in named]
    plans = []
    for split in get_args(Split):
        indices = [index for index in range(len(keys)) if splits[index] == split]
        for number, start in enumerate(range(0, len(indices), samples_per_shard)):
            chosen = tuple(indices[start : start + samples_per_shard])
            plans.append(PlannedShard(f"{split}-{number:06d}.tar", split, chosen))
    return plans


def split_by_key(keys: Iterable[str], *, val_fraction: float) -> list[Split]:
    """Assign each key to a split: "val" where the key's hash falls below `val_fraction`.

    A sample therefore stays in its split when others are added or removed, and the shares are
    met on average. Two or more keys and a fraction above 0 always give both splits a sample.
    """
    hashes = [derive_seed("split", key) / 2**63 for key in keys]
    splits: list[Split] = ["val" if value < val_fraction else "train" for value in hashes]
    if len(hashes) > 1 and val_fraction > 0:
        splits[hashes.index(min(hashes))] = "val"
        splits[hashes.index(max(hashes))] = "train"
    return splits
