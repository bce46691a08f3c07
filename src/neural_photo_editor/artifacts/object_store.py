"""A registry in an object store, behind a cache folder on this machine."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neural_photo_editor.artifacts.digests import SUMS_NAME, parse_sums, verify_sums
from neural_photo_editor.artifacts.store import MAX_SMALL_BYTES, StoreError, bounded, numbers
from neural_photo_editor.common.fingerprint import sha256_bytes
from neural_photo_editor.common.log import get_logger

KEPT_COPIES = 8
"""In the cache, beside what was used a short time ago."""

IN_USE_S = 3600.0
"""Nobody reads a copy for longer after asking for it."""

ABANDONED_S = 24 * 3600.0
"""A writer that has been silent for so long is dead."""

_log = get_logger(__name__)


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
            return numbers(parts[-2] for parts in found if parts[-1] == SUMS_NAME)

    def files(self, path: str) -> list[str]:
        return self._list(path, "file")

    def read(self, path: str) -> bytes:
        with self._explained(path):
            content = self.fs.cat_file(f"{self.root}/{path}", end=MAX_SMALL_BYTES + 1)
        return bounded(bytes(content), f"{self}/{path}")

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
            os.utime(cached.parent)
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
        os.utime(cached.parent)
        self._tidy()

    def _tidy(self) -> None:
        """Delete copies that were not used of late, and what writers that died have left."""
        changed_s: dict[Path, float] = {}
        for path in self.cache.iterdir():
            with suppress(FileNotFoundError):  # Others tidy, too.
                changed_s[path] = path.stat().st_mtime
        staged = {path for path in changed_s if path.name.startswith(".staging-")}
        oldest = sorted(changed_s.keys() - staged, key=changed_s.__getitem__)[:-KEPT_COPIES]
        for paths, age_s in ((oldest, IN_USE_S), (staged, ABANDONED_S)):
            for path in paths:
                if changed_s[path] < time.time() - age_s:
                    shutil.rmtree(path, ignore_errors=True)

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
