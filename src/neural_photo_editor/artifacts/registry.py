"""Versioned artifacts and bundles: ``NAME/versions/N/`` and ``NAME/aliases/ALIAS``.

A registry is a folder, or a prefix of an object store such as ``s3://bucket/registry``; see
`local_store` and `object_store` for what they guarantee. Needs no torch.
"""

from pathlib import Path
from typing import Literal

from neural_photo_editor.artifacts import history as histories
from neural_photo_editor.artifacts.digests import SUMS_NAME, parse_sums
from neural_photo_editor.artifacts.history import Change
from neural_photo_editor.artifacts.names import check_name
from neural_photo_editor.artifacts.open_store import open_store
from neural_photo_editor.artifacts.store import Store
from neural_photo_editor.common.fingerprint import sha256_bytes

LATEST = "latest"
MAX_ATTEMPTS = 100
"""To change an alias while others change it, too."""


def list_names(registry: Path | str) -> list[str]:
    """Return the names of all artifacts and bundles, sorted."""
    store = open_store(registry)
    return [name for name in store.folders("") if store.versions(name)]


def list_versions(registry: Path | str, name: str) -> list[int]:
    """Return the versions of an artifact in ascending order; none for an unknown name."""
    return open_store(registry).versions(check_name(name))


def list_aliases(registry: Path | str, name: str) -> dict[str, int]:
    """Return alias -> version, sorted by alias.

    Raises:
        ValueError: an alias does not hold a version.
    """
    store = open_store(registry)
    aliases = store.files(f"{check_name(name)}/aliases")
    return {alias: _alias(store, name, alias) for alias in aliases}


def list_changes(registry: Path | str, name: str, alias: str) -> list[Change]:
    """Return the changes of an alias, oldest first; none where it is older than the history."""
    return histories.read_history(open_store(registry), check_name(name), check_name(alias))


def newest_change(registry: Path | str, name: str, alias: str) -> tuple[int, Change | None]:
    """Return the last change of an alias and its number; 0 and None where there is no history.

    The number grows with every change, also one to the version that it named already.
    """
    return histories.newest_change(open_store(registry), check_name(name), check_name(alias))


def settle(registry: Path | str, name: str, alias: str) -> int | None:
    """Complete a change whose writer died half-way, and return the version that an alias names.

    Returns:
        None: there is no such alias.
    """
    store = open_store(registry)
    _follow(store, check_name(name), check_name(alias))
    return _current(store, name, alias)[1]


def publish(registry: Path | str, name: str, staged: Path) -> int:
    """Move a finished folder in as the next version, and point ``latest`` at the newest.

    Of two exporters that choose the same version one goes on to the next, and no reader ever sees
    half a version.

    Args:
        registry: the registry's folder or address.
        name: name of the artifact.
        staged: folder with a ``SHA256SUMS``, see :func:`staging_folder`; gone afterwards.

    Returns:
        The version.

    Raises:
        ValueError: the folder has no ``SHA256SUMS``, or the name cannot be one.
    """
    store = open_store(registry)
    if not (staged / SUMS_NAME).is_file():
        raise ValueError(f"{staged / SUMS_NAME} is missing: write it when the folder is finished")
    version = max(store.versions(check_name(name)), default=0) + 1
    while not store.put(staged, name, version):
        version += 1
    # Looks again after writing: a slower exporter must not put an older version back.
    newest = 0
    while newest != (found := max(store.versions(name))):
        _change(store, name, LATEST, found, reason=None)
        newest = found
    return version


def staging_folder(registry: Path | str) -> Path:
    """Return a new, empty local folder from which a version can be published."""
    return open_store(registry).staging_folder()


def set_alias(
    registry: Path | str,
    name: str,
    alias: str,
    version: int,
    *,
    reason: str | None = None,
    unless_moved_from: int | Literal["any"] | None = "any",
) -> None:
    """Point an alias at a version; readers see the old one or the new one.

    The change goes into the history, also one to the version that it names already: servers that
    gave that version up try it again. No policy is asked: `promotion.promote` does that.

    Args:
        reason: for the history.
        unless_moved_from: the version that the alias must still name; None: there is none yet.

    Raises:
        ValueError: there is no such version, the alias is a number or not a valid name, or it was
            moved meanwhile.
    """
    if check_name(alias).isdecimal():
        raise ValueError(f"the alias {alias!r} would look like a version: use a word")
    store = open_store(registry)
    if version not in store.versions(check_name(name)):
        raise ValueError(f"{name} has no version {version} in {registry}")
    _change(store, name, alias, version, reason=reason, expected=unless_moved_from, repeated=True)


