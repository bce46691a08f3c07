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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import requests

from neural_photo_editor.training.wandb_copy import Copy, say

POLL_S = 2.0
ANSWER_S = 5.0
"""Longest wait for the server's answer before W&B's client is started at all."""

FIRST_RETRY_S, LAST_RETRY_S = 10.0, 600.0
OFFLINE_FINISH_S = 60.0
"""Time to write an offline run; nothing but the disk can slow that."""

DEFAULT_URL = "https://api.wandb.ai"


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


def follow(settings: Mapping[str, Any], watch: TrainingWatch) -> None:
    """Copy the run until the training ends.

    Raises:
        Exception: of any kind; W&B does not have all of the run.
    """
    run = _connect(settings, watch) if settings["online"] else _init(settings)
    copy = Copy(run, settings)
    while not watch.wait(POLL_S):
        try:
            copy.update()
            copy.log_checkpoints()
        except OSError as error:  # The folder may be on a network; there is a next time.
            say(f"the run folder could not be read: {error}")
    copy.finish(watch.exit_code)
    if settings["online"] and (missing := copy.next_step - _rows_on_server(run)) > 0:
        raise RuntimeError(f"the server does not have {missing} of the rows")
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
        say(f"W&B cannot be reached, trying again in {pause_s:.0f} s: {reason}")
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


def _rows_on_server(run: Any) -> int:
    query = (
        "query Rows($project: String, $entity: String, $name: String!) { model(name: $project, "
        "entityName: $entity) { bucket(name: $name, missingOk: true) { historyLineCount } } }"
    )
    variables = {"project": run.project, "entity": run.entity, "name": run.id}
    return int(_ask(query, variables)["model"]["bucket"]["historyLineCount"])


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


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _exit(status: int, reason: str = "") -> NoReturn:
    """End without waiting for W&B's service at exit: it ends with this process, and may hang."""
    if reason:
        say(reason)
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
