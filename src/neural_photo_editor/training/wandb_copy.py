"""What a W&B run gets of a run folder."""

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from neural_photo_editor.common.fingerprint import sha256_json
from neural_photo_editor.training.checkpoint_record import describe_checkpoint
from neural_photo_editor.training.metrics_tail import FileState, MetricsTail, file_state

PICTURE_WAIT_S = 3.0
RUN_FILES = {"data": "origin.json", "hardware": "hardware.json"}
"""Name in W&B's configuration and file of the run folder, which may come later."""


UPLOADED = ("best", "last")
"""Checkpoints whose files are uploaded if so wished; those kept on the way are many."""


class SentRows:
    """Which rows were sent, one line each in the order sent.

    Args:
        path: where to remember them for the next process.
        count: of those that an earlier process sent, the server has so many; others are forgotten.
    """

    def __init__(self, path: Path, *, count: int) -> None:
        self.path = path
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        self._before = Counter(lines[:count])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(f"{line}\n" for line in lines[:count]))

    def add(self, row: Mapping[str, float]) -> bool:
        """Remember a row as sent; False if an earlier process has sent it."""
        names = sha256_json(sorted(row))[:8]
        line = f"{int(row['step'])},{names}"
        if self._before[line]:
            self._before[line] -= 1
            return False
        with self.path.open("a") as file:
            file.write(f"{line}\n")
        return True


class Copy:
    """A W&B run that gets what is in the run folder.

    Args:
        run: of ``wandb.init``.
        settings: see `wandb_tracker`.
    """

    def __init__(self, run: Any, settings: Mapping[str, Any]) -> None:
        self.run = run
        self.run_dir = Path(settings["run_dir"])
        self._settings = settings
        self._rows = MetricsTail(self.run_dir / "metrics.csv", stale=settings["stale_metrics"])
        self.next_step = run.starting_step if settings["online"] else 0
        self._sent = SentRows(self.run_dir / "wandb" / "sent.csv", count=self.next_step)
        self._missing = dict(RUN_FILES)
        self._logged_checkpoints: dict[Path, FileState] = {}
        self._val_rows: dict[int, dict[str, float]] = {}
        config = yaml.safe_load((self.run_dir / "config.yaml").read_text())
        run.config.update(config, allow_val_change=True)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    def update(self, *, picture_wait_s: float = PICTURE_WAIT_S) -> None:
        """Send what is new; the pictures of a validation may come that long after its metrics."""
        for name, file in list(self._missing.items()):
            if (content := _read_json(self.run_dir / file)) is not None:
                self.run.config.update({name: content}, allow_val_change=True)
                del self._missing[name]
        for row in self._rows.read():
            if not self._sent.add(row):
                continue
            step = int(row.pop("step"))
            values: dict[str, Any] = {"trainer/global_step": step, **row}
            if "time" in values:
                values["_timestamp"] = values.pop("time")
            if validation := {n: v for n, v in row.items() if n.startswith("val/")}:
                self._val_rows[step + 1] = validation
                written = values.get("_timestamp", 0.0)
                time.sleep(min(picture_wait_s, max(0.0, written + picture_wait_s - time.time())))
                values |= self._pictures(step + 1)
            self.run.log(values, step=self.next_step, commit=True)
            self.next_step += 1

    def finish(self, exit_code: int) -> None:
        """Send the rest and close W&B's run."""
        self._rows.stale = None  # A training without a single new row replaces none.
        self.update(picture_wait_s=0.0)
        self.log_checkpoints(last=True)
        self.run.finish(exit_code=exit_code)

    def log_checkpoints(self, *, last: bool = False) -> None:
        """Log new checkpoints as artifacts: metadata and place, or the file, see `UPLOADED`.

        Args:
            last: ``last.ckpt``, too. It is replaced often, and of interest at the end alone.
        """
        for path in sorted(self.run_dir.glob("checkpoints/*.ckpt")):
            if path.stem == "last" and not last:
                continue
            try:
                self._log_checkpoint(path)
            except (OSError, ValueError) as error:  # Such as: it was removed meanwhile.
                say(f"{path.name} was not logged: {error}")

    def _log_checkpoint(self, path: Path) -> None:
        import wandb

        state = file_state(path)
        if state is None or self._logged_checkpoints.get(path) == state:
            return
        if (described := describe_checkpoint(path)) is None:
            return
        self._logged_checkpoints[path] = state
        step = described["step"]
        origin = _read_json(self.run_dir / RUN_FILES["data"]) or {}
        metadata = {
            **described,
            "metrics": self._val_rows.get(step, {}),
            "run_id": self.run.id,
            **origin,
        }
        artifact = wandb.Artifact(_artifact_name(self.run.name), "checkpoint", metadata=metadata)
        if self._settings["upload_checkpoints"] and path.stem in UPLOADED:
            artifact.add_file(str(path))
        else:
            artifact.add_reference(path.as_uri(), name=path.name, checksum=False)
        self.run.log_artifact(artifact, aliases=[path.stem, f"step-{step}"])

    def _pictures(self, step: int) -> dict[str, Any]:
        """Return the pictures of a validation: ``samples/step-000500.png``, and other folders'."""
        import wandb

        paths = sorted(self.run_dir.glob(f"*/step-{step:06d}.png"))
        return {path.parent.name: [wandb.Image(str(path))] for path in paths}


def say(text: str) -> None:
    """Write a line to the log, as far as the disk has room."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _artifact_name(run_name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in run_name) + "-checkpoint"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):  # Not written yet, or only a part of it.
        return None
