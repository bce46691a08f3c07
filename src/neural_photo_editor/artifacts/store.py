"""What a registry's files are kept in. Needs no torch.

All stores offer the same few operations, and each says what it guarantees. Paths are relative,
with "/", such as ``ddpm/aliases/latest``.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

MAX_SMALL_BYTES = 4 * 2**20
"""Of a file that is read into memory: descriptions, aliases, history, digests."""


class StoreError(OSError):
    """An object store did not do what was asked. The message names it and the remedy."""


class Store(Protocol):
    """The files of one registry."""

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; none where it does not exist."""

    def versions(self, name: str) -> list[int]:
        """Return the numbers of the versions that are whole, ascending."""

    def files(self, path: str) -> list[str]:
        """Return the names of the files in a folder, sorted; none where it does not exist."""

    def read(self, path: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is larger than `MAX_SMALL_BYTES`.
        """

    def replace(self, path: str, content: bytes) -> None:
        """Write a small file; a reader sees the old content or the new one, whole."""

    def create(self, path: str, content: bytes) -> bool:
        """Write a small file that does not exist; of several writers one succeeds.

        Returns:
            False: there is one already, which stays as it is.
        """

    def staging_folder(self) -> Path:
        """Return a new, empty local folder, to be filled and put."""

    def put(self, staged: Path, name: str, version: int) -> bool:
        """Make a staged folder a version, which appears whole or not at all.

        Returns:
            False: the number is taken.
        """

    def local(self, name: str, version: int) -> Path:
        """Return a local folder called like the version that holds its files."""

    def remove(self, name: str, version: int) -> None:
        """Delete a version; first it stops being one, then its files go."""

    def abandoned(self, *, older_than_s: float) -> list[str]:
        """Return the paths of what writers that died have left behind."""

    def remove_abandoned(self, path: str) -> None:
        """Delete one of those."""


def numbers(names: Iterable[str]) -> list[int]:
    """Return the names that are numbers, ascending."""
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def bounded(content: bytes, source: object) -> bytes:
    """Return the content of a small file.

    Raises:
        ValueError: it is too large for one.
    """
    if len(content) > MAX_SMALL_BYTES:
        raise ValueError(f"{source} has more than {MAX_SMALL_BYTES} bytes: this is no such file")
    return content
