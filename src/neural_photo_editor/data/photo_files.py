"""Read the photo files of a source: what is wrong with one file is told, not raised through."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.api.codec import ImageLimits, decode_photo
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.data.sources import UnusableFileError

IMPORT_LIMITS = ImageLimits(max_bytes=200 * 2**20, max_pixels=8192 * 8192)


def read_file(path: Path, *, max_bytes: int = IMPORT_LIMITS.max_bytes) -> bytes:
    """Return a file's bytes.

    Raises:
        UnusableFileError: missing, not readable by this user, or larger than `max_bytes`.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UnusableFileError(f"the file has {size:,} bytes, more than {max_bytes:,}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnusableFileError("the file is missing") from error
    except (PermissionError, IsADirectoryError) as error:
        raise UnusableFileError(f"the file cannot be read: {error.strerror}") from error


def decode_rgb(data: bytes, *, limits: ImageLimits = IMPORT_LIMITS) -> NDArray[np.uint8]:
    """Decode a photo to sRGB, uint8 (H, W, 3), upright; alpha is dropped.

    Raises:
        UnusableFileError: what :func:`api.codec.decode_photo` refuses.
    """
    try:
        return decode_photo(data, limits=limits, to_srgb=True).rgb
    except RequestError as error:
        raise UnusableFileError(error.detail) from error


def listed_and_present(folder: Path, listed: set[str], *, suffix: str, list_file: Path) -> int:
    """Compare a list of photos with a folder and return how many of the listed are missing.

    Raises:
        ValueError: the folder is missing, or holds a photo that the list does not name: the two
            are not of the same data set, and such photos would be dropped silently.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: unpack the data set's photos there")
    present = {path.name for path in folder.iterdir() if path.name.endswith(suffix)}
    strangers = present - listed
    if strangers:
        raise ValueError(
            f"{list_file} does not list {len(strangers)} photos of {folder}, {min(strangers)} for "
            "one: take both from the same download, or move these photos elsewhere"
        )
    return len(listed - present)
