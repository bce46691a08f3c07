"""The stages from photos to a bundle, each one of the other pipelines with its configuration."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.common.stages import Stage
from pipelines.bundle import SERVED_FILES, bundle
from pipelines.evaluate import evaluate
from pipelines.export import export
from pipelines.prepare_shards import prepare_shards
from pipelines.train import train

CONF = Path(__file__).resolve().parents[1] / "conf"
ARCHIVE = Path("bundle") / "neural_photo_editor.mar"


def build_stages(preset: DictConfig, out: Path) -> list[Stage]:
    """Turn a preset (conf/preset) into stages that write below ``out``.

    Raises:
        ValueError: a preset without one of the three kinds.
    """
    if set(preset.train) != {"denoiser", "segmenter", "upscaler"}:
        raise ValueError("preset.train names exactly a denoiser, a segmenter and an upscaler")
    runs = run_folders(preset, out)
    registry = f"registry={out / 'registry'}"
    stages = []
    for name, overrides in preset.shards.items():
        folder = out / "data" / name
        stages.append(
            _stage(
                f"prepare {name}",
                prepare_shards,
                [*overrides, f"out_dir={folder}", "overwrite=true"],
                output=folder / "manifest.json",
            )
        )
    stages += [_train_stage(kind, preset, out) for kind in ("segmenter", "denoiser", "upscaler")]
    for kind, run_dir in runs.items():
        stages.append(
            _stage(
                f"evaluate {kind}",
                evaluate,
                [f"run_dir={run_dir}", *preset.evaluate],
                inputs=(f"train {kind}",),
                output=run_dir / "evaluation" / "metrics.json",
            )
        )
    for kind, run_dir in runs.items():
        stages.append(
            _stage(
                f"export {kind}",
                export,
                [f"run_dir={run_dir}", registry],
                inputs=(f"train {kind}", f"evaluate {kind}"),
                output=run_dir / "artifact.json",
            )
        )

    def name_artifacts(cfg: DictConfig, continued: bool) -> None:  # noqa: ARG001
        for kind, run_dir in runs.items():
            cfg[kind] = json.loads((run_dir / "artifact.json").read_text())["reference"]

    stages.append(
        _stage(
            "bundle",
            bundle,
            [registry, f"out_dir={out / ARCHIVE.parent}", *preset.bundle]
            + [f"{kind}=named-by-the-export" for kind in runs],
            inputs=tuple(f"export {kind}" for kind in runs),
            output=out / ARCHIVE,
            files=SERVED_FILES,
            before=name_artifacts,
        )
    )
    return stages


def run_folders(preset: DictConfig, out: Path) -> dict[str, Path]:
    """Return the training run's folder of each kind."""
    return {kind: out / "runs" / part.experiment for kind, part in preset.train.items()}


def _train_stage(kind: str, preset: DictConfig, out: Path) -> Stage:
    part, runs = preset.train[kind], run_folders(preset, out)
    overrides = [f"experiment={part.experiment}", f"run_dir={runs[kind]}"]
    overrides += [f"data.shards={out / 'data' / part.shards}"]
    inputs: tuple[str, ...] = (f"prepare {part.shards}",)
    if kind == "upscaler":  # Its perceptual distance is made of the segmenter.
        checkpoint = runs["segmenter"] / "checkpoints" / "last.ckpt"
        overrides.append(f"module.perceptual.segmenter_checkpoint={checkpoint}")
        inputs += ("train segmenter",)
    return _stage(
        f"train {kind}",
        train,
        [*overrides, *part.overrides],
        inputs=inputs,
        output=runs[kind] / "checkpoints" / "last.ckpt",
        before=_prepare_run_folder,
    )


def _prepare_run_folder(cfg: DictConfig, continued: bool) -> None:
    """Leave a stopped attempt's checkpoints to be continued from; remove any other run's files."""
    if not continued:
        shutil.rmtree(cfg.run_dir, ignore_errors=True)


def _stage(
    name: str,
    pipeline: Callable[[DictConfig], object],
    overrides: Sequence[str],
    *,
    output: Path,
    inputs: tuple[str, ...] = (),
    files: Sequence[Path] = (),
    before: Callable[[DictConfig, bool], None] | None = None,
) -> Stage:
    """Make a stage of a pipeline's function; its configuration is named like the function."""
    cfg = compose(pipeline.__name__, overrides)
    settings: dict[str, Any] = {
        "configuration": OmegaConf.to_container(cfg, resolve=True),
        "files": {file.name: sha256_file(file) for file in files},
    }

    def run(continued: bool) -> None:
        if before is not None:
            before(cfg, continued)
        pipeline(cfg)

    return Stage(name, settings, inputs, (output,), run)


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a pipeline's configuration, also inside another pipeline."""
    GlobalHydra.instance().clear()  # Inside hydra.main there is one already.
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(config_name, list(overrides))
