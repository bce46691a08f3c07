"""uint8 and [-1, 1] are inverse to each other, and mistakes are refused."""

import numpy as np
import pytest
import torch

from neural_photo_editor.imaging.value_range import (
    photo_to_tensor,
    tensor_to_photo,
    to_model_range,
    to_uint8,
)


def test_every_byte_survives_the_round_trip() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    model = to_model_range(values)
    assert model.dtype == torch.float32
    assert model[0] == -1.0
    assert model[255] == 1.0
    assert torch.equal(to_uint8(model), values)
    assert torch.equal(to_uint8(to_model_range(values.numpy())), values)


def test_values_beyond_the_range_are_clipped_and_rounded_to_nearest() -> None:
    image = torch.tensor([-3.0, 1.2, 1 / 127.5 * 0.4 - 1, 1 / 127.5 * 0.6 - 1])
    assert to_uint8(image).tolist() == [0, 255, 0, 1]
    assert image[0] == -3.0


def test_the_input_is_not_changed() -> None:
    photo = np.full((2, 3, 3), 200, dtype=np.uint8)
    to_model_range(photo).zero_()
    assert photo.min() == 200


def test_photo_and_tensor_are_inverse() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = photo_to_tensor(photo)
    assert tensor.shape == (1, 3, 5, 7)
    assert tensor[0, 2, 4, 6] == pytest.approx(photo[4, 6, 2] / 127.5 - 1)
    np.testing.assert_array_equal(tensor_to_photo(tensor), photo)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        to_model_range(torch.zeros(3))
    with pytest.raises(ValueError, match="floating-point"):
        to_uint8(torch.zeros(3, dtype=torch.uint8))
