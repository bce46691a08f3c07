"""Flickr-Faces-HQ: 70,000 aligned faces, each under its own photographer's license."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.photo_files import decode_rgb, read_file
from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.sources import Sample, SampleMetadata, UnusableFileError
from neural_photo_editor.data.transforms import crop_to_square, describe_center_crop

_log = get_logger(__name__)

LIST_NAME = "ffhq-dataset-v2.json"
NUM_TRAIN = 60_000  # the first ones; the makers appointed the others for validation

Edition = Literal["image", "thumbnail"]

# The license's address without scheme, "www." and closing slash -> its SPDX identifier or name.
_LICENSES = {
    "creativecommons.org/licenses/by/2.0": "CC-BY-2.0",
    "creativecommons.org/licenses/by-nc/2.0": "CC-BY-NC-2.0",
    "creativecommons.org/publicdomain/zero/1.0": "CC0-1.0",
    "creativecommons.org/publicdomain/mark/1.0": "Public Domain Mark 1.0",
    "usa.gov/copyright.shtml": "United States Government Work",
}


@dataclass(frozen=True, slots=True)
class _Record:
    number: int
    path: str  # below the data set's folder
    md5: str
    license: str
    attribution: str


class FFHQ:
    """FFHQ's aligned photos, without labels; each file's MD5 is checked.

    Layout: ``FOLDER/images1024x1024/00000/00000.png`` (1,000 a sub-folder) or
    ``FOLDER/thumbnails128x128/...``, and ``FOLDER/ffhq-dataset-v2.json``, which lists the photos
    with author, license and MD5. The first 60,000 are for training, the others for validation.

    Args:
        folder: the data set's folder.
        edition: "image" (1024 pixels) or "thumbnail" (128 pixels).
        resolution: resize the photos to this side; None keeps them as they are.

    Raises:
        ValueError: the list is missing or malformed, or none of its photos is there.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        edition: Edition = "image",
        resolution: int | None = 256,
    ) -> None:
        if edition not in get_args(Edition):
            raise ValueError(f"edition must be image or thumbnail, not {edition!r}")
        self.folder = Path(folder)
        self.edition = edition
        self.resolution = resolution
        list_file = self.folder / LIST_NAME
        self._records = _read_list(list_file, edition=edition)
        missing = sum(not (self.folder / record.path).is_file() for record in self._records)
        if missing == len(self._records):
            raise ValueError(
                f"none of the photos that {list_file} lists is there, {self._records[0].path} for "
                f"one: download them into {self.folder}, or choose the other edition"
            )
        if missing:
            _log.warning("%s lacks %d of %d photos", self.folder, missing, len(self))

    @property
    def crop(self) -> str:
        return describe_center_crop(self.resolution)

    def __len__(self) -> int:
        return len(self._records)

    def key(self, index: int) -> str:
        return f"ffhq-{self._records[index].number:05d}"

    def name(self, index: int) -> str:
        return self._records[index].path

    def split(self, index: int) -> Split:
        return "train" if self._records[index].number < NUM_TRAIN else "val"

    def load(self, index: int) -> Sample:
        record = self._records[index]
        data = read_file(self.folder / record.path)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != record.md5:
            raise UnusableFileError("the file's MD5 is not the listed one: download it again")
        photo = decode_rgb(data)
        if self.resolution is not None:
            photo, _ = crop_to_square(photo, None, size=self.resolution)
        metadata = SampleMetadata(f"FFHQ {record.path}", record.license, record.attribution)
        return Sample(self.key(index), photo, None, metadata)


def _read_list(path: Path, *, edition: Edition) -> tuple[_Record, ...]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: download it with FFHQ's download_ffhq.py --json")
    try:
        with path.open(encoding="utf-8") as file:
            entries = json.load(file, object_hook=_without_landmarks)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): download it again") from error
    records = []
    for number, entry in entries.items() if isinstance(entries, dict) else ():
        try:
            records.append(_read_entry(int(number), entry, edition=edition))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: entry {number!r} lacks or garbles {error}: take FFHQ's own {LIST_NAME}"
            ) from error
    if not records:
        raise ValueError(f"{path} lists no photos: take FFHQ's own {LIST_NAME}")
    return tuple(sorted(records, key=lambda record: record.number))


def _without_landmarks(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop what is most of the 255 MB while it is parsed, so that it never piles up."""
    for name in ("face_landmarks", "in_the_wild"):
        entry.pop(name, None)
    return entry


def _read_entry(number: int, entry: dict[str, Any], *, edition: Edition) -> _Record:
    file, origin = entry[edition], entry["metadata"]
    path = PurePosixPath(file["file_path"])
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"file_path {str(path)!r}")
    title, address = origin["photo_title"], origin["photo_url"]
    return _Record(
        number=number,
        path=str(path),
        md5=str(file["file_md5"]),
        license=_license_name(origin["license"], origin["license_url"]),
        attribution=", ".join(part for part in (origin["author"], title, address) if part),
    )


def _license_name(name: str, address: str) -> str:
    known = address.split("://")[-1].removeprefix("www.").rstrip("/")
    return _LICENSES.get(known, f"{name} ({address})")
