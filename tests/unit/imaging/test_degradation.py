"""Downscaling against Pillow's antialiased bicubic."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from neural_photo_editor.imaging.degradation import bicubic_downscale
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


@pytest.mark.parametrize("scale", [0, 3])
def test_sides_that_do_not_divide_are_refused(scale: int) -> None:
    with pytest.raises(ValueError, match="cannot shrink"):
        bicubic_downscale(torch.zeros(1, 3, 16, 16), scale)
