"""A registry in a local folder."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neural_photo_editor.artifacts.digests import SUMS_NAME
from neural_photo_editor.artifacts.store import MAX_SMALL_BYTES, bounded, numbers


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
        return numbers(
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
            return bounded(file.read(MAX_SMALL_BYTES + 1), self.folder / path)

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
