"""Judge a bundle by its edits: ``python pipelines/evaluate_edits.py bundle=DIR shards=DIR``."""

import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
import torch
from omegaconf import DictConfig

from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.evaluation.edit_evaluation import evaluate_edits
from neural_photo_editor.evaluation.edit_sweep import EditSweep
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.imaging.compositing import Photo

_log = get_logger(__name__)

BATCH_SIZE = 16


def run(cfg: DictConfig) -> EvaluationResult:
    """Load the bundle and the photos, make the edits and write what was measured.

    Raises:
        ValueError: there is no bundle, there are too few photos, or ``inception_weights`` is no
            file of the network's weights.
    """
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    with ExitStack() as stack:
        folder = _unpacked(Path(cfg.bundle), stack)
        pipeline = EditPipeline.from_bundle(
            folder, device=auto if cfg.device == "auto" else cfg.device
        )
    photos = _photos(cfg)
    if len(photos) < cfg.num_photos + 2:
        raise ValueError(
            f"{len(photos)} held-out photos: give at least num_photos + 2 = {cfg.num_photos + 2}"
        )
    sweep = EditSweep(
        colors=dict(cfg.colors),
        timesteps=list(cfg.timesteps),
        steps=list(cfg.steps),
        sampler=cfg.sampler,
        batch_size=cfg.batch_size,
        seed=cfg.seed,
    )
    result = evaluate_edits(
        pipeline,
        photos[: cfg.num_photos],
        real_photos=photos[cfg.num_photos :],
        sweep=sweep,
        out_dir=Path(cfg.out_dir),
        num_strips=cfg.num_strips,
        inception_weights=cfg.inception_weights and Path(cfg.inception_weights),
    )
    _log.info("edits of %d held-out photos: see %s", result.num_samples, cfg.out_dir)
    return result


def _unpacked(bundle: Path, stack: ExitStack) -> Path:
    """Return a bundle's folder; an archive, or the only one of a folder, is unpacked first."""
    if bundle.is_dir() and not (bundle / "bundle.json").is_file():
        bundle = next(iter(sorted(bundle.glob("*.mar"))), bundle)
    if bundle.is_dir():
        return bundle
    if not zipfile.is_zipfile(bundle):
        raise ValueError(f"{bundle} is no bundle: give an unpacked one's folder or a .mar file")
    folder = Path(stack.enter_context(TemporaryDirectory()))
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def _photos(cfg: DictConfig) -> Sequence[Photo]:
    """Return the photos to edit and after them the real ones to compare with."""
    count = cfg.num_photos + cfg.num_real_photos
    if cfg.shards is None:
        return [
            generate_portrait(cfg.portrait_seed, i, resolution=cfg.resolution).photo
            for i in range(count)
        ]
    datamodule = ShardDataModule(
        shards=cfg.shards, batch_size=BATCH_SIZE, resolution=cfg.resolution
    )
    datamodule.setup()
    batches = islice(datamodule.val_dataloader(), -(-count // BATCH_SIZE))
    photos = [image.numpy() for batch in batches for image in batch["image"].permute(0, 2, 3, 1)]
    return photos[:count]


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate_edits")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        run(cfg)
    except ValueError as error:
        raise SystemExit(f"evaluate_edits: {error}") from error


if __name__ == "__main__":
    main()
