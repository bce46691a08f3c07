"""What a checkpoint is, without loading it: for the tracker, which has no torch."""

import pickletools
import zipfile
from pathlib import Path
from typing import Any

from neural_photo_editor.common.fingerprint import sha256_file

INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
"""Pickle's opcodes of a whole number; those that refer to what came before have one as well."""


def describe_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return ``file``, ``step``, ``bytes`` and ``sha256``; None where it is not readable now.

    Args:
        path: a file written by `torch.save`.
    """
    try:
        step = _global_step(path)
        if step is None:
            return None
        size, digest = path.stat().st_size, sha256_file(path)
    except (OSError, zipfile.BadZipFile):  # It is being replaced, or was removed.
        return None
    return {"file": str(path), "step": step, "bytes": size, "sha256": digest}


def _global_step(path: Path) -> int | None:
    """Find ``global_step`` in the pickle by reading its opcodes; nothing is executed."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not names:
            return None
        pickled = archive.read(names[0])
    found = False
    for opcode, argument, _ in pickletools.genops(pickled):
        if found and isinstance(argument, int) and opcode.name in INTEGERS:
            return argument
        # Between a key and its value, the key is remembered for later use.
        found = argument == "global_step" or (found and "PUT" in opcode.name)
    return None
