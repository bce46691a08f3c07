"""The whole chain, from nothing to a bundle, and its second call."""

import shutil
import zipfile
from pathlib import Path

import pytest
from omegaconf import DictConfig

import pipelines.chain
from neural_photo_editor.artifacts.bundle import load_bundle
from pipelines.chain import ARCHIVE, build_stages, compose
from pipelines.run_all import run_all


def _compose(out: Path, *overrides: str) -> DictConfig:
    return compose("run_all", ["preset=tiny", f"out_dir={out}", *overrides])


@pytest.mark.parametrize("preset", ["demo", "full"])
def test_every_preset_composes(preset: str) -> None:
    photos = ["preset.photos=a", "preset.labels=b"] if preset == "full" else []
    cfg = compose("run_all", [f"preset={preset}", *photos])
    names = [stage.name for stage in build_stages(cfg.preset, Path(cfg.out_dir))]
    assert len(names) == 12
    assert names[-1] == "bundle"
    assert names.index("train segmenter") < names.index("train upscaler")


@pytest.mark.slow
def test_the_chain_makes_a_bundle_and_continues_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("WANDB_MODE", "disabled")

    # Stopped in the middle, as by Ctrl-C.
    def evaluate(cfg: DictConfig) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(pipelines.chain, "evaluate", evaluate)
        with pytest.raises(KeyboardInterrupt):
            run_all(_compose(out))
    checkpoint = out / "runs/demo_ddpm/checkpoints/last.ckpt"
    trained = checkpoint.stat().st_mtime_ns

    # Continued: nothing is trained twice.
    first = run_all(_compose(out))
    assert checkpoint.stat().st_mtime_ns == trained
    with zipfile.ZipFile(out / ARCHIVE) as file:
        file.extractall(tmp_path / "unpacked")
    bundle = load_bundle(tmp_path / "unpacked")
    assert bundle.spec.parts["denoiser"].name == "demo_ddpm"
    assert bundle.defaults.steps == 2
    assert (bundle.denoiser.spec.resolution, bundle.upscaler.spec.scale) == (32, 4)
    for artifact in (bundle.denoiser, bundle.segmenter, bundle.upscaler):
        assert artifact.spec.metrics  # Of the evaluation just before the export.
    for name in ("samples.png", "metrics.json"):
        assert (out / "runs/demo_ddpm/evaluation" / name).is_file()

    # Called again: nothing happens.
    archive = (out / ARCHIVE).stat().st_mtime_ns
    assert run_all(_compose(out)) == first
    assert (out / ARCHIVE).stat().st_mtime_ns == archive

    # Another default: the bundle alone is made again.
    second = run_all(_compose(out, 'preset.bundle=["serving.steps=3"]'))
    changed = [name for name in second if second[name] != first[name]]
    assert changed == ["bundle"]

    # A lost evaluation is made again; it is the same, so what follows stays.
    shutil.rmtree(out / "runs/demo_segmenter/evaluation")
    third = run_all(_compose(out, 'preset.bundle=["serving.steps=3"]'))
    assert third["bundle"] == second["bundle"]
    assert third["evaluate segmenter"].outputs == second["evaluate segmenter"].outputs
