"""The process that copies a run folder to Weights & Biases while the training writes it.

``python -m neural_photo_editor.training.wandb_follower`` reads its settings as one JSON line from
its standard input, and a second line, the training's exit code, when the training has ended. It
ends with status 0 when W&B has everything, otherwise with 1 and the reason in its last line. It
outlives the training by ``finish_timeout_s`` at most, by a minute where it writes an offline run.

Rows of metrics.csv are W&B's steps in the order sent, so the server knows how many of them it has;
``wandb/sent.csv`` says which ones these are, and a resumed run sends the others. An offline run
always begins with the first row, and so is complete.
"""

import io
import json
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import requests
import yaml

from neural_photo_editor.common.fingerprint import sha256_json
from neural_photo_editor.training.checkpoint_record import describe_checkpoint
from neural_photo_editor.training.metrics_tail import MetricsTail

POLL_S = 2.0
PICTURE_WAIT_S = 3.0
ANSWER_S = 5.0
"""Longest wait for the server's answer before W&B's client is started at all."""

FIRST_RETRY_S, LAST_RETRY_S = 10.0, 600.0
OFFLINE_FINISH_S = 60.0
"""Time to write an offline run; nothing but the disk can slow that."""

DEFAULT_URL = "https://api.wandb.ai"
RUN_FILES = {"data": "origin.json", "hardware": "hardware.json"}
"""Name in W&B's configuration and file of the run folder, which may come later."""


class TrainingWatch:
    """Whether the training goes on: it says when it ends, or it is gone.

    A thread of its own ends this process ``limit_s`` later, wherever it hangs by then.

    Args:
        channel: where it says so.
        parent_pid: the training's process.
        limit_s: how long this process may outlive the training, in seconds.
    """

    def __init__(self, channel: io.RawIOBase, *, parent_pid: int, limit_s: float) -> None:
        self.exit_code = 1
        self._ended = threading.Event()
        arguments = (channel, parent_pid, limit_s)
        threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until the training ends, that long at most; return whether it has ended."""
        return self._ended.wait(seconds)

    def _watch(self, channel: io.RawIOBase, parent_pid: int, limit_s: float) -> None:
        while not (readable := select.select([channel], [], [], 1.0)[0]):
            if os.getppid() != parent_pid:
                break
        line = channel.readline().strip() if readable else b""
        self.exit_code = int(line) if line else 1
        self._ended.set()
        time.sleep(limit_s)
        _exit(1, f"W&B took more than {limit_s:.0f} s to finish")


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
        self._next_step = run.starting_step if settings["online"] else 0
        self._sent = SentRows(self.run_dir / "wandb" / "sent.csv", count=self._next_step)
        self._missing = dict(RUN_FILES)
        self._logged_checkpoints: dict[Path, int] = {}
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
            self.run.log(values, step=self._next_step, commit=True)
            self._next_step += 1

    def finish(self, exit_code: int) -> None:
        """Send the rest and close W&B's run."""
        self._rows.stale = None  # A training without a single new row replaces none.
        self.update(picture_wait_s=0.0)
        self.log_checkpoints(last=True)
        self.run.finish(exit_code=exit_code)
        if self._settings["online"] and (missing := self._missing_rows()):
            raise RuntimeError(f"the server does not have {missing} of the rows")

    def log_checkpoints(self, *, last: bool = False) -> None:
        """Log new checkpoints as artifacts: metadata and place, or the file itself if so wished.

        Args:
            last: ``last.ckpt``, too. It is replaced often, and of interest at the end alone.
        """
        import wandb

        for path in sorted(self.run_dir.glob("checkpoints/*.ckpt")):
            changed = path.stat().st_mtime_ns
            if self._logged_checkpoints.get(path) == changed or (path.stem == "last" and not last):
                continue
            if (described := describe_checkpoint(path)) is None:
                continue
            self._logged_checkpoints[path] = changed
            step = described["step"]
            origin = _read_json(self.run_dir / RUN_FILES["data"]) or {}
            metadata = {
                **described,
                "metrics": self._val_rows.get(step, {}),
                "run_id": self.run.id,
                **origin,
            }
            artifact = wandb.Artifact(
                _artifact_name(self.run.name), "checkpoint", metadata=metadata
            )
            if self._settings["upload_checkpoints"]:
                artifact.add_file(str(path))
            else:
                artifact.add_reference(path.as_uri(), name=path.name, checksum=False)
            self.run.log_artifact(artifact, aliases=[path.stem, f"step-{step}"])

    def _pictures(self, step: int) -> dict[str, Any]:
        """Return the pictures of a validation: ``samples/step-000500.png``, and other folders'."""
        import wandb

        paths = sorted(self.run_dir.glob(f"*/step-{step:06d}.png"))
        return {path.parent.name: [wandb.Image(str(path))] for path in paths}

    def _missing_rows(self) -> int:
        variables = {"project": self.run.project, "entity": self.run.entity, "name": self.run.id}
        query = (
            "query Rows($project: String, $entity: String, $name: String!) { model(name: $project, "
            "entityName: $entity) { bucket(name: $name, missingOk: true) { historyLineCount } } }"
        )
        bucket = _ask(query, variables)["model"]["bucket"]
        return max(0, self._next_step - int(bucket["historyLineCount"]))


