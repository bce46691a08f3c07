from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.confusion_picture import ConfusionPicture
from neural_photo_editor.training.sample_grid import SampleGrid, make_film, save_picture, tile
from neural_photo_editor.training.segmenter_module import SegmenterModule
from tests.unit.training.conftest import SIDE, fill


def test_pictures_keep_their_place_and_white_gaps_lie_between() -> None:
    grid = torch.arange(6, dtype=torch.uint8).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 5)
    picture = np.asarray(tile(grid, gap_px=2))
    assert picture.shape == (2 * 4 + 2, 3 * 5 + 2 * 2, 3)
    for row in range(2):
        for column in range(3):
            window = picture[row * 6 : row * 6 + 4, column * 7 : column * 7 + 5]
            assert (window == 3 * row + column).all()
    assert (picture[4:6] == 255).all()
    assert (picture[:, 5:7] == 255).all()


def test_pictures_of_all_validations_make_a_film_and_tensorboard_has_them(
    fit: Callable[..., Trainer], rates: dict[str, Any], tmp_path: Path
) -> None:
    module = SegmenterModule(SegmentationUNet(widths=(8, 16)), resolution=SIDE, **rates)
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="", default_hp_metric=False)
    fit(
        module,
        max_steps=4,
        val_check_interval=2,
        log_every_n_steps=1,
        callbacks=[SampleGrid(run_dir=tmp_path)],
        logger=[logger],
    )
    samples = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert samples == ["film.webp", "step-000002.png", "step-000004.png"]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("samples")] == [1, 3]
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]
    assert {"train/lr", "val/mean_iou"} <= set(events.Tags()["scalars"])


def test_a_film_shows_the_pictures_in_the_order_of_steps(tmp_path: Path) -> None:
    make_film(tmp_path)
    assert not (tmp_path / "film.webp").exists()
    for step, color in ((5, "red"), (500, "blue"), (50, "lime")):
        save_picture(Image.new("RGB", (16, 16), color), tmp_path / f"step-{step:06d}.png")
    make_film(tmp_path)
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames == 3
        for frame, channel in enumerate((0, 1, 2)):  # Red, lime, blue.
            film.seek(frame)
            color = film.convert("RGB").getpixel((8, 8))
            assert color[channel] == max(color) > 200 > sorted(color)[1]


def test_a_picture_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    save_picture(Image.new("RGB", (4, 4)), tmp_path / "samples" / "step-000001.png")
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-000001.png"]


def test_a_training_goes_on_without_pictures_on_a_full_disk(
    fit: Callable[..., Trainer],
    rates: dict[str, Any],
    small_disk: Path,
    heard: pytest.LogCaptureFixture,
) -> None:
    for step in (1, 2):
        save_picture(Image.new("RGB", (16, 16)), small_disk / "samples" / f"step-00000{step}.png")
    fill(small_disk)
    module = SegmenterModule(SegmentationUNet(widths=(8, 16)), resolution=SIDE, **rates)
    callbacks = [SampleGrid(run_dir=small_disk), ConfusionPicture(run_dir=small_disk)]
    trainer = fit(module, max_steps=4, callbacks=callbacks)
    assert trainer.global_step == 4
    for name in ("samples/step-000004.png", "confusion/step-000004.png", "samples/film.webp"):
        assert f"{name} was not written" in heard.text
    names = sorted(path.name for path in (small_disk / "samples").iterdir())
    assert names == ["step-000001.png", "step-000002.png"]
