"""A small bundle on disk, made of random networks."""

from pathlib import Path

from neural_photo_editor.artifacts.bundle import ServingDefaults, stage_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.editing.tiny_pipeline import random_networks

SCHEDULE = NoiseSchedule.linear()


def staged_bundle(folder: Path, *, seed: int = 0) -> Path:
    """Fill ``folder/registry`` and ``folder/bundle`` and return the latter."""
    for kind, network in random_networks(seed).items():
        export_artifact(
            network,
            name=kind,
            metadata={
                "kind": kind,
                "resolution": 32,
                "schedule": SCHEDULE.to_spec() if kind == "denoiser" else None,
                "scale": 4 if kind == "upscaler" else None,
            },
            config_yaml="{}",
            preview_png=None,
            provenance={},
            metrics={},
            registry=folder / "registry",
        )
    bundle = folder / "bundle"
    bundle.mkdir()
    stage_bundle(
        folder / "registry",
        denoiser="denoiser@1",
        segmenter="segmenter@1",
        upscaler="upscaler@1",
        defaults=ServingDefaults(steps=3, feather_px=2),
        folder=bundle,
    )
    return bundle
