"""Write a denoiser as diffusers' DDPMPipeline: ``python pipelines/export_diffusers.py ...``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from neural_photo_editor.artifacts.diffusers_folder import write_diffusers
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.common.log import configure_logging, get_logger

_log = get_logger(__name__)


def export_diffusers(cfg: DictConfig) -> Path:
    """Write the artifact into a new folder and return the folder.

    Raises:
        ValueError: an unknown artifact, or one that diffusers has no counterpart for; see
            `write_diffusers`.
    """
    source = resolve(str(cfg.registry), cfg.artifact)
    artifact = load_artifact(source)
    reference = f"{artifact.spec.name}@{source.name}"
    write_diffusers(artifact, Path(cfg.folder), reference=reference)
    _log.info("wrote %s for DDPMPipeline.from_pretrained(%r)", reference, cfg.folder)
    return Path(cfg.folder)


@hydra.main(version_base="1.3", config_path="../conf", config_name="export_diffusers")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        export_diffusers(cfg)
    except ValueError as error:
        raise SystemExit(f"export_diffusers: {error}") from error


if __name__ == "__main__":
    main()
