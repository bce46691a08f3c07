"""``SHA256SUMS``: the digests of a folder's files, in the format of the sha256sum command."""

import re
from collections.abc import Collection
from pathlib import Path

from neural_photo_editor.common.fingerprint import sha256_bytes, sha256_file

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*)")


def write_sums(folder: Path) -> str:
    """Write the digests of the folder's files and return the digest of that list."""
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS_NAME)
    content = _to_bytes({name: sha256_file(folder / name) for name in names})
    (folder / SUMS_NAME).write_bytes(content)
    return sha256_bytes(content)


def parse_sums(content: bytes, *, source: str | Path) -> dict[str, str]:
    """Return name -> digest from the bytes of a ``SHA256SUMS``.

    Raises:
        ValueError: not exactly what :func:`write_sums` writes; a name is a plain file name.
    """
    listed: dict[str, str] = {}
    for line in content.decode("ascii", errors="replace").removesuffix("\n").split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{source} has a line that is no digest: {line[:80]!r}")
        listed[match[2]] = match[1]
    if content != _to_bytes(listed):
        raise ValueError(f"{source} is cut off or out of order: copy the folder again")
    return listed


def verify_sums(
    folder: Path, *, required: Collection[str] = (), optional: Collection[str] | None = None
) -> str:
    """Check every file of a folder and return the digest of the list.

    Args:
        folder: holds ``SHA256SUMS`` and the files it lists, nothing else.
        required: names that must be there.
        optional: names that may be there; None: any.

    Raises:
        ValueError: a file is missing, superfluous, unlisted or has other bytes; names the file.
    """
    sums_file = folder / SUMS_NAME
    if not sums_file.is_file():
        raise ValueError(f"{sums_file} is missing: this is no artifact, or not a whole one")
    content = sums_file.read_bytes()
    listed = parse_sums(content, source=sums_file)
    present = {path.name for path in folder.iterdir()} - {SUMS_NAME}
    for name in sorted(set(required) - (listed.keys() & present)):
        raise ValueError(f"{folder / name} is missing or not listed in {SUMS_NAME}")
    for name in sorted(listed.keys() ^ present):
        state = "listed but missing" if name in listed else "not listed"
        raise ValueError(f"{folder / name} is {state} in {SUMS_NAME}: copy the folder again")
    known = present if optional is None else {*required, *optional}
    for name in sorted(present - known):
        raise ValueError(f"{folder / name} does not belong into an artifact: remove it")
    for name, digest in sorted(listed.items()):
        if not (folder / name).is_file() or sha256_file(folder / name) != digest:
            raise ValueError(f"{folder / name} has other bytes than {SUMS_NAME} lists")
    return sha256_bytes(content)


def _to_bytes(digests: dict[str, str]) -> bytes:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()
