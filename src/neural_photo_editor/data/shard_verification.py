"""Whether the shards of a data set are those that its manifest lists."""

import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from neural_photo_editor.common.fingerprint import sha256_bytes, sha256_file
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_manifest import SHARD_NAME, ShardInfo, ShardManifest
from neural_photo_editor.data.storage import ShardStorage, StorageError

_log = get_logger(__name__)


def verify(folder: str | Path | ShardStorage) -> ShardManifest:
    """Check every shard against the manifest, see `find_problems`, and return the manifest.

    Raises:
        ValueError: the manifest is not valid or something is wrong; the message is the first
            problem.
    """
    storage = folder if isinstance(folder, ShardStorage) else ShardStorage(folder)
    manifest = ShardManifest.load(storage)
    for problem in find_problems(storage, manifest):
        raise ValueError(problem)
    return manifest


def find_problems(storage: ShardStorage, manifest: ShardManifest) -> Iterator[str]:
    """Yield, shard by shard, what differs from the manifest, each with file and remedy.

    Compared are a shard's size and digest, the samples in it and which of them have label maps,
    and each photo with the digest beside it, so that a damaged member is named. Remote shards
    are copied into the cache.
    """
    start_s, num_bytes = time.monotonic(), 0
    for number, shard in enumerate(manifest.shards, start=1):
        yield from _shard_problems(storage, shard, manifest)
        num_bytes += shard.bytes
        _log.info(
            "%s checked, %d of %d shards, %.0f MB/s", shard.file, number, len(manifest.shards),
            num_bytes / 1e6 / max(time.monotonic() - start_s, 1e-9),
        )  # fmt: skip
    if storage.folder is not None:
        listed = {shard.file for shard in manifest.shards}
        for name in storage.names():
            if SHARD_NAME.fullmatch(name) and name not in listed:
                yield f"{storage.url(name)} is not in the manifest: remove it"


def _shard_problems(
    storage: ShardStorage, shard: ShardInfo, manifest: ShardManifest
) -> Iterator[str]:
    try:
        path = storage.local(shard.file, size=shard.bytes, sha256=shard.sha256)
    except (ValueError, StorageError) as error:
        yield str(error)
        return
    url = storage.url(shard.file)
    if sha256_file(path) != shard.sha256:
        yield f"{url} has other bytes than the manifest lists: copy it again"
    try:
        for problem in _member_problems(path, shard, image_suffix=manifest.image_format):
            yield f"{url}, {problem}: copy it again or prepare the shards again"
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError) as error:
        yield f"{url} cannot be read ({error}): copy it again or prepare the shards again"


def _member_problems(path: Path, shard: ShardInfo, *, image_suffix: str) -> Iterator[str]:
    """Yield what is wrong with the members of a tar, without the tar's name."""
    unlabeled = set(shard.unlabeled)
    expected = [
        f"{key}.{suffix}"
        for key in shard.keys
        for suffix in (image_suffix, "labels.png", "json")
        if suffix != "labels.png" or key not in unlabeled
    ]
    with tarfile.open(path, "r:") as tar:
        names = tar.getnames()
        if names != expected:
            differing = sorted(set(expected) ^ set(names))[:1] or ["in another order"]
            yield f"{len(names)} members instead of {len(expected)}: {differing[0]}"
            return
        for key in shard.keys:
            description = json.loads(_content(tar, f"{key}.json"))
            name = f"{key}.{image_suffix}"
            if sha256_bytes(_content(tar, name)) != description["content_sha256"]:
                yield f"member {name} has another digest than {key}.json states"


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return b"" if file is None else file.read()
