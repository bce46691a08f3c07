"""Where photos come from: anything that can load sample i, in any process and in any order."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.data.shard_manifest import Split

DirtyPolicy = Literal["skip", "keep"]
"""What a source does with a record known to be wrong: "skip" refuses it with
:class:`UnusableFileError`, "keep" takes it and writes the defect in its metadata's note."""


@dataclass(frozen=True)
class SampleMetadata:
    """Where one photo comes from and what may be done with it; written beside the photo.

    Attributes:
        source: data set or file the photo was taken from.
        license: SPDX identifier or the license's name.
        attribution: whom to name.
        note: a known defect of a sample that was kept all the same; empty for most.
    """

    source: str
    license: str
    attribution: str
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """One photo.

    Attributes:
        key: name inside the shards: letters, digits, ``_`` and ``-``, unique in the data set.
        photo: uint8 (H, W, 3), RGB.
        labels: region ids, uint8 (H, W) in 0..10; None where nobody labeled the photo.
    """

    key: str
    photo: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    metadata: SampleMetadata


class UnusableFileError(ValueError):
    """One file of a source cannot be used. The message is the reason, without the file's name."""


class SampleSource(Protocol):
    """What the shard writer needs: `load` is a pure function of the index, and picklable."""

    @property
    def resolution(self) -> int | None:
        """Side of the square photos in pixels; None where sizes differ."""

    @property
    def crop(self) -> str:
        """How photos were framed, in words: what was cut off and how the rest was resized."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...

    def name(self, index: int) -> str:
        """What to call sample `index` in a report: a file's name, for instance."""

    def split(self, index: int) -> Split | None:
        """The split the data set's makers put sample `index` in; None: its key's hash decides."""

    def load(self, index: int) -> Sample:
        """Load sample `index`.

        Raises:
            UnusableFileError: this one file cannot be used; the others may be fine.
        """


def check_dirty_policy(dirty: str) -> None:
    """Check a setting that comes from a configuration file.

    Raises:
        ValueError: not a :data:`DirtyPolicy`.
    """
    if dirty not in get_args(DirtyPolicy):
        raise ValueError(f"dirty must be skip or keep, not {dirty!r}")
