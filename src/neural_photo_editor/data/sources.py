"""Where photos come from: anything that can load sample i, in any process and in any order."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SampleMetadata:
    """Where one photo comes from and what may be done with it; written beside the photo.

    Attributes:
        source: data set or file the photo was taken from.
        license: SPDX identifier or the license's name.
        attribution: whom to name.
    """

    source: str
    license: str
    attribution: str


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

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...

    def name(self, index: int) -> str:
        """What to call sample `index` in a report: a file's name, for instance."""

    def load(self, index: int) -> Sample:
        """Load sample `index`.

        Raises:
            UnusableFileError: this one file cannot be used; the others may be fine.
        """
