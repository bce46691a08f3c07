"""A folder of photos, with or without label maps, as a source of samples."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.common.fingerprint import sha256_bytes
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.label_map import decode_labels
from neural_photo_editor.data.photo_files import IMPORT_LIMITS, decode_rgb, read_file
from neural_photo_editor.data.sources import Sample, SampleMetadata, UnusableFileError
from neural_photo_editor.data.transforms import (
    crop_to_square,
    describe_center_crop,
    resize_labels,
)

_log = get_logger(__name__)

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class ImageFolder:
    """Photos in a folder and its sub-folders, with label maps of the same stem in another one.

    The label map of ``a/b.jpg`` is ``labels/a/b.png``: gray, one region id (0..10) a pixel, of
    the upright photo's aspect ratio (another size is resized). A photo without one is taken
    without labels; a label map without a photo is counted in the log. How files become RGB is said
    in :mod:`api.codec`: upright, converted to sRGB by their profile, transparency dropped.

    Args:
        resolution: center-crop each photo to a square and resize it to this side in pixels
            (antialiased); None keeps photos as they are.
        license: of the photos, an SPDX identifier or a name; it is written beside each photo.
        max_pixels: larger photos are refused before they are decoded.

    Raises:
        ValueError: a folder is missing or has no file with a photo's suffix.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        labels: str | Path | None = None,
        resolution: int | None = None,
        license: str = "not stated",
        attribution: str = "not stated",
        max_pixels: int = IMPORT_LIMITS.max_pixels,
    ) -> None:
        self.folder = Path(folder)
        self.labels = None if labels is None else Path(labels)
        self.resolution = resolution
        self.license = license
        self.attribution = attribution
        self.limits = dataclasses.replace(IMPORT_LIMITS, max_pixels=max_pixels)
        for path in filter(None, (self.folder, self.labels)):
            if not path.is_dir():
                raise ValueError(f"{path} is not a folder")
        self._files = self._find_photos()
        self._report_lonely_labels()
        self._keys = _keys_of([file.as_posix() for file in self._files])

    def __len__(self) -> int:
        return len(self._files)

    def key(self, index: int) -> str:
        return self._keys[index]

    def name(self, index: int) -> str:
        return self._files[index].as_posix()

    @property
    def crop(self) -> str:
        return describe_center_crop(self.resolution)

    def split(self, index: int) -> None:  # noqa: ARG002
        return None

    def load(self, index: int) -> Sample:
        file = self._files[index]
        data = read_file(self.folder / file, max_bytes=self.limits.max_bytes)
        photo = decode_rgb(data, limits=self.limits)
        labels = self._load_labels(file, height=photo.shape[0], width=photo.shape[1])
        if self.resolution is not None:
            photo, labels = crop_to_square(photo, labels, size=self.resolution)
        metadata = SampleMetadata(file.as_posix(), self.license, self.attribution)
        return Sample(self.key(index), photo, labels, metadata)

    def _load_labels(self, file: Path, *, height: int, width: int) -> NDArray[np.uint8] | None:
        if self.labels is None or not (self.labels / file.with_suffix(".png")).is_file():
            return None
        try:
            data = read_file(
                self.labels / file.with_suffix(".png"), max_bytes=self.limits.max_bytes
            )
            labels = decode_labels(data, max_pixels=self.limits.max_pixels)
        except ValueError as error:
            raise UnusableFileError(f"its label map: {error}") from error
        # One pixel of either side may be lost to rounding when a map was made smaller.
        if abs(labels.shape[0] * width - labels.shape[1] * height) > max(height, width):
            raise UnusableFileError(
                f"its label map, {labels.shape[1]}x{labels.shape[0]} pixels, has another aspect "
                f"ratio than the upright photo, {width}x{height}"
            )
        return resize_labels(labels, width=width, height=height)

    def _find_photos(self) -> list[Path]:
        """Return the paths with a photo's suffix below the folder, relative to it, sorted."""
        found = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        photos, others = [], Counter[str]()
        for path in found:
            if any(part.startswith(".") for part in path.parts) or self._is_label_map(path):
                continue
            if path.suffix.lower() in PHOTO_SUFFIXES:
                photos.append(path)
            else:
                others[path.suffix.lower() or "no suffix"] += 1
        if others:
            kinds = ", ".join(f"{suffix} ({count})" for suffix, count in others.most_common(5))
            _log.warning("%s: ignored %d other files: %s", self.folder, others.total(), kinds)
        if not photos:
            raise ValueError(f"{self.folder} holds no {', '.join(PHOTO_SUFFIXES)} file")
        return sorted(photos, key=Path.as_posix)

    def _report_lonely_labels(self) -> None:
        if self.labels is None:
            return
        photos = {file.with_suffix(".png") for file in self._files}
        lonely = [
            file
            for path in self.labels.rglob("*.png")
            if (file := path.relative_to(self.labels)) not in photos
        ]
        if lonely:
            _log.warning(
                "%s: ignored %d label maps without a photo, %s for one",
                self.labels, len(lonely), min(lonely),
            )  # fmt: skip

    def _is_label_map(self, path: Path) -> bool:
        """Tell whether a path below the folder lies in a folder of label maps inside it."""
        return self.labels is not None and self.labels in (self.folder / path).parents


def _keys_of(files: list[str]) -> list[str]:
    """Make shard keys of relative paths; a digest is added where two would be the same."""
    stems = [re.sub(r"[^A-Za-z0-9_-]", "_", file.rsplit(".", 1)[0])[-64:] for file in files]
    counts = Counter(stems)
    return [
        stem if counts[stem] == 1 else f"{stem}-{sha256_bytes(file.encode())[:12]}"
        for stem, file in zip(stems, files, strict=True)
    ]