def follow(settings: Mapping[str, Any], watch: TrainingWatch) -> None:
    """Copy the run until the training ends.

    Raises:
        Exception: of any kind; W&B does not have all of the run.
    """
    run = _connect(settings, watch) if settings["online"] else _init(settings)
    copy = Copy(run, settings)
    while not watch.wait(POLL_S):
        copy.update()
        copy.log_checkpoints()
    copy.finish(watch.exit_code)
    # Complete by itself or superseded by the server's: earlier ones of this run say nothing more.
    for folder in Path(settings["run_dir"], "wandb").glob(f"offline-run-*-{settings['run_id']}"):
        if folder != Path(run.dir).parent:
            shutil.rmtree(folder, ignore_errors=True)


def _connect(settings: Mapping[str, Any], watch: TrainingWatch) -> Any:
    """Begin W&B's run; try until it works or the training has ended."""
    pause_s = FIRST_RETRY_S
    while True:
        try:
            if _ask("query Viewer { viewer { id } }", {}).get("viewer") is None:
                raise RuntimeError("the server does not know the key in WANDB_API_KEY")
            return _init(settings)
        except Exception as error:  # noqa: BLE001 - a tracker may fail in any way
            reason = _first_line(error)
        _say(f"W&B cannot be reached, trying again in {pause_s:.0f} s: {reason}")
        if watch.wait(pause_s):
            raise RuntimeError(f"W&B could not be reached: {reason}")
        pause_s = min(LAST_RETRY_S, 2 * pause_s)


def _init(settings: Mapping[str, Any]) -> Any:
    import wandb

    run_dir, online = Path(settings["run_dir"]), settings["online"]
    limit_s = settings["init_timeout_s"]
    return wandb.init(
        project=settings["project"],
        name=settings["name"],
        dir=str(run_dir),
        id=settings["run_id"],
        resume="allow" if online else None,
        mode="online" if online else "offline",
        settings=wandb.Settings(
            init_timeout=limit_s,
            login_timeout=limit_s,
            finish_timeout=settings["finish_timeout_s"],
            finish_timeout_raises=True,
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_save_requirements=False,
            x_stats_pid=settings["parent_pid"],
        ),
    )


def _ask(query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Ask W&B's server, which answers within `ANSWER_S` or not at all."""
    url = os.environ.get("WANDB_BASE_URL") or DEFAULT_URL
    try:
        answer = requests.post(
            f"{url.rstrip('/')}/graphql",
            json={"query": query, "variables": dict(variables)},
            auth=("api", os.environ["WANDB_API_KEY"]),
            timeout=ANSWER_S,
        )
    except requests.RequestException as error:
        raise RuntimeError(f"{type(error).__name__} at {url}") from error
    if not answer.ok:
        raise RuntimeError(f"{url} answers {answer.status_code} {answer.reason}")
    data: dict[str, Any] = answer.json()["data"]
    return data


def _artifact_name(run_name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in run_name) + "-checkpoint"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):  # Not written yet, or only a part of it.
        return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _exit(status: int, reason: str = "") -> NoReturn:
    """End without waiting for W&B's service at exit: it ends with this process, and may hang."""
    if reason:
        _say(reason)
    os._exit(status)


def main() -> NoReturn:
    os.environ |= {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    os.nice(10)  # The training comes first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # A cancelled job has still its end to report.
    # Unbuffered: what a buffer had read already would be hidden from select().
    channel = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    settings = json.loads(channel.readline())
    limit_s = settings["finish_timeout_s"] if settings["online"] else OFFLINE_FINISH_S
    watch = TrainingWatch(channel, parent_pid=settings["parent_pid"], limit_s=limit_s)
    try:
        follow(settings, watch)
    except Exception as error:  # noqa: BLE001 - a tracker may fail in any way, never the training
        _exit(1, _first_line(error))
    _exit(0)


if __name__ == "__main__":
    main()
