"""Measure FID and KID of a denoiser: ``torchrun pipelines/evaluate_samples.py run_dir=DIR``."""

from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.artifacts.spec import WEIGHTS_NAME
from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.data.storage import ShardStorage
from neural_photo_editor.evaluation.processes import device_of, joined_processes
from neural_photo_editor.evaluation.sample_protocol import SampleQuality, compare
from neural_photo_editor.evaluation.sample_quality import SamplePlan, evaluate_samples
from neural_photo_editor.evaluation.sample_references import (
    FeatureView,
    References,
    inception_view,
    segmenter_view,
)
from neural_photo_editor.evaluation.trained_network import (
    TrainedNetwork,
    from_artifact,
    from_checkpoint,
)

_log = get_logger(__name__)


class _Source(NamedTuple):
    """A network, the file of its weights, and the folder with its training's config.yaml."""

    trained: TrainedNetwork
    weights_file: Path
    folder: Path


def run(cfg: DictConfig) -> SampleQuality:
    """Draw, measure and write the result; process 0 returns what all of them measured.

    Raises:
        ValueError: a field is missing or does not fit, or there are too few photos or samples.
    """
    source = _load(cfg.run_dir, cfg.artifact, cfg)
    if source.trained.metadata["kind"] != "denoiser":
        raise ValueError(f"this is a {source.trained.metadata['kind']}: only a denoiser draws")
    if cfg.artifact and not cfg.out_dir:
        raise ValueError("an artifact's folder is not written to: give out_dir=DIR")
    # Of the configuration only values are used: an artifact's file must not run code.
    data = OmegaConf.load(source.folder / "config.yaml").data
    if not (cfg.references.shards or data.shards):
        raise ValueError("imported weights come without photos: give references.shards=DIR")
    device = device_of(cfg.device)
    with joined_processes() as processes:
        result = evaluate_samples(
            source.trained,
            references=References(
                ShardStorage(cfg.references.shards or data.shards),
                split=cfg.references.split,
                count=cfg.references.count,
                resolution=source.trained.metadata["resolution"],
                crop_size=data.crop_size,
            ),
            view=_view(cfg, device),
            plan=SamplePlan(**cfg.samples),
            processes=processes,
            model={
                "name": cfg.artifact or str(cfg.run_dir),
                "weights_sha256": sha256_file(source.weights_file),
                "schedule": source.trained.metadata["schedule"],
            },
            out_dir=Path(cfg.out_dir) if cfg.out_dir else source.folder / "sample_quality",
            device=device,
            batch_size=cfg.batch_size,
            min_samples=cfg.min_samples,
        )
    text = ", ".join(f"{name} {value:.5g}" for name, value in result.metrics.items())
    _log.info("%d samples: %s", cfg.samples.num_samples, text)
    return result


def _view(cfg: DictConfig, device: torch.device) -> FeatureView:
    inception, segmenter = cfg.features.inception_weights, cfg.features.segmenter
    if (inception is None) == (segmenter is None):
        raise ValueError(
            "give either features.inception_weights=FILE, see docs/weights.md, or "
            "features.segmenter=NAME@VERSION (or a run's folder)"
        )
    if inception is not None:
        return inception_view(Path(inception), device=device)
    artifact = segmenter if "@" in segmenter else None
    source = _load(None if artifact else segmenter, artifact, cfg)
    side = source.trained.metadata["resolution"]
    return segmenter_view(source.trained.network, source.weights_file, side=side, device=device)


def _load(run_dir: str | None, artifact: str | None, cfg: DictConfig) -> _Source:
    if (run_dir is None) == (artifact is None):
        raise ValueError("give either run_dir=DIR or artifact=NAME@VERSION")
    if run_dir is not None:
        folder = Path(run_dir)
        file = folder / "checkpoints" / cfg.checkpoint
        return _Source(from_checkpoint(file), file, folder)
    folder = resolve(str(cfg.registry), artifact)
    return _Source(from_artifact(folder), folder / WEIGHTS_NAME, folder)


def compare_results(paths: Any) -> str:
    """Return a table of result files (or their folders); refuses those of two protocols."""
    return compare({str(path): SampleQuality.load(Path(path)) for path in paths})


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate_samples")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        if cfg.compare:
            _log.info("\n%s", compare_results(cfg.compare))
        else:
            run(cfg)
    except ValueError as error:
        raise SystemExit(f"evaluate_samples: {error}") from error


if __name__ == "__main__":
    main()
