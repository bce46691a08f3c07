import math
from pathlib import Path

import pytest
from PIL import Image

from neural_photo_editor.training.curves import draw_curves
from neural_photo_editor.training.metrics_csv import MetricsCSV, best_value, read_metrics
from tests.unit.training.conftest import fill


def test_rows_read_back_and_new_columns_keep_old_rows(tmp_path: Path) -> None:
    record = MetricsCSV(tmp_path)
    record.log_metrics({"train/loss": 0.5, "epoch": 0}, step=0)
    record.log_metrics({"train/loss": 0.25, "epoch": 0}, step=10)
    record.log_metrics({"val/loss": 0.125, "epoch": 1}, step=10)
    rows = read_metrics(tmp_path / "metrics.csv")
    times = [row.pop("time") for row in rows]
    assert times == sorted(times)
    assert rows == [
        {"step": 0, "epoch": 0, "train/loss": 0.5},
        {"step": 10, "epoch": 0, "train/loss": 0.25},
        {"step": 10, "epoch": 1, "val/loss": 0.125},
    ]


def test_resumed_run_replaces_what_it_repeats_and_keeps_the_rest(tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path)
    for step in (9, 19, 29, 39):
        first.log_metrics({"train/loss": 1.0}, step=step)
    resumed = MetricsCSV(tmp_path, resumed_from="last.ckpt")
    for step in (29, 39, 49):
        resumed.log_metrics({"train/loss": 2.0}, step=step)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [9, 19, 29, 39, 49]
    assert [row["train/loss"] for row in rows] == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_best_value_leaves_out_rows_without_it_and_not_a_number(tmp_path: Path) -> None:
    record = MetricsCSV(tmp_path)
    for step, value in enumerate((0.5, 0.25, math.nan, 0.75)):
        record.log_metrics({"val/loss": value}, step=step)
        record.log_metrics({"train/loss": 0.0}, step=step)
    assert best_value(tmp_path / "metrics.csv", "val/loss", mode="min") == 0.25
    assert best_value(tmp_path / "metrics.csv", "val/loss", mode="max") == 0.75
    assert math.isnan(best_value(tmp_path / "metrics.csv", "val/fid", mode="min"))


def test_new_run_starts_the_file_anew(tmp_path: Path) -> None:
    MetricsCSV(tmp_path).log_metrics({"train/loss": 1.0}, step=0)
    MetricsCSV(tmp_path).log_metrics({"train/loss": 2.0}, step=5)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == [5]


def test_curves_are_a_picture_with_a_panel_for_each_quantity(tmp_path: Path) -> None:
    record = MetricsCSV(tmp_path)
    for step in range(0, 40, 2):
        record.log_metrics({"train/loss": 1 / (1 + step), "train/lr": 1e-3}, step=step)
    draw_curves(tmp_path / "metrics.csv", tmp_path / "two.png", title="two panels")
    for quantity in ("images_per_second", "grad_norm"):
        record.log_metrics({f"train/{quantity}": 1.0}, step=40)
    draw_curves(tmp_path / "metrics.csv", tmp_path / "four.png", title="four panels")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "four.png") as four:
        assert two.getextrema()[0] == (0, 255)
        assert four.height == 2 * two.height  # Three panels to a row.


def test_no_metrics_make_no_picture(tmp_path: Path) -> None:
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png", title="none")
    assert not (tmp_path / "curves.png").exists()


def test_curves_that_find_no_space_are_a_warning(
    small_disk: Path, heard: pytest.LogCaptureFixture
) -> None:
    record = MetricsCSV(small_disk)
    record.log_metrics({"train/loss": 1.0}, step=0)
    fill(small_disk)
    draw_curves(record.path, small_disk / "curves.png", title="full")
    assert "curves.png was not written" in heard.text
    assert not (small_disk / "curves.png").exists()


@pytest.mark.parametrize("resumed_from", [None, "last.ckpt"])
def test_rows_wait_for_space_on_a_full_disk(
    small_disk: Path, resumed_from: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    filler, values = small_disk / "filler", range(40)
    if resumed_from:
        MetricsCSV(small_disk).log_metrics({"train/loss": 0.0}, step=0)
    record = MetricsCSV(small_disk, resumed_from=resumed_from)
    for step in values[1 if resumed_from else 0 :]:
        if step == (1 if resumed_from else 10):
            filler.write_bytes(bytes(64 * 1024 - _pages(small_disk)))
        if step == 35:
            filler.unlink()
        # The page that the file has takes some rows more, then a part of one. A column more
        # rewrites the file.
        name = "train/loss" if step < 30 else "val/loss"
        record.log_metrics({name: float(step), "y" * 3300: 1 / 3}, step=step)
    rows = read_metrics(small_disk / "metrics.csv")
    assert [row["step"] for row in rows] == list(values)
    assert caplog.text.count("metrics.csv waits for space") == 1
    assert [path.name for path in small_disk.iterdir()] == ["metrics.csv"]


def _pages(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.iterdir())
