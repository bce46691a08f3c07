"""Train one network: ``python pipelines/train.py experiment=ddpm_128 data.shards=DIR``."""

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neural_photo_editor.common.batch_split import BatchSplit
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.data.origin import ORIGIN_NAME, read_origin, record_origin
from neural_photo_editor.data.region_shares import region_shares
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.training import resume, run_settings
from neural_photo_editor.training.accumulation import PassesPerStep
from neural_photo_editor.training.configured_rates import ConfiguredRates
from neural_photo_editor.training.curves import draw_curves
from neural_photo_editor.training.exit_codes import NONFINITE
from neural_photo_editor.training.launchers import become_torchrun, needs_torchrun
from neural_photo_editor.training.metrics_csv import best_value
from neural_photo_editor.training.portrait_module import PortraitModule
from neural_photo_editor.training.preemption import exit_on_signals
from neural_photo_editor.training.same_run import SameRun
from neural_photo_editor.training.strategies import leave_group_at_exit
from neural_photo_editor.training.wandb_tracker import finish_wandb

_log = get_logger(__name__)


class Run(NamedTuple):
    """Everything a training needs, made and checked before the first step."""

    config: dict[str, Any]
    module: PortraitModule
    datamodule: LightningDataModule
    trainer: Trainer


def prepare(cfg: DictConfig) -> Run | None:
    """Make a run; save its configuration, every "auto" resolved, and its origin in its folder.

    None: it was finished before, and nothing is left to do.

    Raises ValueError, or an error of OmegaConf, Hydra or Lightning, naming the field.
    """
    run_settings.quiet_lightning()
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    run_settings.check_trainer(settings["trainer"])
    run_dir, strict = Path(cfg.run_dir), settings["ckpt_path"] == "auto"
    cfg.ckpt_path, cfg.trainer = run_settings.resolve_auto(
        settings["trainer"], ckpt_path=settings["ckpt_path"], run_dir=run_dir
    )
    seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    datamodule = instantiate(cfg.data)
    if cfg.module.get("class_balance") and cfg.module.region_shares is None:
        cfg.module.region_shares = region_shares(datamodule.reader)
    module = instantiate(cfg.module)
    split = run_settings.split_for_devices(cfg.trainer, settings["data"], module=module)
    run_settings.check_parts(module, datamodule)
    run_settings.adapt_networks(
        module, compiled=cfg.compile, activation_checkpointing=cfg.activation_checkpointing
    )
    resolved = OmegaConf.to_container(cfg, resolve=True)
    if rank_zero_only.rank == 0 and cfg.ckpt_path is not None:
        resume.check_settings(resolved, run_dir, strict=strict)
        if strict and (run_dir / ORIGIN_NAME).is_file():
            read_origin(run_dir, datamodule.manifest)
    if resume.is_finished(cfg.ckpt_path, max_steps=cfg.trainer.max_steps, run_dir=run_dir):
        return None
    trainer = run_settings.make_trainer(
        **run_settings.trainer_arguments(
            resolved["trainer"],
            module=module,
            split=split,
            collective_timeout_s=cfg.collective_timeout_s,
        ),
        callbacks=[
            SameRun({**resolved, "manifest": datamodule.manifest.digest}),
            PassesPerStep(),
            ConfiguredRates(),
            *make_all(cfg.callbacks),
        ],
        logger=False,
        default_root_dir=run_dir,
    )
    if rank_zero_only.rank == 0:  # Nothing is touched before all settings have been found good.
        _log_split(split, cfg)
        _begin(run_dir, cfg, datamodule.manifest)
    trainer.loggers = make_all(cfg.logger)
    return Run(resolved, module, datamodule, trainer)


def make_all(group: DictConfig) -> list[Any]:
    """Make the objects of a configuration's group; one set to null is left out."""
    return [made for config in group.values() if (made := instantiate(config)) is not None]


def fit(run: Run) -> Path:
    """Train a prepared run to its end and return the run folder."""
    trainer, run_dir = run.trainer, Path(run.config["run_dir"])
    try:
        for logger in trainer.loggers:
            logger.log_hyperparams(run.config)
        ckpt_path = run.config["ckpt_path"]
        trainer.fit(run.module, run.datamodule, ckpt_path=ckpt_path, weights_only=True)
        if trainer.is_global_zero:
            draw_curves(run_dir / "metrics.csv", run_dir / "curves.png", title=run.config["name"])
    finally:
        finish_wandb(trainer.loggers)
    return run_dir


def train(cfg: DictConfig) -> Path:
    """Train as configured and return the run folder, with ``checkpoints/last.ckpt`` in it."""
    run = prepare(cfg)
    return Path(cfg.run_dir) if run is None else fit(run)


def _begin(run_dir: Path, cfg: DictConfig, manifest: ShardManifest) -> None:
    """Make the run folder; write what the run is and where it comes from."""
    run_dir.mkdir(parents=True, exist_ok=True)
    if cfg.ckpt_path is None:
        resume.remove_checkpoints(run_dir)
    partial = run_dir / "config.yaml.partial"
    OmegaConf.save(cfg, partial, resolve=True)
    partial.replace(run_dir / "config.yaml")
    record_origin(run_dir, manifest, git_commit=_git_commit(), ckpt_path=cfg.ckpt_path)


def _log_split(split: BatchSplit, cfg: DictConfig) -> None:
    _log.info(
        "%s: a step is %d samples = %d node(s) x %d device(s) x %d samples x %d pass(es)",
        cfg.name,
        cfg.data.batch_size,
        cfg.trainer.num_nodes,
        cfg.trainer.devices,
        split.per_device,
        split.accumulation,
    )


def _git_commit() -> str | None:
    """Return the commit of this checkout, with "-dirty" after changes, or the one that an image
    was built of, NPE_GIT_COMMIT; None where neither is known.
    """
    built_of = os.environ.get("NPE_GIT_COMMIT") or None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return built_of
    return done.stdout.strip() or built_of


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> float:
    """Train; return the best value of the monitored metric, by which sweeps compare trials."""
    configure_logging()
    exit_on_signals()
    leave_group_at_exit()
    try:
        run = prepare(cfg)
    except (ValueError, OmegaConfBaseException, HydraException, MisconfigurationException) as error:
        _log.error("configuration error: %s", error)
        raise SystemExit(os.EX_CONFIG) from None
    if run is not None:
        try:
            fit(run)
        except SystemExit as ended:
            if ended.code == NONFINITE and HydraConfig.get().mode is RunMode.MULTIRUN:
                # Hydra would end all trials with this one.
                raise RuntimeError("losses stay NaN or infinite") from None
            raise
    metrics = Path(cfg.run_dir) / "metrics.csv"
    return best_value(metrics, cfg.monitor.metric, mode=cfg.monitor.mode)


if __name__ == "__main__":
    if needs_torchrun():
        become_torchrun()
    main()
