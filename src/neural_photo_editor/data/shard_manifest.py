"""The manifest of a sharded data set: the samples of each shard, and digests to prove it."""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neural_photo_editor.common.fingerprint import canonical_json, sha256_json
from neural_photo_editor.common.regions import REGION_MAP
from neural_photo_editor.data.storage import ShardStorage

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
SHARD_NAME = re.compile(r"(train|val|test)-\d{6}\.tar")

Split = Literal["train", "val", "test"]
ImageFormat = Literal["jpg", "png"]


class FileNote(BaseModel):
    """A photo's file and what is wrong with it: why it was skipped, or kept in spite of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    reason: str


class ShardInfo(BaseModel):
    """One tar file.

    Attributes:
        file: name inside the data set's folder, ``{split}-{000000}.tar``.
        split: "train", "val" or "test".
        keys: the samples' keys in the order they lie in the tar.
        unlabeled: the keys among them that have no label map.
        bytes: size of the tar.
        sha256: digest of the tar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    split: Split
    keys: tuple[str, ...] = Field(min_length=1)
    unlabeled: tuple[str, ...] = ()
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "ShardInfo":
        if not SHARD_NAME.fullmatch(self.file) or not self.file.startswith(f"{self.split}-"):
            raise ValueError(f"shard {self.file!r} is not named {self.split}-NNNNNN.tar")
        strangers = set(self.unlabeled) - set(self.keys)
        if strangers:
            raise ValueError(f"{self.file} lists {min(strangers)!r} as unlabeled but lacks it")
        return self


class ShardManifest(BaseModel):
    """What ``manifest.json`` holds. A sample's id is its position in the order of `shards`.

    Attributes:
        resolution: side of the square photos in pixels; None where sizes differ.
        image_format: suffix of the photo members, "jpg" or "png".
        licenses: the distinct licenses of the samples, sorted.
        region_map: name -> id of the regions in the label maps.
        crop: how the photos were framed, in words; empty where nobody said.
        skipped: files that could not be used or that the source's policy left out.
        notes: files with a known defect that were kept.
        near_duplicates: groups of two or more keys whose photos look the same; they are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    name: str
    resolution: int | None
    image_format: ImageFormat
    licenses: tuple[str, ...]
    region_map: dict[str, int] = Field(default_factory=lambda: dict(REGION_MAP))
    crop: str = ""
    skipped: tuple[FileNote, ...] = ()
    notes: tuple[FileNote, ...] = ()
    near_duplicates: tuple[tuple[str, ...], ...] = ()
    shards: tuple[ShardInfo, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "ShardManifest":
        if self.region_map != REGION_MAP:
            raise ValueError("the region map is not this version's: prepare the shards again")
        if len({shard.file for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is listed twice")
        keys = [key for shard in self.shards for key in shard.keys]
        known = set(keys)
        if len(known) < len(keys):
            twice = min(key for key, count in Counter(keys).items() if count > 1)
            raise ValueError(f"the key {twice!r} is used by two samples")
        for group in self.near_duplicates:
            if len(set(group)) < 2 or not known.issuperset(group):
                raise ValueError(f"{group} are not two or more samples of this data set")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical content; equal data sets have equal digests."""
        return sha256_json(self.model_dump(mode="json"))

    def num_samples(self, split: Split) -> int:
        return sum(len(shard.keys) for shard in self.shards if shard.split == split)

    def to_bytes(self) -> bytes:
        """Return the content of ``manifest.json``; equal manifests give equal bytes."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"

    def save(self, folder: Path) -> Path:
        """Write ``manifest.json`` into the folder; readers see the old or the new file, whole."""
        path = folder / MANIFEST_NAME
        temporary = path.with_suffix(".json.tmp")
        temporary.write_bytes(self.to_bytes())
        temporary.replace(path)
        return path

    @staticmethod
    def load(folder: str | Path | ShardStorage) -> "ShardManifest":
        """Read and validate the manifest of a data set, in a folder or an object store.

        Raises:
            ValueError: no manifest, or not a valid one; the message names the file and the fix.
            StorageError: an object store does not answer.
        """
        storage = folder if isinstance(folder, ShardStorage) else ShardStorage(folder)
        try:
            data = storage.read(MANIFEST_NAME)
        except FileNotFoundError as error:
            raise ValueError(
                f"no data set in {storage}: prepare it with pipelines/prepare_shards.py"
            ) from error
        return ShardManifest.parse(data, where=storage.url(MANIFEST_NAME))

    @staticmethod
    def parse(data: bytes, *, where: str) -> "ShardManifest":
        """Validate the content of a ``manifest.json``.

        Args:
            where: what to call it in an error's message.

        Raises:
            ValueError: not JSON, another schema version, or content that contradicts itself; the
                message names the field and the fix.
        """
        try:
            version = _SchemaVersion.model_validate_json(data).schema_version
            if version != SCHEMA_VERSION:
                raise ValueError(
                    f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}: "
                    "update the program or prepare the shards again"
                )
            return ShardManifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "content"
            raise ValueError(f"{where} is not a valid manifest: {field}: {first['msg']}") from error


class _SchemaVersion(BaseModel):
    schema_version: int
