"""Checking a file's header says what opening it would say, without decoding a pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits, check_image_header, open_image

PHOTO = np.full((40, 60, 3), 7, dtype=np.uint8)


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_good_files_have_their_size(format: str) -> None:
    assert check_image_header(saved(format), field="photo") == (60, 40)


BAD = {
    "other type": b"GIF89a" * 9,
    "damaged head": saved("PNG")[:20],
    "too small": encode_png(PHOTO[:10]),
    "too large": encode_png(np.zeros((6001, 6000), np.uint8)),
    "animated": saved(
        "WEBP", save_all=True, append_images=[Image.fromarray(PHOTO + 200)], duration=10
    ),
    "bytes": saved("PNG") + b"\0" * (31 * 2**20),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_as_on_opening(name: str) -> None:
    with pytest.raises(RequestError) as early:
        check_image_header(BAD[name], field="mask")
    with pytest.raises(RequestError) as late, open_image(BAD[name], field="mask"):
        pass
    assert early.value.to_problem() == late.value.to_problem()
    assert early.value.field == "mask"


def test_pixels_are_not_decoded() -> None:
    whole = saved("PNG", compress_level=0)
    cut = whole[: len(whole) // 2]
    assert check_image_header(cut, field="photo") == (60, 40)
    with pytest.raises(RequestError), open_image(cut, field="photo"):
        pass


def test_limits_are_the_callers() -> None:
    limits = ImageLimits(max_pixels=60 * 40)
    assert check_image_header(saved("PNG"), field="photo", limits=limits) == (60, 40)
    with pytest.raises(RequestError, match="60 x 40"):
        check_image_header(saved("PNG"), field="photo", limits=ImageLimits(max_pixels=2399))