def rollback(registry: Path | str, name: str, alias: str, *, reason: str | None = None) -> Change:
    """Point an alias at the version it named before; doing it again goes further back.

    Versions that no longer exist are passed over.

    Raises:
        ValueError: there is no such alias or nothing before it, or somebody else changed it at
            the same moment.
    """
    store = open_store(registry)
    _follow(store, check_name(name), check_name(alias))
    number, current = _current(store, name, alias)
    if current is None:
        raise ValueError(f"{name} has no alias {alias!r} in {store}")
    history = histories.read_history(store, name, alias)
    possible = {*store.versions(name)} - {current}
    earlier = [version for version in histories.earlier_versions(history) if version in possible]
    if not earlier:
        raise ValueError(f"{name}@{alias} is version {current}, and there is none before it")
    change = histories.new_change(
        alias, action="rollback", before=current, after=earlier[0], reason=reason
    )
    if not histories.add_change(store, name, change, number=number + 1):
        raise ValueError(f"{name}@{alias} was changed at this moment: look at it again")
    _follow(store, name, alias)
    return change


def resolve(registry: Path | str, reference: str) -> Path:
    """Return the local folder of ``name@latest``, ``name@ALIAS`` or ``name@3``.

    The folder is called like the version. Of an object store it is a copy whose digests were
    verified; of a registry in a folder it is the version itself, which its reader verifies.

    Raises:
        ValueError: not of that form, or no such artifact, alias or version; says which exist.
    """
    name, version = find_version(registry, reference)
    return open_store(registry).local(name, version)


def find_version(registry: Path | str, reference: str) -> tuple[str, int]:
    """Return name and version of ``name@latest``, ``name@ALIAS`` or ``name@3``.

    Raises:
        ValueError: as :func:`resolve`.
    """
    name, at, selector = reference.partition("@")
    if not at:
        raise ValueError(f"{reference!r} names no version: write {reference}@latest or an @number")
    store = open_store(registry)
    versions = store.versions(check_name(name))
    if not versions:
        raise ValueError(f"there is no artifact {name!r} in {registry}: export it first")
    if selector.isascii() and selector.isdecimal():
        version = int(selector)
    elif check_name(selector) not in store.files(f"{name}/aliases"):
        raise ValueError(f"{name} has no alias {selector!r}; versions: {versions}")
    else:
        version = _alias(store, name, selector)
    if version not in versions:
        raise ValueError(f"{name} has no version {version}; versions: {versions}")
    return name, version


def read_files(registry: Path | str, name: str, version: int, *wanted: str) -> dict[str, bytes]:
    """Return the content of small files of a version after comparing their digests.

    Large files stay where they are. ``SHA256SUMS`` may be among the wanted; of the others those
    that the version does not have are left out.

    Raises:
        ValueError: a file has other bytes than listed.
    """
    store = open_store(registry)
    folder = f"{check_name(name)}/versions/{version}"
    sums = store.read(f"{folder}/{SUMS_NAME}")
    listed = parse_sums(sums, source=f"{store}/{folder}/{SUMS_NAME}")
    found = {SUMS_NAME: sums} if SUMS_NAME in wanted else {}
    for file in (file for file in wanted if file in listed):
        found[file] = store.read(f"{folder}/{file}")
        if sha256_bytes(found[file]) != listed[file]:
            raise ValueError(f"{store}/{folder}/{file} has other bytes than {SUMS_NAME} lists")
    return found


def _alias(store: Store, name: str, alias: str) -> int:
    try:
        content = store.read(f"{name}/aliases/{alias}")
    except FileNotFoundError as error:
        raise ValueError(f"{name} has no alias {alias!r} in {store}") from error
    text = content.strip()
    if not text.isdigit() or len(text) > 9:
        raise ValueError(f"{store}/{name}/aliases/{alias} holds no version: {text[:40]!r}")
    return int(text)


def _current(store: Store, name: str, alias: str) -> tuple[int, int | None]:
    """Return the number of the newest change and the version since; None: no such alias.

    The alias itself counts only where it is older than the history: its writer may have died.
    """
    number, newest = histories.newest_change(store, name, alias)
    if newest is not None:
        return number, newest.to_version
    exists = alias in store.files(f"{name}/aliases")
    return 0, _alias(store, name, alias) if exists else None


def _change(
    store: Store,
    name: str,
    alias: str,
    version: int,
    *,
    reason: str | None,
    expected: int | Literal["any"] | None = "any",
    repeated: bool = False,
) -> None:
    for _ in range(MAX_ATTEMPTS):
        number, before = _current(store, name, alias)
        if expected not in ("any", before):
            was = "nothing" if expected is None else expected
            raise ValueError(f"{name}@{alias} was moved from {was} to {before} meanwhile")
        if before == version and not repeated:
            break
        change = histories.new_change(
            alias, action="set", before=before, after=version, reason=reason
        )
        if histories.add_change(store, name, change, number=number + 1):
            break
    else:
        raise ValueError(
            f"{store}/{name}/history/{alias} takes no entry {number + 1}: see what is in its way"
        )
    _follow(store, name, alias)


def _follow(store: Store, name: str, alias: str) -> None:
    """Make the alias say what the history says last, whoever wrote it meanwhile."""
    written: Change | None = None
    while (newest := histories.newest_change(store, name, alias)[1]) != written:
        assert newest is not None
        store.replace(f"{name}/aliases/{alias}", f"{newest.to_version}\n".encode())
        written = newest
