"""Sweeps of edits by networks whose results are known."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.evaluation.edit_evaluation import evaluate_edits
from neural_photo_editor.evaluation.edit_sweep import Cell, EditSweep, measure_edit, run_sweep
from neural_photo_editor.evaluation.edit_tables import plot_metrics, write_csv, write_markdown
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult

SIDE = 32


class Halves(nn.Module):
    """Finds hair in the upper half of every image and skin in the lower one."""

    def forward(self, x: Tensor) -> Tensor:
        labels = torch.full(x[:, 0].shape, region_id("skin"))
        labels[:, : x.shape[-2] // 2] = region_id("hair")
        return F.one_hot(labels, 11).permute(0, 3, 1, 2).float()


class NoNoise(nn.Module):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x_t)


class Bilinear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4, mode="bilinear")


@pytest.fixture(scope="module")
def pipeline() -> EditPipeline:
    return EditPipeline(
        denoiser=NoNoise(),
        segmenter=Halves(),
        upscaler=Bilinear(),
        schedule=NoiseSchedule.linear(),
        defaults=ServingDefaults(feather_px=1),
        bundle_digest="0" * 64,
        resolution=SIDE,
        segmenter_resolution=SIDE,
    )


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [generate_portrait(0, i, resolution=SIDE).photo for i in range(7)]


SWEEP = EditSweep(
    colors={"hair": "#1f8f8c", "skin": None}, timesteps=(20, 60), steps=(2, 40), batch_size=2
)


def test_every_photo_is_edited_in_every_cell(
    pipeline: EditPipeline, photos: list[np.ndarray]
) -> None:
    edits = list(run_sweep(pipeline, photos[:3], SWEEP))
    cells = [Cell(r, t, s) for r in ("hair", "skin") for t in (20, 60) for s in (2, min(40, t))]
    assert [(edit.cell, edit.photo) for edit in edits] == [(c, i) for c in cells for i in range(3)]
    for edit in edits:
        half = np.s_[SIDE // 2 :] if edit.cell.region == "hair" else np.s_[: SIDE // 2]
        np.testing.assert_array_equal(edit.result[half], photos[edit.photo][half])
        assert edit.metrics["max_difference_outside"] == 0.0
        assert edit.metrics["unchanged_outside"] == 1.0
        assert edit.metrics["change_inside"] > 0.0
        assert ("paint_difference" in edit.metrics) == (edit.cell.region == "hair")


def test_an_edit_that_does_nothing_measures_as_the_photo(photos: list[np.ndarray]) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[8:20, 8:20] = True
    assert measure_edit(photos[0], photos[0], mask, painted=photos[0]) == {
        "max_difference_outside": 0.0,
        "unchanged_outside": 1.0,
        "change_inside": 0.0,
        "seam": 1.0,
        "paint_difference": 0.0,
    }


def mean_colors(images: Tensor) -> Tensor:
    return images.mean((2, 3))


def test_an_evaluation_writes_tables_plots_and_strips(
    pipeline: EditPipeline, photos: list[np.ndarray], tmp_path: Path
) -> None:
    result = evaluate_edits(
        pipeline,
        photos[:2],
        real_photos=photos[2:],
        sweep=SWEEP,
        out_dir=tmp_path,
        num_strips=3,
        features=mean_colors,
    )
    assert result == EvaluationResult.load(tmp_path)
    assert result.metrics["max_difference_outside/hair/t060/steps040"] == 0.0
    # Two results and three features: no covariance, but a kernel distance.
    assert "kernel_distance/skin/t020/steps002" in result.metrics
    assert not any(name.startswith("frechet") for name in result.metrics)
    with (tmp_path / "edits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["count"] for row in rows} == {"2"}
    assert len((tmp_path / "edits.md").read_text().splitlines()) == 2 + 4
    with Image.open(tmp_path / "strips.png") as strips:
        assert strips.size == (4 * 128 + 3 * 4, 22 + 3 * 128 + 2 * 4)
        # Hair is painted, skin filled; the third row shows the paint again.
        swatches = [strips.convert("RGB").getpixel((64, 22 + row * 132 + 64)) for row in range(3)]
    assert swatches == [(31, 143, 140), (255, 255, 255), (31, 143, 140)]
    assert all((tmp_path / picture).stat().st_size > 1000 for picture in result.pictures)


def test_a_cell_with_more_edits_than_features_has_a_frechet_distance(
    pipeline: EditPipeline, photos: list[np.ndarray], tmp_path: Path
) -> None:
    result = evaluate_edits(
        pipeline,
        photos[:2],
        real_photos=photos[:2],
        sweep=EditSweep(colors={"hair": "#1f8f8c"}, timesteps=(20,), steps=(2,)),
        out_dir=tmp_path,
        num_strips=1,
        features=lambda images: images.mean((1, 2, 3)).unsqueeze(1),
    )
    assert result.metrics["frechet_distance/hair/t020/steps002"] > 0.0
    assert (tmp_path / "edits.md").read_text().count("Frechet distance from real photos") == 1


def test_tables_add_counts_keep_the_worst_change_and_leave_gaps(tmp_path: Path) -> None:
    table = {
        Cell("lip", 100, 10): {"count": 2.0, "max_difference_outside": 0.0, "seam": 1.0},
        Cell("lip", 100, 20): {"count": 3.0, "max_difference_outside": 7.0, "seam": 2.0},
        Cell("hair", 100, 10): {"count": 1.0, "max_difference_outside": 0.0},
    }
    write_markdown(table, tmp_path / "edits.md")
    lines = (tmp_path / "edits.md").read_text().splitlines()
    assert lines[2:] == ["| lip | 100 | 5 | 7 | 1.5 |", "| hair | 100 | 1 | 0 |  |"]
    write_csv(table, tmp_path / "edits.csv")
    assert (tmp_path / "edits.csv").read_text().splitlines()[-1] == "hair,100,10,1,0,"


def test_plots_show_constants_as_such_and_tick_where_was_measured() -> None:
    table = {
        Cell("hair", t, 10): {"max_difference_outside": 0.0, "unchanged_outside": 1.0, "seam": 1.1}
        for t in (100, 475)
    }
    figure = plot_metrics(table, x=lambda cell: cell.timestep, label="start timestep")
    largest, unchanged, seam = figure.axes
    assert largest.get_ylim() == (0.0, 1.0)
    assert unchanged.get_ylim()[0] == 0.0
    assert 1.0 <= unchanged.get_ylim()[1] < 1.1
    assert [list(axis.get_xticks()) for axis in (largest, seam)] == [[100, 475]] * 2


def test_what_cannot_be_swept_is_refused(pipeline: EditPipeline, photos: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="unknown region 'beard'"):
        EditSweep(colors={"beard": None}, timesteps=(10,), steps=(2,))
    with pytest.raises(ValueError, match="at least one"):
        EditSweep(colors={"hair": None}, timesteps=(), steps=(2,))
    nowhere = EditSweep(colors={"hat": None}, timesteps=(10,), steps=(2,))
    with pytest.raises(ValueError, match="no photo shows hat"):
        list(run_sweep(pipeline, photos[:1], nowhere))
    too_late = EditSweep(colors={"hair": None}, timesteps=(501,), steps=(2,))
    with pytest.raises(ValueError, match="timestep"):
        list(run_sweep(pipeline, photos[:1], too_late))
