import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from neural_photo_editor.data.augmentation import ColorJitter, change_colors, color_map
from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.shard_dataset import ShardDataset
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_stream import BatchRequest
from neural_photo_editor.data.synthetic_portraits import generate_portrait

IDENTITY = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "turn": 0.0}


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Three portraits, uint8 (3, 3, 48, 48)."""
    pixels = [generate_portrait(2, index, resolution=48).photo for index in range(3)]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def _change(photos: torch.Tensor, **factors: float) -> torch.Tensor:
    matrix, gray_share = color_map(**{**IDENTITY, **factors})
    num = len(photos)
    return change_colors(
        photos, matrices=np.stack([matrix] * num), gray_shares=np.full(num, gray_share)
    )


@pytest.mark.parametrize("factor", [0.6, 1.3])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_each_change_is_that_of_pillow(
    photos: torch.Tensor, name: str, enhance: type[ImageEnhance.Color], factor: float
) -> None:
    changed = _change(photos, **{name: factor})
    assert changed.dtype == torch.uint8
    assert changed.is_contiguous()
    for photo, actual in zip(photos, changed, strict=True):
        image = Image.fromarray(photo.permute(1, 2, 0).numpy())
        expected = np.asarray(enhance(image).enhance(factor)).astype(int)
        # Pillow rounds gray and result down.
        difference = actual.permute(1, 2, 0).numpy().astype(int) - expected
        assert np.abs(difference).max() <= 1


def test_the_hue_turns_chroma_in_the_plane_of_yiq(photos: torch.Tensor) -> None:
    angle = 2 * np.pi * 0.1
    changed = _change(photos, turn=0.1).permute(0, 2, 3, 1).reshape(-1, 3)
    pixels = photos.permute(0, 2, 3, 1).reshape(-1, 3)
    for index in range(0, len(pixels), 97):
        luma, i, q = colorsys.rgb_to_yiq(*(pixels[index] / 255).tolist())
        turned = (np.cos(angle) * i - np.sin(angle) * q, np.sin(angle) * i + np.cos(angle) * q)
        expected = np.array(colorsys.yiq_to_rgb(luma, *turned)) * 255  # Clipped to 0..255.
        np.testing.assert_allclose(changed[index], expected, atol=3)


def test_the_changes_are_made_in_order_and_rounded_once(photos: torch.Tensor) -> None:
    factors = {"brightness": 0.9, "contrast": 0.8, "saturation": 1.1, "turn": 0.03}
    together = _change(photos, **factors)
    one_by_one = photos
    for name, factor in factors.items():
        one_by_one = _change(one_by_one, **{name: factor})
    assert (together.int() - one_by_one.int()).abs().max() <= 2
    assert torch.equal(_change(photos), photos)


def test_gray_keeps_its_hue() -> None:
    gray = torch.full((1, 3, 4, 4), 120, dtype=torch.uint8)
    assert torch.equal(_change(gray, saturation=2.0, turn=0.4, contrast=0.3), gray)


def test_colors_depend_on_seed_epoch_and_sample_alone(photos: torch.Tensor) -> None:
    jitter = ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    together = jitter.apply(photos, seed=3, epoch=1, sample_ids=(5, 9, 7))
    for row, sample_id in enumerate((5, 9, 7)):
        alone = jitter.apply(photos[row : row + 1], seed=3, epoch=1, sample_ids=(sample_id,))
        assert torch.equal(alone[0], together[row])
    for other in ({"seed": 4}, {"epoch": 2}, {"sample_ids": (6, 10, 8)}):
        arguments = {"seed": 3, "epoch": 1, "sample_ids": (5, 9, 7)} | other
        assert not torch.equal(jitter.apply(photos, **arguments), together)  # type: ignore[arg-type]


def test_factors_fill_their_range_and_no_more() -> None:
    white = torch.full((1, 3, 1, 1), 100, dtype=torch.uint8).expand(400, 3, 1, 1)
    seen = ColorJitter(brightness=0.3).apply(white, seed=0, epoch=0, sample_ids=range(400))
    assert 70 <= seen.min() <= 72
    assert 128 <= seen.max() <= 130
    assert 97 < seen.float().mean() < 103


@pytest.mark.parametrize(
    ("name", "value"), [("brightness", 1.1), ("contrast", -0.1), ("hue", 0.51), ("saturation", 2)]
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"color_jitter.{name} is {value}"):
        ColorJitter(**{name: value})


def test_colors_change_neither_labels_nor_crops_nor_held_out_samples(shards: Path) -> None:
    reader = ShardReader(shards)
    options = {"resolution": 24, "crop_size": 24, "horizontal_flip": True}
    jitter = ColorJitter(brightness=0.5)
    request = BatchRequest(1, tuple(range(1, 9)))

    def batch(augment: bool, color_jitter: ColorJitter | None) -> dict[str, torch.Tensor]:
        return ShardDataset(reader, augment=augment, color_jitter=color_jitter, **options)[request]  # type: ignore[arg-type,return-value]

    plain, colored = batch(True, None), batch(True, jitter)
    assert torch.equal(plain["labels"], colored["labels"])
    assert not torch.equal(plain["image"], colored["image"])
    # Green rises by 4 a column, so brightness shows as its steepness, and the crop as its zeros.
    ratio = colored["image"][:, 1].float().sum((1, 2)) / plain["image"][:, 1].float().sum((1, 2))
    assert ((ratio > 0.49) & (ratio < 1.51)).all()
    assert ratio.std() > 0.05
    assert torch.equal(batch(False, None)["image"], batch(False, jitter)["image"])


def test_a_configuration_names_the_changes(shards: Path) -> None:
    data = ShardDataModule(shards=shards, batch_size=4, resolution=24, color_jitter={"hue": 0.1})
    assert data.color_jitter == ColorJitter(hue=0.1)
    assert ShardDataModule(shards=shards, batch_size=4, resolution=24).color_jitter is None
