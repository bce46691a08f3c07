"""Judge a network on held-out photos: ``python pipelines/evaluate.py run_dir=DIR``."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.evaluation.denoiser import evaluate_denoiser
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.held_out import Batches, first_samples
from neural_photo_editor.evaluation.segmenter import evaluate_segmenter
from neural_photo_editor.evaluation.trained_network import (
    TrainedNetwork,
    from_artifact,
    from_checkpoint,
)
from neural_photo_editor.evaluation.upscaler import evaluate_upscaler
from neural_photo_editor.training.perceptual import make_segmenter

_log = get_logger(__name__)

_SETTINGS = {
    "denoiser": ["sampling_steps", "seed"],
    "segmenter": ["test_time_flip"],
    "upscaler": ["degradation", "segmenter_checkpoint", "seed"],
}
"""What each kind's metrics and pictures depend on, beside the photos."""


def evaluate(cfg: DictConfig) -> EvaluationResult:
    """Measure the run's or the artifact's network and write metrics and pictures.

    Raises:
        ValueError: neither or both of run_dir and artifact, or something they need is absent.
    """
    trained, folder = _load(cfg)
    # Of the configuration only values are used: an artifact's file must not run code.
    data = OmegaConf.load(folder / "config.yaml").data
    if not (cfg.shards or data.shards):
        raise ValueError("imported weights come without photos: give shards=DIR")
    kind = trained.metadata["kind"]
    datamodule = ShardDataModule(
        shards=cfg.shards or data.shards,
        batch_size=cfg.batch_size,
        resolution=trained.metadata["resolution"],
        crop_size=data.crop_size,
        require_labels=kind == "segmenter",
    )
    datamodule.setup()
    settings = OmegaConf.to_container(OmegaConf.masked_copy(cfg, _SETTINGS[kind]), resolve=True)
    settings = {
        **cast(dict[str, Any], settings),
        "max_samples": cfg.max_samples,
        "data_name": datamodule.manifest.name,
        "data_manifest_digest": datamodule.manifest.digest,
    }
    out_dir = Path(cfg.out_dir) if cfg.out_dir else folder / "evaluation"
    network_sha256 = trained.sha256()
    batches = first_samples(datamodule.val_dataloader(), cfg.max_samples)
    measured = _measure(cfg, trained, batches, out_dir)
    result = replace(measured, network_sha256=network_sha256, settings=settings)
    result.save(out_dir)
    text = ", ".join(f"{k} {value:.4g}" for k, value in result.metrics.items() if "/" not in k)
    _log.info("%s on %d held-out photos: %s", kind, result.num_samples, text)
    return result


def _measure(
    cfg: DictConfig, trained: TrainedNetwork, batches: Batches, out_dir: Path
) -> EvaluationResult:
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    shared: dict[str, Any] = {
        "out_dir": out_dir,
        "num_images": cfg.num_images,
        "device": auto if cfg.device == "auto" else cfg.device,
    }
    if trained.metadata["kind"] == "denoiser":
        return evaluate_denoiser(
            trained.network,
            batches,
            schedule=NoiseSchedule.from_spec(trained.metadata["schedule"]),
            sampling_steps={name: steps for name, steps in cfg.sampling_steps.items() if steps},
            seed=cfg.seed,
            **shared,
        )
    if trained.metadata["kind"] == "segmenter":
        flip = cfg.test_time_flip
        return evaluate_segmenter(trained.network, batches, test_time_flip=flip, **shared)
    if cfg.segmenter_checkpoint and not Path(cfg.segmenter_checkpoint).is_file():
        raise ValueError(f"segmenter_checkpoint: there is no file {cfg.segmenter_checkpoint}")
    return evaluate_upscaler(
        trained.network,
        batches,
        scale=trained.metadata["scale"],
        degradation=instantiate(cfg.degradation),
        segmenter=make_segmenter(cfg.segmenter_checkpoint),
        seed=cfg.seed,
        **shared,
    )


def _load(cfg: DictConfig) -> tuple[TrainedNetwork, Path]:
    if (cfg.run_dir is None) == (cfg.artifact is None):
        raise ValueError("give either run_dir=DIR or artifact=NAME@VERSION")
    if cfg.run_dir is not None:
        run_dir = Path(cfg.run_dir)
        return from_checkpoint(run_dir / "checkpoints" / cfg.checkpoint), run_dir
    if cfg.out_dir is None:
        raise ValueError("an artifact's folder is not written to: give out_dir=DIR")
    folder = resolve(str(cfg.registry), cfg.artifact)
    return from_artifact(folder), folder


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        evaluate(cfg)
    except ValueError as error:
        raise SystemExit(f"evaluate: {error}") from error


if __name__ == "__main__":
    main()
