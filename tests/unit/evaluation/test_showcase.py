"""The showcase with a stand-in for the server that gives back what was painted, or spoils it."""

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api.client import EditClient
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditResult,
    SegmentMetadata,
    SegmentResult,
)
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.evaluation.brush_strokes import beanie_strokes
from neural_photo_editor.evaluation.demo_report import demo_checks, write_demo_report
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.showcase import ShowcaseEdit, choose_edits, run_edits
from neural_photo_editor.imaging.recoloring import recolor

PORTRAIT = generate_portrait(0, 1, resolution=64)
HAIR = PORTRAIT.labels == region_id("hair")
EDIT = ShowcaseEdit("hair", "Hair", PORTRAIT.photo, 200, ("hair",), color="#8a3ffc", seed=5)
REQUIRE = {
    "mean_iou": 0.85,
    "psnr_gain": 3.0,
    "movement": 0.5,
    "patches": 14.0,
    "hair_detail": 0.35,
    "hair_shading": 0.6,
}


class PaintingServer:
    def __init__(self, *, leak: int = 0) -> None:
        self.leak = leak

    def segment(self, photo: np.ndarray) -> SegmentResult:
        metadata = SegmentMetadata(width=64, height=64, bundle_digest="d", regions=())
        return SegmentResult(image=encode_png(PORTRAIT.labels), metadata=metadata)

    def edit(self, photo: np.ndarray, **options: Any) -> EditResult:
        result = recolor(photo, HAIR, (0x8A, 0x3F, 0xFC))
        result[~HAIR] += np.uint8(self.leak)
        metadata = EditMetadata(
            width=64, height=64, bundle_digest="d", seed=options["seed"], sampler="ddim",
            steps=50, timestep=options["timestep"], strength=0.37, timings_ms={"network": 12.0},
        )  # fmt: skip
        return EditResult(image=encode_png(result), metadata=metadata)


def _evaluations() -> dict[str, EvaluationResult]:
    return {
        "denoiser": EvaluationResult(
            "denoiser", 9, {"loss": 0.02, "loss/t001-125": 0.1}, ["s.png"]
        ),
        "segmenter": EvaluationResult(
            "segmenter", 9, {"mean_iou": 0.9, "iou/hair": 0.8}, ["s.png"]
        ),
        "upscaler": EvaluationResult("upscaler", 9, {"psnr_gain": 4.0}, ["s.png"]),
    }


def test_an_edit_that_follows_the_paint_passes(tmp_path: Path) -> None:
    client = cast(EditClient, PaintingServer())
    (shown,) = run_edits(client, [EDIT], folder=tmp_path)
    assert shown.max_difference_outside == 0
    assert shown.movement == pytest.approx(1.0, abs=0.1)  # Bright paint clips.
    assert shown.detail is not None
    assert shown.detail > 0.25
    assert (shown.facts["t"], shown.facts["seed"], shown.facts["network"]) == ("200", "5", "12 ms")
    with Image.open(shown.picture) as picture:
        assert picture.size == (3 * 64 + 2 * 4, 22 + 64)
    checks = demo_checks(_evaluations(), [shown], require=REQUIRE)
    assert len(checks) == 7
    assert all(check.passed for check in checks)


def test_one_changed_byte_outside_fails(tmp_path: Path) -> None:
    client = cast(EditClient, PaintingServer(leak=1))
    shown = run_edits(client, [EDIT], folder=tmp_path)
    failed = [c for c in demo_checks(_evaluations(), shown, require=REQUIRE) if not c.passed]
    assert [check.name for check in failed] == ["Hair: largest change outside the mask"]


def test_the_report_gathers_the_runs_pictures(tmp_path: Path) -> None:
    runs = {kind: tmp_path / "runs" / kind for kind in ("denoiser", "segmenter", "upscaler")}
    for run in runs.values():
        (run / "evaluation").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(run / "evaluation/s.png")
        Image.new("RGB", (8, 8)).save(run / "curves.png")
    shown = run_edits(cast(EditClient, PaintingServer()), [EDIT], folder=tmp_path)
    checks = demo_checks(_evaluations(), shown, require=REQUIRE)
    page = write_demo_report(
        tmp_path,
        runs=runs,
        evaluations=_evaluations(),
        edits=shown,
        checks=checks,
        durations_s={"train denoiser": 300.0, "edit": 12.0},
        bundle_digest="0123456789abcdef",
    ).read_text()
    for name in ("edit-hair.png", "segmenter-s.png", "upscaler-curves.png"):
        assert f'src="{name}"' in page
        assert (tmp_path / name).is_file()
    assert "All numeric checks hold; judge the pictures by eye" in page
    assert ">312<" in page  # total seconds


@pytest.mark.slow
def test_the_edits_cover_what_the_editor_does() -> None:
    edits = choose_edits(portrait_seed=20, resolution=128)
    assert len(edits) >= 6
    assert len({edit.name for edit in edits}) == len(edits)
    assert len({edit.photo.tobytes() for edit in edits}) == len(edits)
    assert {edit.photo.shape for edit in edits} == {(128, 128, 3)}
    assert {("hair",), ("lip",)} <= {edit.regions for edit in edits}
    assert any(edit.strokes is not None for edit in edits)
    assert any(edit.mask is not None and edit.color is None for edit in edits)


def test_the_beanie_sits_on_the_head() -> None:
    index = next(i for i in range(50) if not (_labels(i) == region_id("hat")).any())
    labels = _labels(index)
    strokes = beanie_strokes(labels, color=(200, 50, 40), seed=1)
    painted = strokes[..., 3] > 0
    eyes_and_lips = np.isin(labels, [region_id(name) for name in ("eye", "lip", "nose")])
    assert painted.mean() > 0.02
    assert not (painted & eyes_and_lips).any()
    assert np.array_equal(strokes, beanie_strokes(labels, color=(200, 50, 40), seed=1))
    assert not np.array_equal(strokes, beanie_strokes(labels, color=(200, 50, 40), seed=2))
    with pytest.raises(ValueError, match="choose another portrait"):
        beanie_strokes(np.zeros_like(labels), color=(0, 0, 0))


def _labels(index: int) -> np.ndarray:
    return generate_portrait(0, index, resolution=64).labels


def test_the_picture_is_the_three_photos_side_by_side(tmp_path: Path) -> None:
    (shown,) = run_edits(cast(EditClient, PaintingServer()), [EDIT], folder=tmp_path)
    strip = np.asarray(Image.open(io.BytesIO(shown.picture.read_bytes())))[22:]
    assert np.array_equal(strip[:, :64], PORTRAIT.photo)
    assert np.array_equal(strip[:, 136:], recolor(PORTRAIT.photo, HAIR, (0x8A, 0x3F, 0xFC)))
