"""A folder of versioned artifacts: ``NAME/versions/N/`` and ``NAME/aliases/ALIAS``."""

import errno
import tempfile
from pathlib import Path

from neural_photo_editor.artifacts.names import check_name

LATEST = "latest"


def list_versions(registry: Path, name: str) -> list[int]:
    """Return the versions of an artifact in ascending order; none for an unknown name."""
    folder = registry / check_name(name) / "versions"
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def publish(registry: Path, name: str, staged: Path) -> int:
    """Move a finished folder in as the next version, and point ``latest`` at the newest.

    Renaming a folder onto one that is not empty fails, so of two exporters that choose the same
    version one goes on to the next, and no reader ever sees half a version.

    Args:
        registry: the registry's folder.
        name: name of the artifact.
        staged: folder on the same file system, see :func:`staging_folder`; gone afterwards.

    Returns:
        The version.
    """
    versions = registry / check_name(name) / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    while True:
        version = max(list_versions(registry, name), default=0) + 1
        try:
            staged.rename(versions / str(version))
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    # Looks again after writing: a slower exporter must not put an older version back.
    newest = 0
    while newest != (found := max(list_versions(registry, name))):
        set_alias(registry, name, LATEST, found)
        newest = found
    return version


def staging_folder(registry: Path) -> Path:
    """Return a new, empty folder on the registry's file system, to be filled and published."""
    registry.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".staging-", dir=registry))
    folder.chmod(0o755)  # mkdtemp's 0700 would keep a server of another user out.
    return folder


def set_alias(registry: Path, name: str, alias: str, version: int) -> None:
    """Point an alias at a version; readers see the old one or the new one.

    Raises:
        ValueError: there is no such version, or the alias is a number or not a valid name.
    """
    if check_name(alias).isdecimal():
        raise ValueError(f"the alias {alias!r} would look like a version: use a word")
    if version not in list_versions(registry, name):
        raise ValueError(f"{name} has no version {version} in {registry}")
    folder = registry / name / "aliases"
    folder.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".", delete=False) as file:
        file.write(f"{version}\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(folder / alias)


def resolve(registry: Path, reference: str) -> Path:
    """Return the folder of ``name@latest``, ``name@ALIAS`` or ``name@3``.

    Raises:
        ValueError: not of that form, or no such artifact, alias or version; says which exist.
    """
    name, at, selector = reference.partition("@")
    if not at:
        raise ValueError(f"{reference!r} names no version: write {reference}@latest or an @number")
    versions = list_versions(registry, name)
    if not versions:
        raise ValueError(f"there is no artifact {name!r} in {registry}: export it first")
    if selector.isascii() and selector.isdecimal():
        version = int(selector)
    else:
        alias = registry / name / "aliases" / check_name(selector)
        if not alias.is_file():
            raise ValueError(f"{name} has no alias {selector!r}; versions: {versions}")
        version = int(alias.read_text())
    if version not in versions:
        raise ValueError(f"{name} has no version {version}; versions: {versions}")
    return registry / name / "versions" / str(version)
