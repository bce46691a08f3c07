"""Judge a network on held-out photos: ``python pipelines/evaluate.py run_dir=DIR``."""

from pathlib import Path
from typing import Any

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
from neural_photo_editor.evaluation.held_out import first_samples
from neural_photo_editor.evaluation.segmenter import evaluate_segmenter
from neural_photo_editor.evaluation.trained_network import (
    TrainedNetwork,
    from_artifact,
    from_checkpoint,
)
from neural_photo_editor.evaluation.upscaler import evaluate_upscaler
from neural_photo_editor.training.perceptual import make_segmenter

_log = get_logger(__name__)


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
    batches = first_samples(datamodule.val_dataloader(), cfg.max_samples)
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    shared: dict[str, Any] = {
        "out_dir": Path(cfg.out_dir) if cfg.out_dir else folder / "evaluation",
        "num_images": cfg.num_images,
        "device": auto if cfg.device == "auto" else cfg.device,
    }
    if kind == "denoiser":
        result = evaluate_denoiser(
            trained.network,
            batches,
            schedule=NoiseSchedule.from_spec(trained.metadata["schedule"]),
            sampling_steps={name: steps for name, steps in cfg.sampling_steps.items() if steps},
            seed=cfg.seed,
            **shared,
        )
    elif kind == "segmenter":
        result = evaluate_segmenter(
            trained.network, batches, test_time_flip=cfg.test_time_flip, **shared
        )
    else:
        if cfg.segmenter_checkpoint and not Path(cfg.segmenter_checkpoint).is_file():
            raise ValueError(f"segmenter_checkpoint: there is no file {cfg.segmenter_checkpoint}")
        result = evaluate_upscaler(
            trained.network,
            batches,
            scale=trained.metadata["scale"],
            degradation=instantiate(cfg.degradation),
            segmenter=make_segmenter(cfg.segmenter_checkpoint),
            seed=cfg.seed,
            **shared,
        )
    text = ", ".join(f"{k} {value:.4g}" for k, value in result.metrics.items() if "/" not in k)
    _log.info("%s on %d held-out photos: %s", kind, result.num_samples, text)
    return result


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


@hydra.main(version_base=None, config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        evaluate(cfg)
    except ValueError as error:
        raise SystemExit(f"evaluate: {error}") from error


if __name__ == "__main__":
    main()
