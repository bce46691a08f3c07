"""One shard: the tar of its samples, and then the record that it is finished."""

import dataclasses
import io
import os
import secrets
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.common.fingerprint import canonical_json, sha256_bytes, sha256_file
from neural_photo_editor.data.label_map import encode_labels
from neural_photo_editor.data.near_duplicates import perceptual_hash
from neural_photo_editor.data.shard_journal import FinishedShard, journal_name
from neural_photo_editor.data.shard_manifest import FileNote, ImageFormat, ShardInfo
from neural_photo_editor.data.shard_plan import PlannedShard
from neural_photo_editor.data.sources import Sample, SampleSource, UnusableFileError
from neural_photo_editor.data.storage import ShardStorage


@dataclasses.dataclass(frozen=True)
class ShardFileWriter:
    """Everything a process needs to write any shard of a plan; picklable.

    Attributes:
        fingerprint: of the preparation, for the records.
    """

    source: SampleSource
    storage: ShardStorage
    image_format: ImageFormat
    jpeg_quality: int
    fingerprint: str

    def write(self, plan: PlannedShard) -> FinishedShard:
        """Store a shard's tar and, once that is whole, its record.

        A shard of which every sample was skipped gets neither.

        Raises:
            ValueError: a sample that contradicts itself, or a storage that can only be read.
            OSError: the tar could not be stored.
        """
        with _scratch_folder(self.storage) as folder:
            tar = folder / _temporary(plan.file)
            record = self._write_tar(tar, plan)
            if record.info is None:
                tar.unlink()
                return record
            _store(self.storage, plan.file, tar)
        store_bytes(self.storage, journal_name(plan.file), record.to_bytes())
        return record

    def _write_tar(self, path: Path, plan: PlannedShard) -> FinishedShard:
        keys, unlabeled, licenses, hashes = [], [], set(), []
        skipped, notes = [], []
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in plan.indices:
                try:
                    sample = self.source.load(index)
                except UnusableFileError as error:
                    skipped.append(FileNote(file=self.source.name(index), reason=str(error)))
                    continue
                for name, data in self._members(sample):
                    member = tarfile.TarInfo(name)  # mtime, uid and gid 0, mode 0644
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                keys.append(sample.key)
                licenses.add(sample.metadata.license)
                hashes.append(perceptual_hash(sample.photo).hex())
                if sample.labels is None:
                    unlabeled.append(sample.key)
                if sample.metadata.note:
                    notes.append(
                        FileNote(file=self.source.name(index), reason=sample.metadata.note)
                    )
        info = None
        if keys:
            info = ShardInfo(
                file=plan.file,
                split=plan.split,
                keys=tuple(keys),
                unlabeled=tuple(unlabeled),
                bytes=path.stat().st_size,
                sha256=sha256_file(path),
            )
        return FinishedShard(
            fingerprint=self.fingerprint,
            file=plan.file,
            info=info,
            licenses=tuple(sorted(licenses)),
            skipped=tuple(skipped),
            notes=tuple(notes),
            hashes=tuple(hashes),
        )

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
        if not sample.metadata.note:
            del description["note"]
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


def store_bytes(storage: ShardStorage, name: str, content: bytes) -> None:
    """Store a small file; readers see the old content or the new one, whole."""
    with _scratch_folder(storage) as folder:
        path = folder / _temporary(name)
        path.write_bytes(content)
        _store(storage, name, path)


def _temporary(name: str) -> str:
    """Return a file's name while it grows: no other process, on any machine, writes there."""
    return f"{name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def _scratch_folder(storage: ShardStorage) -> Iterator[Path]:
    """Yield where to build a file: where it will lie, or, for an object store, a folder that goes.

    A local tar is renamed into place, for which it has to grow in the same file system.
    """
    if storage.folder is not None:
        yield storage.folder
        return
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        yield Path(folder)


def _store(storage: ShardStorage, name: str, path: Path) -> None:
    """Move a file to its name; readers see all of it or nothing, even after a power cut."""
    if storage.folder is None:
        storage.write(name, path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(storage.folder / name)
