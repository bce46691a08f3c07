"""Where a registry's files lie: a local folder, or a prefix of an object store. Needs no torch.

Both kinds of store offer the same few operations, and each says what it guarantees. Paths are
relative, with "/", such as ``ddpm/aliases/latest``.
"""

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from neural_photo_editor.artifacts.digests import SUMS_NAME, parse_sums, verify_sums
from neural_photo_editor.common.fingerprint import sha256_bytes
from neural_photo_editor.common.log import get_logger

# An allow-list: fsspec also knows protocols that unpack archives, chain others or run commands.
PROTOCOLS = ("s3", "gs", "memory")
MAX_SMALL_BYTES = 4 * 2**20
"""Of a file that is read into memory: descriptions, aliases, history, digests."""

_URL = re.compile(r"([a-zA-Z0-9+.-]+)://(.+)")
_log = get_logger(__name__)


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


def open_store(registry: Path | str) -> Store:
    """Return the store of a folder, of ``file://``, ``s3://`` or ``gs://``.

    An object store takes its credentials from where its own tools take them.

    Raises:
        ValueError: another protocol, or a package that it needs is not installed.
    """
    if isinstance(registry, Path):
        if re.match(r"\w+:/", registry.as_posix()):
            raise ValueError(f"{registry} is no folder: give the address of a store as text")
        return LocalStore(registry)
    match = _URL.fullmatch(registry)
    if match is None:
        if "::" in registry:
            raise ValueError(f"{registry!r} is not a folder or one of {', '.join(PROTOCOLS)}://")
        return LocalStore(Path(registry))
    protocol, root = match[1].lower(), match[2].rstrip("/")
    if protocol == "file":
        return LocalStore(Path(root))
    if protocol not in PROTOCOLS or "::" in root:
        raise ValueError(f"{registry!r}: the protocol must be one of file, {', '.join(PROTOCOLS)}")
    try:
        import fsspec

        return ObjectStore(protocol, root, fsspec.filesystem(protocol, use_listings_cache=False))
    except ImportError as error:
        extra = {"s3": "registry,s3", "gs": "registry,gcs"}.get(protocol, "registry")
        raise ValueError(
            f"{registry} needs a package that is absent ({error.name}): "
            f"pip install 'neural-photo-editor[{extra}]'"
        ) from error


