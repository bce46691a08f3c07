"""Ratings of enlarged photos against counting and formulas by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.metrics.image_quality import psnr_y
from neural_photo_editor.metrics.segmentation import ConfusionMatrix
from neural_photo_editor.metrics.upscaling import (
    perceptual_distance,
    rate_beside_bicubic,
    rate_upscaled,
    region_agreement,
)


def logits(labels: list[list[list[int]]]) -> Tensor:
    return F.one_hot(torch.tensor(labels), 4).permute(0, 3, 1, 2).float()


def test_perceptual_distance_is_that_of_directions() -> None:
    generator = np.random.default_rng(0)
    maps, others = ([generator.normal(size=(2, c, s, s)) for c, s in ((5, 4), (8, 2))]
                    for _ in range(2))  # fmt: skip
    expected = np.zeros(2)
    for a, b in zip(maps, others, strict=True):
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        expected += (2 - 2 * cosine).mean((1, 2))
    tensors = [[torch.from_numpy(m) for m in group] for group in (maps, others)]
    np.testing.assert_allclose(perceptual_distance(*tensors).numpy(), expected, rtol=1e-5)
    opposite = [-m for m in tensors[0]]
    np.testing.assert_allclose(perceptual_distance(tensors[0], opposite).numpy(), [8, 8], rtol=1e-5)
    louder = [3 * m for m in tensors[0]]
    np.testing.assert_allclose(perceptual_distance(tensors[0], louder).numpy(), [0, 0], atol=1e-6)


def test_regions_agree_as_counted() -> None:
    target = [[[0, 0, 1, 1]], [[2, 2, 2, 2]]]
    ours = [[[0, 1, 1, 3]], [[2, 2, 2, 2]]]
    agreement = region_agreement(logits(ours), logits(target))
    assert agreement["segmenter_agreement"].tolist() == [0.5, 1.0]
    # Region 0: 1 of 2, region 1: 1 of 3; region 3 is not in the target.
    assert agreement["segmenter_miou"].tolist() == pytest.approx([(1 / 2 + 1 / 3) / 2, 1.0])


def test_agreement_stays_on_the_device_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tensor on meta has no values to count.
    monkeypatch.setattr(ConfusionMatrix, "update", lambda self, predicted, labels: None)
    on_meta = torch.zeros(2, 4, 1, 4, device="meta")
    for values in region_agreement(on_meta, on_meta).values():
        assert values.device == on_meta.device
        assert values.shape == (2,)


def test_ratings_have_a_value_per_photo() -> None:
    target = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image = 0.9 * target
    image[2] = target[2]
    plain = rate_upscaled(image, target, scale=4)
    assert plain.keys() == {"psnr", "ssim", "psnr_y", "ssim_y"}
    assert torch.equal(plain["psnr_y"], psnr_y(image, target, border=4))

    rated = rate_upscaled(
        image, target, scale=4, features=lambda x: [x], segmenter=lambda x: x.abs()
    )
    assert rated.keys() == plain.keys() | {
        "perceptual", "segmenter_agreement", "segmenter_miou",
    }  # fmt: skip
    assert all(values.shape == (3,) for values in rated.values())
    assert rated["perceptual"][2] == 0
    assert rated["segmenter_agreement"].tolist() == [1, 1, 1]


def test_a_network_is_rated_beside_bicubic_interpolation() -> None:
    ours, bicubic, target = torch.rand(3, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    rated = rate_beside_bicubic(ours, bicubic, target, scale=4, features=lambda x: [x])
    alone = rate_upscaled(bicubic, target, scale=4, features=lambda x: [x])
    assert rated.keys() == {*alone, *(f"{name}_bicubic" for name in alone), "psnr_gain"}
    for name, value in alone.items():
        assert torch.equal(rated[f"{name}_bicubic"], value)
        assert not torch.equal(rated[name], value)
    assert torch.equal(rated["psnr_gain"], rated["psnr"] - alone["psnr"])
