"""docs/receipts.md shows the format that is signed, commands that parse and code that runs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from tests.unit.api.signed_edits import signed_edit

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "receipts.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    return found


def names(value: Any) -> Any:
    """Return the names in a document, without its values."""
    return {k: names(v) for k, v in value.items()} if isinstance(value, dict) else None


def test_the_example_has_the_fields_of_a_receipt() -> None:
    (example,) = blocks("json")
    shown, real = json.loads(example), signed_edit(color="#30c060").document
    assert list(shown) == list(real)
    # The example has a strength map, that edit has none.
    file_names = names(shown.pop("strength_map"))
    assert file_names == {"sha256": None, "size_bytes": None, "content": None}
    assert names(shown) | {"strength_map": None} == names(real)


def test_the_code_verifies_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in blocks("python") if "Ed25519" in block]
    monkeypatch.chdir(tmp_path)
    document = signed_edit(color="#30c060").document
    Path("receipt.json").write_text(json.dumps(document))
    exec(code, {})
    document["edit"]["seed"] += 1
    Path("receipt.json").write_text(json.dumps(document))
    with pytest.raises(InvalidSignature):
        exec(code, {})
