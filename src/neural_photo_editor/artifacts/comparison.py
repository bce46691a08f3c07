"""What differs between two versions in the registry. Needs no torch."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.bundle_spec import BUNDLE_NAME
from neural_photo_editor.artifacts.digests import SUMS_NAME, parse_sums
from neural_photo_editor.artifacts.lineage import LINEAGE_NAME
from neural_photo_editor.artifacts.spec import CONFIG_NAME, SPEC_NAME

_DESCRIPTIONS = (BUNDLE_NAME, LINEAGE_NAME, SPEC_NAME)


def compare_versions(registry: Path | str, first: str, second: str) -> list[str]:
    """Return the differences as lines, none where both are the same.

    Named are every value of the descriptions and the lineage that differs (metrics, licenses,
    digests, serving defaults), the files that differ, and the lines of ``config.yaml``.

    Args:
        first, second: references, both of artifacts or both of bundles.

    Raises:
        ValueError: a reference does not exist, or a file is damaged.
    """
    old, new = _read(registry, first), _read(registry, second)
    lines = []
    for file in _DESCRIPTIONS:
        before, after = (dict(_values(content.get(file))) for content in (old, new))
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                change = f"{_text(before.get(key))} -> {_text(after.get(key))}"
                lines.append(f"{file.removesuffix('.json')}: {key}: {change}")
    sums = [parse_sums(content[SUMS_NAME], source=SUMS_NAME) for content in (old, new)]
    for file in sorted(sums[0].keys() | sums[1].keys()):
        if sums[0].get(file) != sums[1].get(file):
            lines.append(f"file: {file}: {_text(sums[0].get(file))} -> {_text(sums[1].get(file))}")
    before_text, after_text = (
        content.get(CONFIG_NAME, b"").decode(errors="replace").splitlines()
        for content in (old, new)
    )
    changed = list(difflib.unified_diff(before_text, after_text, n=0, lineterm=""))[2:]
    return lines + [f"config: {line}" for line in changed if not line.startswith("@@")]


def _read(registry: Path | str, reference: str) -> dict[str, bytes]:
    name, version = registries.find_version(registry, reference)
    wanted = (*_DESCRIPTIONS, CONFIG_NAME, SUMS_NAME)
    return registries.read_files(registry, name, version, *wanted)


def _values(content: bytes | None) -> Iterator[tuple[str, Any]]:
    """Yield "a.b.c" -> value of a JSON document; lists are values."""
    if content is None:
        return
    stack: list[tuple[str, Any]] = [("", json.loads(content))]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict) and value:
            stack += [(f"{key}.{name}".lstrip("."), inner) for name, inner in value.items()]
        else:
            yield key, value


def _text(value: Any) -> str:
    return "absent" if value is None else value if isinstance(value, str) else json.dumps(value)
