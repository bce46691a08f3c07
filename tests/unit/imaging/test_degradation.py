"""Downscaling against Pillow and SciPy; realistic damage as a function of the sample alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut
from torch.nn import functional as F

from neural_photo_editor.imaging.degradation import (
    Degradation,
    DegradationStage,
    bicubic_downscale,
    bicubic_upscale,
    gaussian_kernel,
)
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo


def test_agrees_with_pillow_to_one_gray_level() -> None:
    photo = np.ascontiguousarray(astronaut()[:128, 100:260])
    small = tensor_to_photo(bicubic_downscale(photo_to_tensor(photo), 4))
    expected = np.asarray(Image.fromarray(photo).resize((40, 32), Image.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - expected.astype(int)).max() <= 1


def test_overshoot_is_clipped() -> None:
    edge = torch.cat([torch.full((1, 3, 16, 16), -1.0), torch.ones(1, 3, 16, 16)], dim=3)
    small = bicubic_downscale(edge, 4)
    assert small.min() == -1.0
    assert small.max() == 1.0


def test_enlarging_is_undone_by_shrinking_but_for_hard_edges_which_are_clipped() -> None:
    wave = 0.5 * torch.linspace(0.0, 6.0, 24).sin().expand(1, 3, 24, 24)
    large = bicubic_upscale(wave, 4)
    assert large.shape == (1, 3, 96, 96)
    torch.testing.assert_close(bicubic_downscale(large, 4), wave, atol=0.02, rtol=0.0)
    edge = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(1, 3, 4, 4)
    unclipped = F.interpolate(edge, scale_factor=4.0, mode="bicubic")
    assert unclipped.max() > 1.1
    assert torch.equal(bicubic_upscale(edge, 4), unclipped.clamp(-1.0, 1.0))


@pytest.mark.parametrize("scale", [0, 3])
def test_sides_that_do_not_divide_are_refused(scale: int) -> None:
    with pytest.raises(ValueError, match="cannot shrink"):
        bicubic_downscale(torch.zeros(1, 3, 16, 16), scale)


# Settings that leave a photo as it is, up to 8 bits and the rounding of JPEG at quality 100.
CLEAN = DegradationStage(
    blur_probability=0.0,
    blur_sigma=(0.2, 3.0),
    anisotropic=0.5,
    resize=(0.5, 1.5),
    gaussian_noise=1.0,
    noise_sigma=(0.0, 0.0),
    shot_noise=(0.0, 0.0),
    gray_noise=0.5,
    jpeg=(100, 100),
)
HARSH = replace(CLEAN, blur_probability=0.7, gaussian_noise=0.5, noise_sigma=(1.0, 30.0),
                shot_noise=(0.05, 3.0), jpeg=(30, 95))  # fmt: skip


def photos(count: int, side: int = 64) -> torch.Tensor:
    return torch.cat([photo_to_tensor(astronaut()[y : y + side, 150 : 150 + side])
                      for y in range(0, count * side, side)])  # fmt: skip


def shrink(images: torch.Tensor, *stages: DegradationStage, ids: list[int], **keys: int) -> Any:
    where = {"seed": 0, "epoch": 0, **keys}
    return Degradation(stages).shrink(images, 4, sample_ids=ids, **where)


def test_without_stages_it_is_bicubic() -> None:
    images = photos(2)
    assert torch.equal(shrink(images, ids=[3, 4]), bicubic_downscale(images, 4))


def test_damage_depends_on_seed_epoch_and_sample_alone() -> None:
    images, ids = photos(4), [7, 2, 9, 4]
    low = shrink(images, HARSH, HARSH, ids=ids)
    assert low.shape == (4, 3, 16, 16)
    assert -1.0 <= low.min() < low.max() <= 1.0
    order = [2, 0]
    again = shrink(images[order], HARSH, HARSH, ids=[9, 7])
    assert torch.equal(again, low[order])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(shrink(images, HARSH, HARSH, ids=ids), low)
    for keys in ({"seed": 1}, {"epoch": 1}):
        other = shrink(images, HARSH, HARSH, ids=ids, **keys)
        assert all(not torch.equal(a, b) for a, b in zip(other, low, strict=True))


def test_an_undamaged_photo_is_resized_with_one_of_three_filters() -> None:
    images = photos(1)
    candidates = [
        torch.nn.functional.interpolate(images, size=(16, 16), mode=mode, antialias=antialias)
        for mode, antialias in (("area", False), ("bilinear", True), ("bicubic", True))
    ]
    seen = set()
    for sample_id in range(20):
        low = shrink(images, CLEAN, ids=[sample_id])
        # Quality 100 halves chroma's resolution all the same: luma is compared.
        errors = [float((low - c).mean(1).abs().mean()) for c in candidates]
        seen.add(int(np.argmin(errors)))
        assert min(errors) < 0.02
    assert seen == {0, 1, 2}


def test_round_kernel_blurs_as_scipy() -> None:
    photo = astronaut()[:64, 150:214, 0].astype(np.float64)
    kernel = gaussian_kernel(1.7, 1.7, angle=0.3)
    blurred = torch.nn.functional.conv2d(
        torch.from_numpy(photo)[None, None], torch.from_numpy(kernel).double()[None, None]
    )
    radius = len(kernel) // 2
    expected = gaussian_filter(photo, 1.7, radius=radius)[radius:-radius, radius:-radius]
    np.testing.assert_allclose(blurred[0, 0].numpy(), expected, rtol=1e-6)


def test_turned_kernel_has_the_covariance_it_is_named_by() -> None:
    angle = 0.6
    kernel = gaussian_kernel(3.0, 1.0, angle=angle).astype(np.float64)
    assert kernel.sum() == pytest.approx(1.0)
    y, x = np.mgrid[:19, :19] - 9
    moments = [[(kernel * a * b).sum() for a in (x, y)] for b in (x, y)]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(moments, turn @ np.diag([9.0, 1.0]) @ turn.T, atol=0.3)


@pytest.mark.parametrize("level", [30, 120])
def test_noise_has_the_strength_asked_for(level: int) -> None:
    flat = torch.full((1, 3, 256, 256), level / 127.5 - 1.0)
    even = replace(CLEAN, noise_sigma=(8.0, 8.0), gray_noise=0.0)
    shot = replace(CLEAN, gaussian_noise=0.0, shot_noise=(0.7, 0.7), gray_noise=0.0)
    for stage, sigma in ((even, 8.0), (shot, 0.7 * level**0.5)):
        low = shrink(flat, stage, ids=[5])
        luma = low.mul(127.5)[0].mul(torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
        # Independent noise of three channels: the root of the squared weights' sum is 0.669.
        assert float(luma.std()) == pytest.approx(0.669 * sigma, rel=0.1)
    gray = shrink(flat, replace(even, gray_noise=1.0), ids=[5])
    assert float((gray[:, 0] - gray[:, 2]).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"blur_probability": 1.2}, r"blur_probability is 1\.2; give a share"),
        ({"blur_sigma": (3.0, 1.0)}, r"blur_sigma is \[3\.0, 1\.0\]"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma"),
        ({"jpeg": (30, 101)}, r"jpeg is \[30, 101\].*from 1 to 100"),
        ({"resize": (0.0, 1.0)}, "resize"),
        ({"noise_sigma": (-1.0, 1.0)}, "noise_sigma"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CLEAN, **setting)
    with pytest.raises(ValueError, match="cannot shrink"):
        shrink(photos(1, side=30), CLEAN, ids=[0])
