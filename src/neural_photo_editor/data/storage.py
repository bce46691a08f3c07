"""Where a data set's files lie: a local folder, or an object store behind a bounded local cache."""

import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_cache import ShardCache

_log = get_logger(__name__)
_T = TypeVar("_T")

DEFAULT_CACHE_BYTES = 50 * 1024**3
# An allow-list: fsspec also knows protocols that unpack archives, chain others or run commands.
PROTOCOLS = ("s3", "gs", "az", "abfs", "https", "http", "memory")
_READ_ONLY = ("https", "http")
_URL = re.compile(r"([a-zA-Z0-9+.-]+)://(.+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BLOCK_BYTES = 8 * 1024**2
# Waiting helps against none of these.
_PERMANENT = (FileNotFoundError, PermissionError, NotImplementedError, ValueError)


class StorageError(OSError):
    """An object could not be transferred whole. The message names it and the remedy."""


class ShardStorage:
    """The files of one data set by their names.

    May be pickled or forked; connections are made at first use in each process.

    Args:
        url: a local folder, ``file://`` included, or s3://, gs://, az://, https:// ... An object
            store takes its credentials from where its own tools take them.
        cache_dir: folder for copies of remote shards, shared by all processes of a machine; None
            chooses ``neural_photo_editor/shards`` in the user's cache folder. Unused locally.
        cache_bytes: how many bytes of shards the cache may hold; the least recently used go.
        retries: how often a failed transfer is repeated before it counts as failed. A transfer
            goes in blocks and any block that arrives starts the count again.
        retry_wait_s: pause before the first repetition; each further one doubles it, up to 16 s.

    Raises:
        ValueError: a protocol outside `PROTOCOLS`, or no room in the cache.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        cache_dir: Path | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        retries: int = 5,
        retry_wait_s: float = 0.5,
    ) -> None:
        self.protocol, self.root = _split_url(url)
        self.folder = Path(self.root) if self.protocol == "file" else None
        self.retries = retries
        self.retry_wait_s = retry_wait_s
        self.cache = (
            None if self.folder else ShardCache(cache_dir or _user_cache(), max_bytes=cache_bytes)
        )
        self._connection: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connection": None}

    def __str__(self) -> str:
        return self.root if self.folder else f"{self.protocol}://{self.root}"

    def url(self, name: str) -> str:
        """Return the full name of a file, for messages.

        Raises:
            ValueError: `name` is more than a plain file name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain file name")
        return f"{self}/{name}"

    def exists(self, name: str) -> bool:
        if self.folder:
            return self._local_path(name).is_file()
        return bool(self._retry(name, lambda: self._fs.isfile(self._path(name))))

    def size(self, name: str) -> int:
        """Return a file's size in bytes.

        Raises:
            FileNotFoundError: there is none.
            StorageError: the store does not answer.
        """
        if self.folder:
            return self._local_path(name).stat().st_size
        return int(self._retry(name, lambda: self._fs.size(self._path(name))))

    def names(self) -> list[str]:
        """Return the names of the files, sorted; none where the folder does not exist."""
        if self.folder:
            found = self.folder.iterdir() if self.folder.is_dir() else ()
            return sorted(path.name for path in found if path.is_file())
        try:
            paths = self._retry("", lambda: self._fs.find(self.root, maxdepth=1))
        except FileNotFoundError:
            return []
        return sorted(path.rsplit("/", 1)[-1] for path in paths)

    def read(self, name: str, *, first: int | None = None) -> bytes:
        """Return the content of a small file such as the manifest, or the first bytes of any file.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it could not be read after all retries.
        """
        if self.folder:
            with self._local_path(name).open("rb") as file:
                return file.read(first)
        data = self._retry(name, lambda: self._fs.cat_file(self._path(name), end=first))
        return bytes(data[:first])

    def write(self, name: str, path: Path) -> None:
        """Store a local file under a name; a reader sees the old content or the new one, whole.

        Raises:
            ValueError: the storage can only be read.
            StorageError: it could not be written after all retries.
        """
        if self.protocol in _READ_ONLY:
            raise ValueError(f"{self.url(name)} cannot be written: {self.protocol} only reads")
        if self.folder is None:
            self._retry(name, lambda: self._fs.put_file(str(path), self._path(name)))
            return
        target = self._local_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{name}.tmp")
        shutil.copyfile(path, temporary)
        temporary.replace(target)

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""
        if self.folder:
            self._local_path(name).unlink(missing_ok=True)
        elif self.exists(name):
            self._retry(name, lambda: self._fs.rm_file(self._path(name)))

    def local(self, name: str, *, size: int, sha256: str) -> Path:
        """Return a local file with the content of a shard.

        A local shard's digest is not computed (``verify`` does that). Remotely, another process
        may drop the copy from the cache at any time: use `open` to hold on to it.

        Args:
            size: in bytes, as the manifest lists it.
            sha256: digest of the content, hexadecimal.

        Raises:
            ValueError: the shard is missing, or has another size or other bytes; or it does not
                fit into the cache.
            StorageError: it could not be transferred after all retries.
        """
        if self.cache is None:
            path = self._local_path(name)
            check_size(path, size)
            return path
        try:
            return self.cache.get(
                sha256, size=size, fetch=lambda file: self._download(name, file, size)
            )
        except FileNotFoundError as error:
            raise ValueError(f"{self.url(name)} is missing: copy it again") from error
        except ValueError as error:
            raise ValueError(f"{self.url(name)}: {error}") from error

    def open(self, name: str, *, size: int, sha256: str) -> int:
        """Return a file descriptor of what `local` returns, which stays readable until closed."""
        for _ in range(3):
            path = self.local(name, size=size, sha256=sha256)
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # Dropped from the cache between the two calls.
        raise StorageError(
            f"{self.url(name)} was dropped from the cache as soon as it had arrived: other "
            "processes need its room; raise cache_bytes"
        )

    def _download(self, name: str, file: Path, size: int) -> None:
        """Append to `file` what it lacks of an object, block by block."""
        start_s, have = time.monotonic(), file.stat().st_size
        if have:
            _log.info("%s: going on at byte %d of %d", self.url(name), have, size)
        with file.open("ab") as out:
            while have < size:
                end = min(have + _BLOCK_BYTES, size)
                block = self._retry(name, partial(self._block, name, have, end))
                out.write(block)
                out.flush()
                have += len(block)
            os.fsync(out.fileno())
        _log.info(
            "%s: %.1f MB copied into the cache in %.1f s",
            self.url(name),
            size / 1e6,
            time.monotonic() - start_s,
        )

    def _block(self, name: str, start: int, end: int) -> bytes:
        data = bytes(self._fs.cat_file(self._path(name), start=start, end=end))
        if len(data) > end - start:  # A web server without ranges sends the whole file.
            data = data[start:end]
        if len(data) < end - start:
            raise OSError(f"{len(data)} of {end - start} bytes at offset {start}")
        return data

    def _retry(self, name: str, action: Callable[[], _T]) -> _T:
        for attempt in range(self.retries + 1):
            try:
                return action()
            except _PERMANENT:
                raise
            except Exception as error:  # Every store raises its client's own types.
                reason = f"{type(error).__name__}: {error}"
                if attempt == self.retries:
                    raise StorageError(
                        f"{self}/{name} failed {attempt + 1} times, last with {reason}. "
                        "Check the network and the credentials, then start again: what has "
                        "arrived is kept"
                    ) from error
            wait_s = min(self.retry_wait_s * 2**attempt, 16.0)
            _log.warning("%s/%s: %s; again in %.1f s", self, name, reason, wait_s)
            time.sleep(wait_s)
        raise AssertionError("unreachable")

    def _local_path(self, name: str) -> Path:
        assert self.folder is not None
        self.url(name)
        return self.folder / name

    def _path(self, name: str) -> str:
        self.url(name)
        path = f"{self.root}/{name}"
        return f"{self.protocol}://{path}" if self.protocol in _READ_ONLY else path

    @property
    def _fs(self) -> Any:
        # A connection belongs to the process that made it: loader workers are forked.
        if self._connection is None or self._connection[0] != os.getpid():
            try:
                self._connection = (
                    os.getpid(),
                    fsspec.filesystem(self.protocol, use_listings_cache=False),
                )
            except ImportError as error:
                raise ValueError(f"{self} needs a package: {error}") from error
        return self._connection[1]


def check_size(path: Path, size: int) -> None:
    """Compare a shard's size with the manifest's, which finds missing and cut-off files at once.

    Raises:
        ValueError: the file is missing or has another size.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy it again or prepare the shards again")
    actual = path.stat().st_size
    if actual != size:
        raise ValueError(f"{path} has {actual} bytes, the manifest lists {size}: copy it again")


def _split_url(url: str | Path) -> tuple[str, str]:
    """Return protocol and path; a plain path has the protocol "file"."""
    match = None if isinstance(url, Path) else _URL.fullmatch(url)
    if match is None:
        text = str(url)
        if not isinstance(url, Path) and (text.startswith("pipe:") or "::" in text):
            raise ValueError(f"{text!r} is not a folder or one of {', '.join(PROTOCOLS)}://")
        return "file", text
    protocol, path = match[1].lower(), match[2].rstrip("/")
    if protocol in ("file", "local"):
        return "file", path
    if protocol not in PROTOCOLS or "::" in path:
        raise ValueError(f"{url!r}: the protocol must be one of file, {', '.join(PROTOCOLS)}")
    return {"abfs": "az"}.get(protocol, protocol), path


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "neural_photo_editor" / "shards"
