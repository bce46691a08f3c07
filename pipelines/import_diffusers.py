"""Make an artifact of a published denoiser: ``python pipelines/import_diffusers.py folder=DIR``."""

import tempfile
from pathlib import Path

import hydra
import torch
import yaml
from omegaconf import DictConfig

from neural_photo_editor.artifacts.diffusers_folder import (
    DiffusersModel,
    card_license,
    read_diffusers,
)
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.artifacts.mirror import mirror_version
from neural_photo_editor.artifacts.names import check_name
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.evaluation.pictures import save_grid, to_pictures

_log = get_logger(__name__)


def import_diffusers(cfg: DictConfig) -> str:
    """Import a UNet2DModel with its scheduler and return the reference, such as ``ddpm_celeba@1``.

    Raises:
        ValueError: no license is given, a name no artifact can have, or a folder that cannot be
            imported; see `read_diffusers`.
    """
    folder = Path(cfg.folder)
    if not cfg.license:
        said = card_license(folder)
        hint = f"its model card says {said}" if said else "its model card names none"
        raise ValueError(f"license=... is missing: say what the weights are under ({hint})")
    name = check_name(cfg.name)
    model = read_diffusers(folder)
    config = {
        "imported": {"files": model.files, "settings": model.settings},
        # Where evaluate.py looks for the training photos: these are not known.
        "data": {"shards": None, "crop_size": None},
    }
    exported = export_artifact(
        model.network,
        name=name,
        metadata={
            "kind": "denoiser",
            "resolution": model.resolution,
            "schedule": model.schedule.to_spec(),
        },
        config_yaml=yaml.safe_dump(config),
        preview_png=_preview(model, cfg) if cfg.preview_images else None,
        provenance={"licenses": [str(cfg.license)], "source_digest": model.digest},
        metrics={},
        registry=str(cfg.registry),
    )
    mirror_version(str(cfg.registry), name, int(exported.name))
    reference = f"{name}@{exported.name}"
    _log.info(
        "%s is a denoiser of %d x %d pixels with %d timesteps: bundle it with a segmenter of that "
        "resolution",
        reference,
        model.resolution,
        model.resolution,
        model.schedule.num_timesteps,
    )
    return reference


def _preview(model: DiffusersModel, cfg: DictConfig) -> bytes:
    """Return a PNG of images from pure noise."""
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    device = auto if cfg.device == "auto" else cfg.device
    images = sample(
        model.network.to(device),
        shape=(3, model.resolution, model.resolution),
        schedule=model.schedule,
        seeds=range(cfg.preview_images),
        sampler="ddim",
        steps=min(cfg.preview_steps, model.schedule.num_timesteps),
        device=device,
    )
    with tempfile.TemporaryDirectory() as scratch:
        return save_grid([to_pictures(images)], Path(scratch, "preview.png")).read_bytes()


@hydra.main(version_base="1.3", config_path="../conf", config_name="import_diffusers")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        import_diffusers(cfg)
    except ValueError as error:
        raise SystemExit(f"import_diffusers: {error}") from error


if __name__ == "__main__":
    main()
