"""JPEG on tensors against libjpeg through Pillow."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from torch.utils._python_dispatch import TorchDispatchMode

from neural_photo_editor.imaging.jpeg import jpeg_round_trip
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo


def through_pillow(photo: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file)).astype(int)


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("size", [(128, 160), (87, 101)])  # whole blocks, and parts of them
def test_agrees_with_libjpeg(quality: int, size: tuple[int, int]) -> None:
    photo = np.ascontiguousarray(astronaut()[: size[0], 100 : 100 + size[1]])
    ours = tensor_to_photo(jpeg_round_trip(photo_to_tensor(photo), quality=quality)).astype(int)
    expected = through_pillow(photo, quality)
    difference = np.abs(ours - expected)
    # Coefficients on the edge between two steps are rounded either way.
    assert difference.mean() < 0.7
    assert (difference > 2).mean() < 0.06
    assert difference.mean() < 0.4 * np.abs(expected - photo).mean()


def test_photos_of_a_batch_do_not_touch_each_other() -> None:
    photos = torch.cat([photo_to_tensor(astronaut()[y : y + 24, :40]) for y in (0, 200)])
    together = jpeg_round_trip(photos, quality=40)
    alone = torch.cat([jpeg_round_trip(photo[None], quality=40) for photo in photos])
    torch.testing.assert_close(together, alone, atol=0.05, rtol=0)


def test_no_product_is_one_that_a_gpu_may_round_to_tf32() -> None:
    class Products(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__
            if name.endswith("mm") or "convolution" in name:
                seen.update(x.dtype for x in args if isinstance(x, torch.Tensor))
            return func(*args, **(kwargs or {}))

    seen: set[torch.dtype] = set()
    with Products():
        back = jpeg_round_trip(torch.zeros(2, 3, 20, 24), quality=60)
    assert seen == {torch.float64}
    assert back.dtype == torch.float32


def test_flat_photos_stay() -> None:
    flat = photo_to_tensor(np.full((16, 16, 3), 128, np.uint8))
    assert torch.equal(jpeg_round_trip(flat, quality=30), flat)
