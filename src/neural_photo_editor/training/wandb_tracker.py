"""Weights & Biases as a tracker that can neither stop nor slow a training.

The run folder is the original, W&B a copy of it: a process of its own reads what the training
writes there (`wandb_follower`), and nothing of W&B is ever on the training's path. At the end the
training waits a few seconds; what W&B did not take by then is put into an offline run in the run
folder, for ``wandb sync``.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import psutil
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.training.metrics_tail import file_state
from neural_photo_editor.training.optional_file import write_optional

log = get_logger(__name__)

TRACKER_FILE = "tracker.json"
FOLLOWER_LOG = "tracker.log"
ONLINE_SHARE = 0.6
"""Of the wait at the end, the part for W&B's server; the rest is for the offline run."""


def start_wandb(
    *,
    project: str,
    name: str,
    run_dir: str | Path,
    resumed_from: str | None,
    init_timeout_s: float,
    finish_timeout_s: float,
    upload_checkpoints: bool,
) -> "WandbTracker | None":
    """Start to copy a run to W&B: online with a key in WANDB_API_KEY, offline without.

    WANDB_MODE, when set, decides instead. Nothing waits for W&B here, and nothing ever asks. The id
    of the run is kept in ``run_dir/tracker.json`` and used again when the training resumes.

    Args:
        project: W&B's project.
        name: name of the run.
        run_dir: run folder; W&B's files go to its ``wandb`` folder.
        resumed_from: checkpoint the training continues from; then W&B's run continues, too.
        init_timeout_s: how long W&B's server may take to begin a run before another attempt.
        finish_timeout_s: longest wait for W&B when the training has ended.
        upload_checkpoints: upload best and last checkpoint; otherwise W&B knows where they are,
            their digests and their metrics.

    Returns:
        The tracker; None where W&B is off, not installed, or on processes other than 0.

    Raises:
        ValueError: a time limit is not above 0, or a trial of W&B's sweep has no key.
    """
    _check(init_timeout_s=init_timeout_s, finish_timeout_s=finish_timeout_s)
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return None
    has_key = bool(os.environ.get("WANDB_API_KEY"))
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key else "offline")
    if mode == "disabled":
        return None
    if mode == "online" and not has_key:
        log.warning("WANDB_MODE is online, but WANDB_API_KEY is not set: tracking offline")
    if not _has_wandb():
        log.warning("wandb is not installed: metrics go to metrics.csv alone")
        return None
    run_dir = Path(run_dir).resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    run_id = (_stored_id(run_dir) if resumed_from else None) or os.environ.get("WANDB_RUN_ID")
    settings = {
        "project": project,
        "name": name,
        "run_dir": str(run_dir),
        "run_id": run_id or secrets.token_hex(4),
        "online": mode == "online" and has_key,
        "init_timeout_s": init_timeout_s,
        "finish_timeout_s": finish_timeout_s,
        "upload_checkpoints": upload_checkpoints,
        "stale_metrics": file_state(run_dir / "metrics.csv"),
    }
    return WandbTracker(settings)


class WandbTracker(Logger):
    """A run's process that talks to W&B, and its end.

    Args:
        settings: what :func:`wandb_follower.main` reads.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._settings = dict(settings)
        self._run_dir = Path(settings["run_dir"])
        self._failed = False
        self._process: subprocess.Popen[str] | None = self._start(self._settings)
        self._record(online=settings["online"])

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return str(self._settings["run_id"])

    @property
    def is_running(self) -> bool:
        """Whether the other process is there."""
        return self._process is not None and self._process.poll() is None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Do nothing: the other process reads config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Do nothing: the other process reads metrics.csv."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._failed = status == "failed"

    def finish(self) -> None:
        """Let W&B take the rest, for ``finish_timeout_s`` at most, and end the process."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            self._end(process)
        except OSError as error:  # How the training itself ended must not be lost.
            log.warning("W&B failed (%s); metrics.csv has the run", error)

    def _end(self, process: subprocess.Popen[str]) -> None:
        limit_s, online = self._settings["finish_timeout_s"], self._settings["online"]
        deadline = time.monotonic() + limit_s
        status = _finish(
            process,
            exit_code=int(self._failed),
            limit_s=limit_s * ONLINE_SHARE if online else limit_s,
        )
        if status != 0 and online:
            log.warning(
                "W&B did not take all of the run (%s); metrics.csv has it, and so has an offline "
                "run for `wandb sync %s`",
                "no answer" if status is None else self._reason(),
                self._run_dir / "wandb" / f"offline-run-*-{self.version}",
            )
            self._record(online=False)
            copy = self._start({**self._settings, "online": False, "stale_metrics": None})
            # It is local and ends by itself: where the time is up, it may take some more.
            _finish(
                copy, exit_code=int(self._failed), limit_s=deadline - time.monotonic(), kill=False
            )
        elif status != 0:
            log.warning("W&B failed (%s); metrics.csv has the run", self._reason())

    def _start(self, settings: Mapping[str, Any]) -> subprocess.Popen[str]:
        with (self._run_dir / FOLLOWER_LOG).open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "neural_photo_editor.training.wandb_follower"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
                # Ctrl-C and torchrun's signals are for the training, which tells when it ends.
                start_new_session=True,
            )
        assert process.stdin is not None
        _write(process.stdin, json.dumps({**settings, "parent_pid": os.getpid()}))
        return process

    def _record(self, *, online: bool) -> None:
        content = {
            "tracker": "wandb",
            "run_id": self.version,
            "project": self._settings["project"],
            "mode": "online" if online else "offline",
        }
        text = json.dumps(content, indent=2) + "\n"
        write_optional(self._run_dir / TRACKER_FILE, lambda path: path.write_text(text))

    def _reason(self) -> str:
        lines = (self._run_dir / FOLLOWER_LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "no reason given"


def finish_wandb(loggers: Iterable[Logger]) -> None:
    """Close the W&B runs among the loggers, so that the next training starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbTracker):
            logger.finish()


def _check(**limits_s: float) -> None:
    for field, value in limits_s.items():
        if value <= 0:
            raise ValueError(f"logger.wandb.{field} is {value}; give more than 0 seconds")
    if os.environ.get("WANDB_SWEEP_ID") and not os.environ.get("WANDB_API_KEY"):
        raise ValueError(
            "this is a trial of a W&B sweep, which would never hear of it: WANDB_API_KEY is not "
            "set; export it before `wandb agent`, which does not hand on a key that it knows"
        )


def _finish(
    process: subprocess.Popen[str], *, exit_code: int, limit_s: float, kill: bool = True
) -> int | None:
    """Tell a follower that the training has ended; return its status, None where it took longer."""
    assert process.stdin is not None
    _write(process.stdin, str(exit_code))
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(timeout=max(0.0, limit_s))
    except subprocess.TimeoutExpired:
        if kill:
            _kill_tree(process)
        return None


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """Kill the follower and W&B's service, which is in a session of its own."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    process.kill()
    process.wait()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _write(stdin: IO[str], line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # It has ended; its status says more.
        stdin.write(line + "\n")
        stdin.flush()


def _has_wandb() -> bool:
    try:
        return find_spec("wandb") is not None
    except ValueError:  # Its place in sys.modules is taken.
        return False


def _stored_id(run_dir: Path) -> str | None:
    try:
        run_id = json.loads((run_dir / TRACKER_FILE).read_text())["run_id"]
    except (OSError, ValueError, KeyError):
        return None
    return str(run_id)
