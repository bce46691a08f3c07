"""A chain of stages that skips what is up to date and continues where it was stopped."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neural_photo_editor.common.fingerprint import canonical_json, sha256_file, sha256_json
from neural_photo_editor.common.log import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True)
class Stage:
    """One step of a chain.

    Attributes:
        name: a few words, unique in its chain.
        settings: JSON-able values that, with the inputs, decide the outputs.
        inputs: names of earlier stages whose outputs this one reads.
        outputs: files that are there when it is done. Of a large output, name the file that holds
            its digests: all of them are hashed.
        run: does the work. Its argument is true when an earlier attempt with the same fingerprint
            was stopped, whose leftovers can be used.
    """

    name: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[Path, ...]
    run: Callable[[bool], object]


@dataclass(frozen=True)
class StageRecord:
    """What a stage's state file says.

    Attributes:
        fingerprint: digest of the settings and of the inputs' digests.
        outputs: path -> SHA-256 of each output; None while the stage is not done.
        duration_s: wall-clock seconds of the attempt that finished.
    """

    fingerprint: str
    outputs: dict[str, str] | None = None
    duration_s: float | None = None


def run_stages(
    stages: Sequence[Stage], *, state_dir: Path, force: bool = False
) -> dict[str, StageRecord]:
    """Run a chain in the order given, with a line in the log for each stage.

    A stage is skipped when its settings and its inputs' contents are those of a finished attempt
    and its outputs are still as that attempt left them. It can be stopped at any time; the next
    call goes on with the stage that was stopped.

    Args:
        stages: the chain; a stage's inputs come before it.
        state_dir: folder for one state file per stage.
        force: skip nothing.

    Returns:
        The record of each stage, by name.

    Raises:
        ValueError: two stages of one name, or an input that is no earlier stage.
        RuntimeError: a stage ended without one of its outputs.
    """
    _check_chain(stages)
    state_dir.mkdir(parents=True, exist_ok=True)
    records: dict[str, StageRecord] = {}
    for number, stage in enumerate(stages, start=1):
        inputs = {name: records[name].outputs for name in stage.inputs}
        fingerprint = sha256_json({"settings": dict(stage.settings), "inputs": inputs})
        path = state_dir / f"{stage.name.replace(' ', '-')}.json"
        label = f"[{number}/{len(stages)}] {stage.name}"
        record = _read_record(path)
        known = not force and record is not None and record.fingerprint == fingerprint
        if known and record is not None and _is_intact(record, stage.outputs):
            _log.info("%s: up to date", label)
        else:
            stopped = known and record is not None and record.outputs is None
            record = _run_stage(stage, label, path, fingerprint, continued=stopped)
        records[stage.name] = record
    return records


def _run_stage(
    stage: Stage, label: str, path: Path, fingerprint: str, *, continued: bool
) -> StageRecord:
    _log.info("%s ...%s", label, " (continued)" if continued else "")
    start = time.monotonic()
    # Written first: it tells the next call whose leftovers it finds.
    _write_record(path, StageRecord(fingerprint))
    try:
        stage.run(continued)
    except BaseException as error:
        reason = type(error).__name__
        _log.warning("%s: stopped (%s); the next call goes on with this stage", label, reason)
        raise
    outputs = _digests(stage.outputs)
    if outputs is None:
        missing = [str(output) for output in stage.outputs if not output.is_file()]
        raise RuntimeError(f"stage {stage.name!r} ended without {', '.join(missing)}")
    record = StageRecord(fingerprint, outputs, round(time.monotonic() - start, 1))
    _write_record(path, record)
    _log.info("%s ... %.0f s", label, record.duration_s)
    return record


def _check_chain(stages: Sequence[Stage]) -> None:
    earlier: set[str] = set()
    for stage in stages:
        if stage.name in earlier:
            raise ValueError(f"two stages are named {stage.name!r}")
        for name in stage.inputs:
            if name not in earlier:
                raise ValueError(f"stage {stage.name!r} reads {name!r}, which is no earlier stage")
        earlier.add(stage.name)


def _is_intact(record: StageRecord, outputs: Sequence[Path]) -> bool:
    return record.outputs is not None and record.outputs == _digests(outputs)


def _digests(outputs: Sequence[Path]) -> dict[str, str] | None:
    """Hash the outputs; None when one is missing."""
    if not all(output.is_file() for output in outputs):
        return None
    return {str(output): sha256_file(output) for output in outputs}


def _read_record(path: Path) -> StageRecord | None:
    """Read a state file; one that is absent or damaged counts as a stage never run."""
    try:
        return StageRecord(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _write_record(path: Path, record: StageRecord) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(canonical_json(asdict(record)) + b"\n")
    temporary.replace(path)
