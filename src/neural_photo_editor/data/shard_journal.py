"""What a preparation of shards has finished, kept beside them until the manifest is written."""

import dataclasses
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from neural_photo_editor.common.fingerprint import canonical_json, sha256_bytes, sha256_json
from neural_photo_editor.data.shard_manifest import FileNote, ShardInfo
from neural_photo_editor.data.shard_plan import PlannedShard
from neural_photo_editor.data.sources import SampleSource
from neural_photo_editor.data.storage import ShardStorage

_SUFFIX = ".done.json"
# What is being written has a name of its own in each process, see `shard_file`.
_LEFTOVER = re.compile(
    rf"(?P<shard>(train|val|test)-\d{{6}})(\.tar|{re.escape(_SUFFIX)})(\.([0-9a-f]+\.)?tmp)?"
)


class FinishedShard(BaseModel):
    """The record of one planned shard, ``{split}-{000000}.done.json``.

    Attributes:
        fingerprint: of the preparation it belongs to, see `fingerprint_preparation`.
        file: the planned shard's name.
        info: None where every sample of the shard was skipped and there is no tar.
        licenses: the distinct licenses of its samples, sorted.
        skipped: files that were not taken.
        notes: files with a known defect that were taken.
        hashes: perceptual hash of each sample's photo, hexadecimal, in the tar's order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    file: str
    info: ShardInfo | None
    licenses: tuple[str, ...]
    skipped: tuple[FileNote, ...]
    notes: tuple[FileNote, ...]
    hashes: tuple[str, ...]

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json")) + b"\n"


def journal_name(shard_file: str) -> str:
    """Return the name of the record of a shard, ``train-000000.tar`` for example."""
    return shard_file.removesuffix(".tar") + _SUFFIX


def find_finished(
    storage: ShardStorage,
    plans: list[PlannedShard],
    *,
    fingerprint: str,
    with_empty: bool = False,
) -> dict[str, FinishedShard]:
    """Return by file name the planned shards that an earlier, stopped preparation finished.

    Only records of the same fingerprint count, and only while their tar has its size.

    Args:
        with_empty: shards of which every sample was skipped count as well.
    """
    names = set(storage.names())
    finished = {}
    for plan in plans:
        if journal_name(plan.file) not in names:
            continue
        try:
            record = FinishedShard.model_validate_json(storage.read(journal_name(plan.file)))
        except ValidationError:
            continue  # Cut off when its writer was stopped, or of another version.
        except FileNotFoundError:
            continue  # Another process has just written the manifest.
        if record.fingerprint != fingerprint or record.file != plan.file:
            continue
        if record.info is None:
            if with_empty:
                finished[plan.file] = record
            continue
        if plan.file not in names or storage.size(plan.file) != record.info.bytes:
            continue
        finished[plan.file] = record
    return finished


def remove_leftovers(
    storage: ShardStorage,
    *,
    keep: Mapping[str, FinishedShard],
    among: list[PlannedShard] | None = None,
) -> int:
    """Delete the shards and records in the storage but for those to keep; return how many.

    Args:
        among: what belongs to other shards than these stays, too; None stands for all.
    """
    kept = {name for file in keep for name in (file, journal_name(file))}
    ours = None if among is None else {plan.file.removesuffix(".tar") for plan in among}
    leftovers = [
        name
        for name in storage.names()
        if (match := _LEFTOVER.fullmatch(name))
        and name not in kept
        and (ours is None or match["shard"] in ours)
    ]
    for name in leftovers:
        storage.remove(name)
    return len(leftovers)


def remove_journals(storage: ShardStorage) -> None:
    for name in storage.names():
        if _LEFTOVER.fullmatch(name) and name.endswith(_SUFFIX):
            storage.remove(name)


def fingerprint_preparation(
    source: SampleSource, plans: list[PlannedShard], **settings: Any
) -> str:
    """Return a digest of all that decides the shards' bytes but the photo files' contents.

    That is: the source's class and public attributes, each sample's key and shard, the settings,
    and the versions of this package and of the libraries that scale and encode.
    """
    return sha256_json(
        {
            "source": [type(source).__module__, type(source).__qualname__, _public(source)],
            "plan": [[plan.file, [source.key(index) for index in plan.indices]] for plan in plans],
            "settings": settings,
            "versions": [version(name) for name in _DECISIVE_PACKAGES],
        }
    )


_DECISIVE_PACKAGES = ("neural-photo-editor", "pillow", "simplejpeg")


def _public(value: object) -> dict[str, Any]:
    names = vars(value) if hasattr(value, "__dict__") else ()
    return {name: _plain(getattr(value, name)) for name in names if not name.startswith("_")}


def _plain(value: Any) -> Any:
    """Turn a setting into JSON; what has no JSON form counts by its type and public attributes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        return sha256_bytes(np.ascontiguousarray(value).tobytes())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    return [type(value).__qualname__, _public(value)]
