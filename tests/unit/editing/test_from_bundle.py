"""A pipeline from a bundle on disk answers like one from the same networks in memory."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults, stage_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.common.fingerprint import canonical_json, sha256_json
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.acceleration import Acceleration, accelerate
from neural_photo_editor.editing.pipeline import EditPipeline
from tests.unit.editing.tiny_pipeline import random_networks

SCHEDULE = NoiseSchedule.linear()
DEFAULTS = ServingDefaults(steps=3, feather_px=2)


def _stage(folder: Path) -> str:
    registry = folder / "registry"
    for kind, network in random_networks().items():
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
            registry=registry,
        )
    (folder / "bundle").mkdir()
    names = {kind: f"{kind}@1" for kind in ("denoiser", "segmenter", "upscaler")}
    bundle = stage_bundle(registry, **names, defaults=DEFAULTS, folder=folder / "bundle")
    return bundle.digest


def test_a_bundle_gives_the_pipeline_of_its_networks(tmp_path: Path) -> None:
    digest = _stage(tmp_path)
    fast = partial(accelerate, device=torch.device("cpu"), acceleration=Acceleration())
    in_memory = EditPipeline(
        **{kind: fast(network) for kind, network in random_networks().items()},
        schedule=SCHEDULE,
        defaults=DEFAULTS,
        bundle_digest=digest,
        resolution=32,
        segmenter_resolution=32,
    )
    photo = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)
    mask = np.zeros((80, 64), dtype=np.uint8)
    mask[20:50, 10:40] = 255
    request = EditRequest(
        photo=encode_png(photo), mask=encode_png(mask), color="#306090", seed=5, strength=0.6
    )
    (expected,) = in_memory.run([request])
    (actual,) = EditPipeline.from_bundle(tmp_path / "bundle").run([request])
    assert not isinstance(expected, RequestError)
    assert not isinstance(actual, RequestError)
    assert actual.image == expected.image
    assert actual.metadata.bundle_digest == digest


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    _stage(tmp_path)
    weights = tmp_path / "bundle/artifacts/denoiser/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        EditPipeline.from_bundle(tmp_path / "bundle")


def test_a_bundle_from_before_a_default_existed_still_loads(tmp_path: Path) -> None:
    _stage(tmp_path)
    path = tmp_path / "bundle" / "bundle.json"
    spec = json.loads(path.read_text())
    del spec["digest"]
    del spec["defaults"]["face_height"]
    digest = sha256_json(spec)
    path.write_bytes(canonical_json({**spec, "digest": digest}))
    pipeline = EditPipeline.from_bundle(tmp_path / "bundle")
    assert pipeline.defaults.face_height == DEFAULTS.face_height
    assert pipeline.bundle_digest == digest
