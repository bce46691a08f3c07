"""A bounded folder of shards, named by their digests and shared by all processes of a machine."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neural_photo_editor.common.fingerprint import sha256_file

_LOCK_NAME = "cache.lock"
# Whatever else lies in the folder is not ours to delete.
_OURS = re.compile(r"[0-9a-f]{64}\.(?:tar|(\d+)\.part)")


class ShardCache:
    """Files by the SHA-256 of their content, the least recently used dropped first.

    A file is fetched once however many processes ask for it at the same time: the others wait.
    What an interrupted fetch left is kept as ``{digest}.{size}.part`` and continued. The room of
    a file is reserved before it is fetched, so finished and growing files together exceed
    `max_bytes` only while more processes fetch at once than there is room for. Dropping a file
    that a process still reads takes its name, not its content.

    Raises:
        ValueError: `max_bytes` is not positive.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError(f"cache_bytes must be at least 1, not {max_bytes}")
        self.folder = folder
        self.max_bytes = max_bytes

    def get(self, sha256: str, *, size: int, fetch: Callable[[Path], None]) -> Path:
        """Return the file with a digest, fetched if it is absent, and count it as just used.

        Args:
            size: of the file in bytes.
            fetch: appends to the file at the given path, which may hold a first part already,
                what it lacks.

        Raises:
            ValueError: the file is larger than the cache, or what was fetched has another digest.
        """
        path = self.folder / f"{sha256}.tar"
        if _use(path, size):
            return path
        if size > self.max_bytes:
            raise ValueError(
                f"a shard of {size} bytes does not fit into a cache of {self.max_bytes}: "
                "raise cache_bytes"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{sha256}.{size}.part"
        with _locked(part):
            if _use(path, size):  # Another process was faster.
                part.unlink()
                return path
            for attempt in range(2):
                self._make_room(keep=part, size=size)
                try:
                    fetch(part)
                except BaseException:
                    if part.stat().st_size == 0:  # Nothing to continue: free the room.
                        part.unlink()
                    raise
                if part.stat().st_size == size and sha256_file(part) == sha256:
                    part.replace(path)
                    _use(path, size)
                    return path
                # The first part may be of an older object: once more from the beginning.
                if attempt == 0:
                    os.truncate(part, 0)
            part.unlink()
        raise ValueError("it has other bytes than the manifest lists: copy it again")

    def used_bytes(self) -> int:
        """Return the bytes of finished and growing files."""
        total = 0
        for _, path, _ in self._entries():
            with suppress(FileNotFoundError):  # Dropped, or renamed and counted by that name.
                total += path.stat().st_size
        return total

    def _make_room(self, *, keep: Path, size: int) -> None:
        with _locked(self.folder / _LOCK_NAME):
            entries = sorted(entry for entry in self._entries() if entry[1] != keep)
            excess = sum(entry[2] for entry in entries) + size - self.max_bytes
            for _, path, entry_size in entries:
                if excess <= 0:
                    return
                if _drop(path):
                    excess -= entry_size
        # Else other processes are fetching more than fits: each shard must still be read.

    def _entries(self) -> Iterator[tuple[int, Path, int]]:
        """Yield (time of last use in ns, path, size in bytes when finished) of each file."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # Dropped by another process.
            if match := _OURS.fullmatch(path.name):
                yield status.st_mtime_ns, path, int(match[1] or status.st_size)


def _use(path: Path, size: int) -> bool:
    """Mark a file as used now; False where it is absent or not whole."""
    try:
        if path.stat().st_size != size:
            path.unlink(missing_ok=True)
            return False
        now_ns = time.time_ns()  # Finer than the clock of the file system's own time stamps.
        os.utime(path, ns=(now_ns, now_ns))
    except FileNotFoundError:
        return False
    return True


def _drop(path: Path) -> bool:
    """Delete a file unless it is an unfinished one that a process is fetching."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".part":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Create a file and hold its lock, which ends with the process whatever ends that."""
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The file that was waited for may have been renamed or dropped meanwhile.
            try:
                current = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                current = False
            if current:
                try:
                    yield
                finally:
                    # Closing is not enough where a process forked meanwhile holds the file too.
                    fcntl.flock(file, fcntl.LOCK_UN)
                return