class LocalStore:
    """A folder, on one file system that can rename and has hard links."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def folders(self, path: str) -> list[str]:
        found = self.folder / path
        paths = found.iterdir() if found.is_dir() else ()
        return sorted(path.name for path in paths if path.is_dir() and path.name[0] != ".")

    def versions(self, name: str) -> list[int]:
        return _numbers(
            folder
            for folder in self.folders(f"{name}/versions")
            if (self.folder / name / "versions" / folder / SUMS_NAME).is_file()
        )

    def files(self, path: str) -> list[str]:
        found = self.folder / path
        paths = found.iterdir() if found.is_dir() else ()
        return sorted(path.name for path in paths if path.is_file() and path.name[0] != ".")

    def read(self, path: str) -> bytes:
        with (self.folder / path).open("rb") as file:
            return _bounded(file.read(MAX_SMALL_BYTES + 1), self.folder / path)

    def replace(self, path: str, content: bytes) -> None:
        with self._temporary(path, content) as file:
            file.replace(self.folder / path)

    def create(self, path: str, content: bytes) -> bool:
        with self._temporary(path, content) as file:
            try:
                os.link(file, self.folder / path)
            except FileExistsError:
                return False
        return True

    def staging_folder(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".staging-", dir=self.folder))
        folder.chmod(0o755)  # mkdtemp's 0700 would keep a server of another user out.
        return folder

    def put(self, staged: Path, name: str, version: int) -> bool:
        # Renaming a folder onto one that is not empty fails, so of two only one succeeds.
        versions = self.folder / name / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        try:
            staged.rename(versions / str(version))
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def local(self, name: str, version: int) -> Path:
        return self.folder / name / "versions" / str(version)

    def remove(self, name: str, version: int) -> None:
        removed = self.staging_folder() / "removed"
        self.local(name, version).rename(removed)
        shutil.rmtree(removed.parent)

    def abandoned(self, *, older_than_s: float) -> list[str]:
        before_s = time.time() - older_than_s
        found = self.folder.glob(".staging-*")
        return sorted(path.name for path in found if path.stat().st_mtime < before_s)

    def remove_abandoned(self, path: str) -> None:
        shutil.rmtree(self.folder / path)

    @contextmanager
    def _temporary(self, path: str, content: bytes) -> Iterator[Path]:
        folder = (self.folder / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            file.write(content)
        temporary = Path(file.name)
        try:
            temporary.chmod(0o644)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


class ObjectStore:
    """A prefix of an object store, behind a cache folder on this machine.

    A version is whole once its ``SHA256SUMS`` is there, which is written last. Its number is taken
    by creating ``NAME/claims/N``, on the condition that there is none: S3 and Google Cloud Storage
    let one of several writers succeed. A store that ignores conditions is noticed by reading back,
    unless two writers are within a round trip of each other; their mixed version would fail its
    digests and never be loaded.
    """

    def __init__(self, protocol: str, root: str, fs: Any) -> None:
        self.url = f"{protocol}://{root}"
        self.root = root
        self.fs = fs
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.cache = Path(base) / "neural_photo_editor" / "registry"

    def __str__(self) -> str:
        return self.url

    def folders(self, path: str) -> list[str]:
        return self._list(path, "directory")

    def versions(self, name: str) -> list[int]:
        prefix = f"{self.root}/{name}/versions"
        with self._explained(prefix):
            found = (path.rsplit("/", 2) for path in self.fs.find(prefix))
            return _numbers(parts[-2] for parts in found if parts[-1] == SUMS_NAME)

    def files(self, path: str) -> list[str]:
        return self._list(path, "file")

    def read(self, path: str) -> bytes:
        with self._explained(path):
            content = self.fs.cat_file(f"{self.root}/{path}", end=MAX_SMALL_BYTES + 1)
        return _bounded(bytes(content), f"{self}/{path}")

    def replace(self, path: str, content: bytes) -> None:
        with self._explained(path):
            self.fs.pipe_file(f"{self.root}/{path}", content)

    def create(self, path: str, content: bytes) -> bool:
        with self._explained(path):
            if self.fs.exists(f"{self.root}/{path}"):
                return False  # Also where the store ignores the condition below.
            try:
                self.fs.pipe_file(f"{self.root}/{path}", content, mode="create")
            except OSError:  # Not every store says why.
                if not self.fs.exists(f"{self.root}/{path}"):
                    raise
        # Also tells when an attempt of ours came through whose answer was lost.
        return self.read(path) == content

    def staging_folder(self) -> Path:
        self.cache.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".staging-", dir=self.cache))

    def put(self, staged: Path, name: str, version: int) -> bool:
        token = os.urandom(16).hex().encode() + b"\n"
        if not self.create(f"{name}/claims/{version}", token):
            return False
        digest = verify_sums(staged)
        folder = f"{self.root}/{name}/versions/{version}"
        names = {path.name for path in staged.iterdir()} - {SUMS_NAME}
        for file in (*sorted(names), SUMS_NAME):
            with self._explained(folder):
                self.fs.put_file(str(staged / file), f"{folder}/{file}")
        self._into_cache(staged, self.cache / digest / str(version))
        return True

    def local(self, name: str, version: int) -> Path:
        folder = f"{name}/versions/{version}"
        content = self.read(f"{folder}/{SUMS_NAME}")
        cached = self.cache / sha256_bytes(content) / str(version)
        if cached.is_dir():
            try:
                verify_sums(cached)
                return cached
            except ValueError as error:
                _log.warning("copying %s/%s again: %s", self, folder, error)
                shutil.rmtree(cached)
        staged = self.staging_folder()
        try:
            for file in parse_sums(content, source=f"{self}/{folder}/{SUMS_NAME}"):
                with self._explained(f"{folder}/{file}"):
                    self.fs.get_file(f"{self.root}/{folder}/{file}", str(staged / file))
            (staged / SUMS_NAME).write_bytes(content)
            verify_sums(staged)
            self._into_cache(staged, cached)
        except FileNotFoundError as error:
            raise ValueError(f"{self}/{folder} lacks a file that its {SUMS_NAME} lists") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return cached

    def remove(self, name: str, version: int) -> None:
        # The claim stays: a number is never used again.
        folder = f"{self.root}/{name}/versions/{version}"
        with self._explained(folder):
            self.fs.rm_file(f"{folder}/{SUMS_NAME}")
            for path in self.fs.find(folder):
                self.fs.rm_file(path)

    def abandoned(self, *, older_than_s: float) -> list[str]:
        before_s, left = time.time() - older_than_s, []
        for name in self.folders(""):
            whole = set(self.versions(name))
            for number in self.folders(f"{name}/versions"):
                claim = f"{self.root}/{name}/claims/{number}"
                with self._explained(claim):
                    if int(number) in whole or not self.fs.exists(claim):
                        continue
                    if self.fs.modified(claim).timestamp() < before_s:
                        left.append(f"{name}/versions/{number}")
        return left

    def remove_abandoned(self, path: str) -> None:
        with self._explained(path):
            for file in self.fs.find(f"{self.root}/{path}"):
                self.fs.rm_file(file)

    def _list(self, path: str, kind: str) -> list[str]:
        folder = f"{self.root}/{path}".rstrip("/")
        with self._explained(folder):
            try:
                found = self.fs.ls(folder, detail=True)
            except FileNotFoundError:
                return []
        names = (entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in found)
        return sorted(
            name for name, entry in zip(names, found, strict=True) if entry["type"] == kind
        )

    def _into_cache(self, staged: Path, cached: Path) -> None:
        cached.parent.mkdir(exist_ok=True)
        try:
            staged.rename(cached)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise  # Otherwise another process was faster.

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, PermissionError, FileExistsError, ValueError, StoreError):
            raise
        except Exception as error:  # Every store raises its client's own types.
            raise StoreError(
                f"{self}: {path.removeprefix(self.root + '/')} failed with "
                f"{type(error).__name__}: {error}. Check the network and the credentials"
            ) from error


def _numbers(names: Iterator[str]) -> list[int]:
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def _bounded(content: bytes, source: object) -> bytes:
    if len(content) > MAX_SMALL_BYTES:
        raise ValueError(f"{source} has more than {MAX_SMALL_BYTES} bytes: this is no such file")
    return content
