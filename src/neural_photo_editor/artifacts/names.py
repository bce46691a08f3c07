"""What names, references and schema versions may look like. Needs no torch."""

import re
from pathlib import Path

from pydantic import BaseModel, ValidationError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class _SchemaVersion(BaseModel):
    schema_version: int


def check_schema_version(
    content: bytes, *, supported: int, source: str | Path, oldest: int | None = None
) -> None:
    """Refuse JSON of a schema version that this program does not read.

    Read before the rest, since fields that a newer version adds would be reported instead.

    Args:
        content: the JSON.
        supported: the newest version that can be read.
        source: named in the error.
        oldest: the oldest version that can be read; ``supported`` when absent.

    Raises:
        ValueError: not JSON, no version, or another version; names both versions.
    """
    try:
        version = _SchemaVersion.model_validate_json(content).schema_version
    except ValidationError as error:
        raise ValueError(f"{source} is not valid: {first_problem(error)}") from error
    oldest = supported if oldest is None else oldest
    if not oldest <= version <= supported:
        readable = f"{supported}" if oldest == supported else f"{oldest} to {supported}"
        raise ValueError(
            f"{source} has schema version {version}, this program reads {readable}: "
            f"{'update the program' if version > supported else 'export it again'}"
        )


def first_problem(error: ValidationError) -> str:
    """Return "field: message" of the first problem of a failed validation."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"


def check_name(name: str) -> str:
    """Return the name of an artifact or alias if it is safe as a folder's name.

    Raises:
        ValueError: it is not; path separators and leading dots never are.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name an artifact: use 1 to 64 of a-z, 0-9, '_' and '-', "
            "beginning with a letter or a digit"
        )
    return name
