"""Write a source's samples as WebDataset tars whose bytes depend on nothing but the samples."""

import dataclasses
import io
import multiprocessing
import re
import tarfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import get_args

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.common.fingerprint import canonical_json, sha256_bytes, sha256_file
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.data.label_map import encode_labels
from neural_photo_editor.data.shard_manifest import (
    MANIFEST_NAME,
    SHARD_NAME,
    FileNote,
    ImageFormat,
    ShardInfo,
    ShardManifest,
    Split,
)
from neural_photo_editor.data.sources import Sample, SampleSource, UnusableFileError

_log = get_logger(__name__)

# WebDataset ends the key at a dot; 80 characters and a suffix fit the name field of a tar header.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclasses.dataclass(frozen=True)
class _PlannedShard:
    file: str
    split: Split
    indices: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _WrittenShard:
    info: ShardInfo | None  # None: every sample of the shard was skipped.
    licenses: frozenset[str]
    skipped: tuple[FileNote, ...]


@dataclasses.dataclass(frozen=True)
class _ShardWriter:
    """Everything a worker process needs to write any shard of the plan."""

    source: SampleSource
    out_dir: Path
    image_format: ImageFormat
    jpeg_quality: int

    def write(self, plan: _PlannedShard) -> _WrittenShard:
        path = self.out_dir / plan.file
        temporary = path.with_suffix(".tar.tmp")
        keys, unlabeled, licenses, skipped = [], [], set(), []
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in plan.indices:
                try:
                    sample = self.source.load(index)
                except UnusableFileError as error:
                    name = self.source.name(index)
                    skipped.append(FileNote(file=name, reason=str(error)))
                    continue
                for name, data in self._members(sample):
                    member = tarfile.TarInfo(name)  # mtime, uid and gid 0, mode 0644
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                keys.append(sample.key)
                licenses.add(sample.metadata.license)
                if sample.labels is None:
                    unlabeled.append(sample.key)
        if not keys:
            temporary.unlink()
            return _WrittenShard(None, frozenset(), tuple(skipped))
        temporary.replace(path)
        info = ShardInfo(
            file=plan.file,
            split=plan.split,
            keys=tuple(keys),
            unlabeled=tuple(unlabeled),
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
        )
        return _WrittenShard(info, frozenset(licenses), tuple(skipped))

    def _members(self, sample: Sample) -> Iterator[tuple[str, bytes]]:
        """Yield the names and bytes of a sample's tar members, the photo first."""
        photo = encode_photo(
            sample.photo, image_format=self.image_format, quality=self.jpeg_quality
        )
        yield f"{sample.key}.{self.image_format}", photo
        if sample.labels is not None:
            if sample.labels.shape != sample.photo.shape[:2]:
                raise ValueError(f"labels of {sample.key} do not have the photo's size")
            yield f"{sample.key}.labels.png", encode_labels(sample.labels)
        description = dataclasses.asdict(sample.metadata) | {
            "height": sample.photo.shape[0],
            "width": sample.photo.shape[1],
            "content_sha256": sha256_bytes(photo),
        }
        yield f"{sample.key}.json", canonical_json(description)


