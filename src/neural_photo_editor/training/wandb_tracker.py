"""Weights & Biases as a tracker that can never stop a training."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from neural_photo_editor.common.log import get_logger

log = get_logger(__name__)

TRACKER_FILE = "tracker.json"


def start_wandb(
    *,
    project: str,
    name: str,
    run_dir: str | Path,
    resumed_from: str | None,
    init_timeout_s: float,
) -> WandbLogger | None:
    """Start a W&B run: online with an API key in WANDB_API_KEY, offline without, never a prompt.

    WANDB_MODE, when set, decides instead. If W&B does not start online, it is tried offline; if
    it does not start at all, a warning is logged and training goes on without it. The id of the
    run is kept in ``run_dir/tracker.json`` and used again when the training resumes.

    Args:
        project: W&B's project.
        name: name of the run.
        run_dir: run folder; W&B's files go to its ``wandb`` folder.
        resumed_from: checkpoint the training continues from; then W&B's run continues, too.
        init_timeout_s: longest wait for the server, in seconds.

    Returns:
        The logger; None where W&B is off, not installed, or on processes other than 0.
    """
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return None
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "disabled":
        return None
    if mode == "online" and not _has_key():
        log.warning("WANDB_MODE is online, but WANDB_API_KEY is not set: tracking offline")
        mode = "offline"
    try:
        import wandb
    except ImportError:
        log.warning("wandb is not installed: metrics go to metrics.csv alone")
        return None

    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    run_id = _stored_id(run_dir) if resumed_from else None
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            run = wandb.init(
                project=project,
                name=name,
                dir=str(run_dir),
                id=run_id,
                resume="allow" if attempt == "online" and run_id else None,
                mode="online" if attempt == "online" else "offline",
                settings=wandb.Settings(
                    init_timeout=init_timeout_s,
                    login_timeout=init_timeout_s,
                    finish_timeout=init_timeout_s,
                    console="off",
                    silent=True,
                    disable_git=True,
                    save_code=False,
                ),
            )
        except (wandb.Error, OSError, RuntimeError, ValueError) as error:
            log.warning("W&B did not start %s: %s", attempt, str(error).partition("\n")[0])
            continue
        content = {"tracker": "wandb", "run_id": run.id, "project": project, "mode": attempt}
        (run_dir / TRACKER_FILE).write_text(json.dumps(content, indent=2) + "\n")
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return WandbLogger(project=project, save_dir=run_dir, experiment=run)
    log.warning("training goes on without W&B: metrics go to metrics.csv alone")
    return None


def finish_wandb(loggers: Iterable[Logger]) -> None:
    """Close the W&B runs among the loggers, so that the next training starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _has_key() -> bool:
    return bool(os.environ.get("WANDB_API_KEY"))


def _stored_id(run_dir: Path) -> str | None:
    try:
        run_id = json.loads((run_dir / TRACKER_FILE).read_text())["run_id"]
    except (OSError, ValueError, KeyError):
        return None
    return str(run_id)
