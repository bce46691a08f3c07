"""From photos to a bundle: ``python pipelines/run_all.py preset=demo``; continues where it was."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

# A script finds modules in its own folder only: the other pipelines are found from the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from neural_photo_editor.common.log import configure_logging
from neural_photo_editor.common.stages import StageRecord, run_stages
from pipelines.chain import build_stages


def run_all(cfg: DictConfig) -> dict[str, StageRecord]:
    """Run the chain of ``cfg.preset`` in ``cfg.out_dir`` and return each stage's record."""
    out = Path(cfg.out_dir)
    return run_stages(build_stages(cfg.preset, out), state_dir=out / "state", force=cfg.force)


@hydra.main(version_base="1.3", config_path="../conf", config_name="run_all")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        run_all(cfg)
    except ValueError as error:
        raise SystemExit(f"run_all: {error}") from error


if __name__ == "__main__":
    main()
