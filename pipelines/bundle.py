"""Pack three artifacts into one TorchServe archive: ``python pipelines/bundle.py denoiser=...``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from neural_photo_editor.artifacts.archive import publish_bundle
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.bundle_spec import MODEL_NAME
from neural_photo_editor.artifacts.mirror import mirror_version
from neural_photo_editor.common.log import configure_logging

SERVE = Path(__file__).resolve().parents[1] / "serve"
SERVED_FILES = (SERVE / "handler.py", SERVE / "model-config.yaml")
"""The handler and its configuration, which travel in the archive."""


def bundle(cfg: DictConfig) -> Path:
    """Write ``out_dir/neural_photo_editor.mar``, publish it too, and return its path.

    Raises:
        ValueError: a default out of range, an unknown artifact, or parts that do not fit together.
        RuntimeError: the archiver failed.
    """
    try:
        defaults = ServingDefaults.model_validate(OmegaConf.to_container(cfg.serving))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"serving.{first['loc'][0]}: {first['msg']}") from error
    handler, model_config = SERVED_FILES
    archive = build_bundle(
        str(cfg.registry),
        denoiser=cfg.denoiser,
        segmenter=cfg.segmenter,
        upscaler=cfg.upscaler,
        defaults=defaults,
        handler=handler,
        model_config=model_config,
        out_dir=Path(cfg.out_dir),
    )
    version = publish_bundle(str(cfg.registry), archive)
    mirror_version(str(cfg.registry), MODEL_NAME, version)
    return archive


@hydra.main(version_base="1.3", config_path="../conf", config_name="bundle")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        bundle(cfg)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"bundle: {error}") from error


if __name__ == "__main__":
    main()
