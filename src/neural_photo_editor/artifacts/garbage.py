"""Which versions nobody needs any more. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.bundle_spec import BUNDLE_NAME, BundleSpec
from neural_photo_editor.artifacts.history import earlier_versions
from neural_photo_editor.artifacts.open_store import open_store

ABANDONED_S = 24 * 3600.0
"""A writer that has been silent for so long is dead."""


@dataclass(frozen=True)
class Garbage:
    """What can be deleted.

    Attributes:
        versions: name and version of what no alias, no kept bundle and no rollback needs.
        abandoned: paths of uploads that were never finished.
    """

    versions: list[tuple[str, int]]
    abandoned: list[str]


def find_garbage(registry: Path | str, *, keep_newest: int) -> Garbage:
    """Return what can be deleted without anybody missing it.

    Kept are of every name the newest versions, those that an alias names, the one that the next
    rollback of an alias other than ``latest`` would go to, and every artifact that a kept bundle
    was made of.

    Args:
        keep_newest: how many newest versions of each name to keep, at least 1.

    Raises:
        ValueError: an alias or a bundle cannot be read, so what it needs is not known.
    """
    if keep_newest < 1:
        raise ValueError(f"keep {keep_newest} newest versions: at least 1 is kept")
    names = registries.list_names(registry)
    versions = {name: registries.list_versions(registry, name) for name in names}
    kept = {
        (name, version)
        for name in names
        for version in (*versions[name][-keep_newest:], *_named(registry, name, versions[name]))
    }
    for name, version in sorted(kept):
        files = registries.read_files(registry, name, version, BUNDLE_NAME)
        for content in files.values():
            source = f"{registry}/{name}/versions/{version}/{BUNDLE_NAME}"
            parts = BundleSpec.parse(content, source=source).parts.values()
            kept |= {(part.name, part.version) for part in parts}
    return Garbage(
        versions=[(name, v) for name in names for v in versions[name] if (name, v) not in kept],
        abandoned=open_store(registry).abandoned(older_than_s=ABANDONED_S),
    )


def delete_garbage(registry: Path | str, *, keep_newest: int) -> Garbage:
    """Delete what :func:`find_garbage` finds, and return it.

    An alias that is moved to an old version at the very moment of its deletion is not noticed: do
    not promote while this runs.
    """
    garbage, store = find_garbage(registry, keep_newest=keep_newest), open_store(registry)
    for name, version in garbage.versions:
        store.remove(name, version)
    for path in garbage.abandoned:
        store.remove_abandoned(path)
    return garbage


def _named(registry: Path | str, name: str, existing: list[int]) -> set[int]:
    """Return the versions that aliases name, and those their next rollbacks would go to.

    A history may be ahead of its alias, where a writer died.
    """
    found = {*registries.list_aliases(registry, name).values()}
    for alias in open_store(registry).folders(f"{name}/history"):
        changes = registries.list_changes(registry, name, alias)
        if alias == registries.LATEST or not changes:
            continue
        current = changes[-1].to_version
        earlier = [v for v in earlier_versions(changes) if v in existing and v != current]
        found |= {current, *earlier[:1]} & {*existing}
    return found
