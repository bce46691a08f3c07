"""The file type of a result when the request leaves it open."""

import numpy as np
import pytest

from neural_photo_editor.api.codec import DecodedPhoto, ImageFormat
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.editing.results import choose_format


def _photo(size: tuple[int, int], image_format: ImageFormat) -> DecodedPhoto:
    # Of the pixels only the number matters: this takes no memory.
    rgb = np.broadcast_to(np.zeros(3, dtype=np.uint8), (*size, 3))
    return DecodedPhoto(rgb, alpha=None, icc_profile=None, format=image_format)


@pytest.mark.parametrize(
    ("size", "uploaded", "chosen"),
    [
        ((40, 30), "png", "png"),
        ((40, 30), "jpeg", "png"),
        ((40, 30), "webp", "webp"),
        ((3000, 4000), "webp", "webp"),
        ((3000, 4001), "webp", "png"),
    ],
)
def test_the_result_has_a_type_that_keeps_every_pixel(
    size: tuple[int, int], uploaded: ImageFormat, chosen: ImageFormat
) -> None:
    request = EditRequest(photo=b"x", regions=("hair",))
    assert choose_format(request, _photo(size, uploaded)) == chosen


def test_a_type_that_is_asked_for_is_taken_if_it_can_hold_the_photo() -> None:
    request = EditRequest(photo=b"x", regions=("hair",), format="webp")
    assert choose_format(request, _photo((3000, 4000), "png")) == "webp"
    with pytest.raises(RequestError, match="at most 12,000,000 pixels"):
        choose_format(request, _photo((3000, 4001), "png"))
    with pytest.raises(RequestError, match="at most 16,383"):
        choose_format(request, _photo((20, 17_000), "png"))