def encode_photo(
    photo: NDArray[np.uint8], *, image_format: ImageFormat, quality: int = 95
) -> bytes:
    """Encode uint8 (H, W, 3) as JPEG of the given quality without chroma subsampling, or as PNG."""
    if image_format == "jpg":
        encoded: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(photo), quality=quality, colorspace="RGB", colorsubsampling="444"
        )
        return encoded
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def write_shards(
    source: SampleSource,
    *,
    out_dir: Path,
    name: str,
    samples_per_shard: int = 1000,
    val_fraction: float = 0.05,
    image_format: ImageFormat = "jpg",
    jpeg_quality: int = 95,
    num_workers: int = 1,
    overwrite: bool = False,
) -> ShardManifest:
    """Write a source as shards and, last of all, their manifest.

    The same source gives the same bytes for any number of workers (with the same versions of
    the image libraries). A folder without a manifest is not a data set, so a preparation that
    was interrupted is never mistaken for a finished one.

    Args:
        samples_per_shard: the last shard of a split holds fewer.
        val_fraction: share of the samples in the "val" split, in [0, 1); see `split_by_key`.
        num_workers: processes that load and encode; each writes whole shards.
        overwrite: replace a data set that is already in `out_dir`.

    Raises:
        ValueError: an argument out of range, a key that is not usable or used twice, a data set
            already in `out_dir`, or no usable sample.
    """
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
    if (out_dir / MANIFEST_NAME).exists() and not overwrite:
        raise ValueError(
            f"{out_dir} already holds a data set: choose another out_dir or set overwrite=true"
        )
    plans = _plan(source, samples_per_shard=samples_per_shard, val_fraction=val_fraction)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / MANIFEST_NAME).unlink(missing_ok=True)
    for path in out_dir.iterdir():
        if SHARD_NAME.fullmatch(path.name.removesuffix(".tmp")):
            path.unlink()  # Left by an earlier or an interrupted preparation.

    writer = _ShardWriter(source, out_dir, image_format, jpeg_quality)
    written = _write_all(writer, plans, num_workers=min(num_workers, len(plans)))
    skipped = tuple(file for shard in written for file in shard.skipped)
    shards = tuple(shard.info for shard in written if shard.info is not None)
    if not shards:
        raise ValueError(
            f"none of the {len(source)} files is usable; {skipped[0].file}: {skipped[0].reason}"
        )
    manifest = ShardManifest(
        name=name,
        resolution=source.resolution,
        image_format=image_format,
        licenses=tuple(sorted(frozenset().union(*(shard.licenses for shard in written)))),
        skipped=skipped,
        shards=shards,
    )
    manifest.save(out_dir)
    _log.info(
        "%s: %d train and %d val samples in %d shards, %d files skipped", out_dir,
        manifest.num_samples("train"), manifest.num_samples("val"), len(shards), len(skipped),
    )  # fmt: skip
    return manifest


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


def _plan(
    source: SampleSource, *, samples_per_shard: int, val_fraction: float
) -> list[_PlannedShard]:
    keys = [source.key(index) for index in range(len(source))]
    for key in keys:
        if not _KEY.fullmatch(key):
            raise ValueError(f"the key {key!r} is not 1 to 80 letters, digits, '_' or '-'")
    if len(set(keys)) < len(keys):
        raise ValueError("two samples of the source have the same key")
    splits = split_by_key(keys, val_fraction=val_fraction)
    plans = []
    for split in ("train", "val"):
        indices = [index for index in range(len(keys)) if splits[index] == split]
        for number, start in enumerate(range(0, len(indices), samples_per_shard)):
            chosen = tuple(indices[start : start + samples_per_shard])
            plans.append(_PlannedShard(f"{split}-{number:06d}.tar", split, chosen))
    return plans


def _write_all(
    writer: _ShardWriter, plans: list[_PlannedShard], *, num_workers: int
) -> list[_WrittenShard]:
    """Write every planned shard and return the results in the plan's order."""
    progress = _Progress(num_samples=sum(len(plan.indices) for plan in plans))
    if num_workers == 1:
        written = []
        for plan in plans:
            written.append(writer.write(plan))
            progress.add(plan, written[-1])
        return written
    # Spawned, not forked: the caller may hold threads and locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        futures = {pool.submit(writer.write, plan): plan for plan in plans}
        try:
            for future in as_completed(futures):
                progress.add(futures[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


class _Progress:
    def __init__(self, *, num_samples: int) -> None:
        self.num_samples = num_samples
        self.done = 0
        self.start_s = time.monotonic()

    def add(self, plan: _PlannedShard, written: _WrittenShard) -> None:
        for file in written.skipped:
            _log.warning("skipped %s: %s", file.file, file.reason)
        self.done += len(plan.indices)
        rate = self.done / max(time.monotonic() - self.start_s, 1e-9)
        _log.info(
            "%s written, %d of %d samples, %.0f samples/s, %.0f s left",
            plan.file, self.done, self.num_samples, rate, (self.num_samples - self.done) / rate,
        )  # fmt: skip
