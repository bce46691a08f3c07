import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from neural_photo_editor.data.quality_loss import QualityLoss, compress
from neural_photo_editor.data.synthetic_portraits import generate_portrait


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """One portrait 200 times, uint8 (200, 3, 32, 32)."""
    photo = torch.from_numpy(generate_portrait(2, 0, resolution=32).photo).permute(2, 0, 1)
    return photo.expand(200, 3, 32, 32).contiguous()


def _apply(loss: QualityLoss, photos: torch.Tensor, **draw: int) -> torch.Tensor:
    arguments = {"seed": 0, "epoch": 0} | draw
    return loss.apply(photos, sample_ids=range(len(photos)), **arguments)


def _changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (before != after).flatten(1).any(1)


@pytest.mark.parametrize("name", ["gray", "blur", "jpeg"])
def test_the_asked_for_share_of_the_photos_changes(photos: torch.Tensor, name: str) -> None:
    share = _changed(photos, _apply(QualityLoss(**{name: 0.3}), photos)).float().mean()
    assert 0.2 < share < 0.4
    assert _changed(photos, _apply(QualityLoss(**{name: 1.0}), photos)).all()
    assert not _changed(photos, _apply(QualityLoss(**{name: 0.0}), photos)).any()


def test_gray_photos_keep_their_luma(photos: torch.Tensor) -> None:
    gray = _apply(QualityLoss(gray=1.0), photos[:1])[0].float()
    assert torch.equal(gray[0], gray[1])
    assert torch.equal(gray[0], gray[2])
    luma = torch.tensor([0.299, 0.587, 0.114]) @ photos[0].float().flatten(1)
    assert (gray[0].flatten() - luma).abs().max() <= 1


def test_blur_lies_between_its_limits(photos: torch.Tensor) -> None:
    blurred = _apply(QualityLoss(blur=1.0, blur_px=2.0), photos)
    image = Image.fromarray(photos[0].permute(1, 2, 0).numpy())

    def contrast(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())

    least, most = (
        contrast(np.asarray(image.filter(ImageFilter.GaussianBlur(px)))) for px in (0.4, 2.0)
    )
    seen = [contrast(photo.permute(1, 2, 0).numpy()) for photo in blurred]
    assert most <= min(seen) < max(seen) <= least
    assert max(seen) - min(seen) > 0.8 * (least - most)


def test_lower_quality_loses_more() -> None:
    photo = generate_portrait(2, 1, resolution=64).photo
    left = [compress(photo, quality=quality).astype(float) for quality in (95, 60, 20)]
    errors = [np.square(photo - compressed).mean() for compressed in left]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_it_depends_on_seed_epoch_and_sample_alone(photos: torch.Tensor) -> None:
    loss = QualityLoss(gray=0.3, blur=0.5, jpeg=0.5)
    together = _apply(loss, photos)
    for row in (0, 7, 123):
        alone = loss.apply(photos[:1], seed=0, epoch=0, sample_ids=[row])
        assert torch.equal(alone[0], together[row])
    assert not torch.equal(_apply(loss, photos, seed=1), together)
    assert not torch.equal(_apply(loss, photos, epoch=1), together)


def test_one_change_leaves_the_others_as_they_were(photos: torch.Tensor) -> None:
    blurred = _apply(QualityLoss(blur=0.5), photos)
    both = _apply(QualityLoss(blur=0.5, gray=0.2), photos)
    in_color = ~(both[:, 0] == both[:, 1]).flatten(1).all(1)
    assert 120 < in_color.sum() < 190
    assert torch.equal(both[in_color], blurred[in_color])


@pytest.mark.parametrize(
    ("name", "value"),
    [("gray", 1.1), ("blur", -0.1), ("blur_px", math.nan), ("jpeg", 2), ("jpeg_quality", 0)],
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"quality_loss.{name} is {value}"):
        QualityLoss(**{name: value})
