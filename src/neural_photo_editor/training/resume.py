"""Whether a run that was started again goes on, from where, and with which settings."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.training.checkpoint import is_whole, read_checkpoint
from neural_photo_editor.training.last_checkpoint import kept_checkpoints

_log = get_logger(__name__)

COMPARED = ("data", "module", "seed")
FREE = {
    "data.shards",  # A path; the manifest's digest is compared instead.
    "data.num_workers",
    "data.max_batch_per_device",
    "data.on_damage",
    "data.cache_dir",
    "data.cache_bytes",
    "module.channels_last",
    "module.sample_steps",
    "module.num_samples",
}
"""Settings that change neither what is learned nor from what."""
TUNED = re.compile(r"optimizer|lr_scheduler|gradient_clip_norm|_weight$")
"""Names of settings that may be changed on purpose while a run goes on, but for classes: another
optimizer has another state."""


def checkpoint_to_continue(run_dir: Path) -> Path | None:
    """Return ``last.ckpt``, the newest good older one if that is damaged, None if there is none.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    folder = run_dir / "checkpoints"
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    candidates = [path for path in (last, *kept_checkpoints(folder), best) if path.is_file()]
    for path in candidates:
        if is_whole(path):
            if path != last:
                _log.warning(
                    "%s is damaged or gone: going on from %s, of step %d",
                    last,
                    path.name,
                    read_checkpoint(path)["global_step"],
                )
            return path
    if candidates:
        raise ValueError(
            f"ckpt_path: no checkpoint in {folder} can be read: put a good copy there, or set "
            "ckpt_path=null to start anew"
        )
    return None


def is_finished(checkpoint: str | Path | None, *, max_steps: int, run_dir: Path) -> bool:
    """Whether a run's checkpoint is of the last step, so that training has nothing left to do.

    Raises:
        ValueError: the checkpoint is another run's, so that nothing would be trained.
    """
    if checkpoint is None:
        return False
    step: int = read_checkpoint(Path(checkpoint))["global_step"]
    if step < max_steps:
        return False
    if Path(checkpoint).resolve().parent != (run_dir / "checkpoints").resolve():
        raise ValueError(
            f"ckpt_path: {checkpoint} is of step {step}, and trainer.max_steps {max_steps} "
            f"counts its steps, too: set trainer.max_steps above {step}"
        )
    _log.info(
        "finished before: %s is of step %d; raise trainer.max_steps to go on, or set "
        "ckpt_path=null to start anew",
        checkpoint,
        step,
    )
    return True


def check_settings(config: Mapping[str, Any], run_dir: Path, *, strict: bool) -> None:
    """Compare a configuration with the one that the run was trained with so far.

    Args:
        config: the resolved configuration.
        run_dir: the run folder, whose ``config.yaml`` has the former one.
        strict: refuse what would make another training; otherwise only warn.

    Raises:
        ValueError: the settings differ in what matters; the message names them.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        return
    try:
        saved = yaml.safe_load(path.read_text())
    except yaml.YAMLError:
        saved = None
    if not isinstance(saved, Mapping):
        return  # It was being written when the run was killed.
    former, now = dict(_settings(saved)), dict(_settings(config))
    # A setting that is null, absent, or a group of others on one side only is compared as null.
    names = dict.fromkeys([*former, *now])
    changed = [name for name in names if former.get(name) != now.get(name)]
    texts = {name: f"{name}: {former.get(name)!r} -> {now.get(name)!r}" for name in changed}
    refused = [name for name in changed if name.endswith("_target_") or not TUNED.search(name)]
    if strict and refused:
        differences = "; ".join(texts[name] for name in refused)
        raise ValueError(
            f"{run_dir} holds a run with other settings: {differences}. "
            "Choose another name or run_dir, put the settings back, continue anyway with "
            "ckpt_path=FILE, or start anew with ckpt_path=null"
        )
    for name in changed:
        _log.warning("the run goes on with another setting: %s", texts[name])


def remove_checkpoints(run_dir: Path) -> None:
    """Remove what an earlier run left, so that a restart cannot go on from it."""
    for path in (run_dir / "checkpoints").glob("*.ckpt"):
        _log.info("starting anew: removing %s", path)
        path.unlink()


def _settings(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of the settings that are compared."""
    if not prefix:
        value = {name: value[name] for name in COMPARED if name in value}
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _settings(child, f"{prefix}.{name}" if prefix else str(name))
    elif prefix not in FREE:
        yield prefix, value
