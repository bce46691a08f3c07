"""Print a search space of conf/sweep as a W&B sweep.

Run ``python pipelines/wandb_sweep.py experiment=segmenter_128 sweep=segmenter data.shards=DIR``
(what ``python pipelines/train.py -m`` takes) and put what it prints into ``sweep.yaml``; then
``wandb sweep sweep.yaml`` and, on as many machines as there are, ``wandb agent ID``.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"
RUN_DIR = "run_dir=outputs/sweeps/${name}/${oc.env:WANDB_RUN_ID}"
"""W&B names each trial's run; the training writes it into a folder of that name."""


def wandb_sweep(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the sweep of a configuration with a search space.

    Args:
        overrides: those of the training, with ``sweep=NAME``.

    Raises:
        ValueError: no search space was chosen.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    space = OmegaConf.select(cfg, "hydra.sweeper.space", throw_on_missing=False)
    if not space:
        raise ValueError("choose a search space with sweep=NAME; conf/sweep has them")
    return {
        "name": cfg.name,
        "method": "bayes",
        "metric": {
            "name": cfg.monitor.metric,
            "goal": {"min": "minimize", "max": "maximize"}[cfg.monitor.mode],
        },
        "run_cap": cfg.hydra.sweeper.trials,
        "program": "pipelines/train.py",
        "command": ["${env}", "python", "${program}", *overrides, RUN_DIR, "${args_no_hyphens}"],
        "parameters": {name: _parameter(range_) for name, range_ in _plain(space).items()},
    }


def _plain(space: DictConfig) -> dict[str, Mapping[str, Any]]:
    plain: dict[str, Mapping[str, Any]] = OmegaConf.to_container(space, resolve=True)
    return plain


def _parameter(range_: Mapping[str, Any]) -> dict[str, Any]:
    """Write a range in W&B's words."""
    if "choices" in range_:
        return {"values": list(range_["choices"])}
    low, high = range_["low"], range_["high"]
    kind = "log_uniform_values" if range_.get("log") else "uniform"
    bounds: dict[str, Any] = {"min": low, "max": high}
    if isinstance(low, int) and isinstance(high, int):
        kind = "q_log_uniform_values" if range_.get("log") else "int_uniform"
    if range_.get("step"):
        kind, bounds["q"] = "q_uniform", range_["step"]
    return {"distribution": kind, **bounds}


def main() -> None:
    try:
        sweep = wandb_sweep(sys.argv[1:])
    except (ValueError, HydraException) as error:
        raise SystemExit(f"wandb_sweep: {error}") from error
    sys.stdout.write(yaml.safe_dump(sweep, sort_keys=False))


if __name__ == "__main__":
    main()
