"""From a registry's folder or address to its store."""

import re
from pathlib import Path

from neural_photo_editor.artifacts.local_store import LocalStore
from neural_photo_editor.artifacts.object_store import ObjectStore
from neural_photo_editor.artifacts.store import Store

# An allow-list: fsspec also knows protocols that unpack archives, chain others or run commands.
PROTOCOLS = ("s3", "gs", "memory")
_URL = re.compile(r"([a-zA-Z0-9+.-]+)://(.+)")


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
