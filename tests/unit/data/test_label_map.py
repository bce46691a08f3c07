import io

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.data.label_map import decode_labels, encode_labels


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def test_decode_inverts_encode() -> None:
    labels = np.arange(11, dtype=np.uint8).repeat(7).reshape(7, 11)
    np.testing.assert_array_equal(decode_labels(encode_labels(labels)), labels)
    with Image.open(io.BytesIO(encode_labels(labels))) as image:
        assert (image.format, image.mode) == ("PNG", "L")


def test_a_palette_image_means_its_indices() -> None:
    labels = np.array([[0, 1], [10, 3]], dtype=np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putpalette([255 - value for value in range(256) for _ in range(3)])
    np.testing.assert_array_equal(decode_labels(_png(image)), labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_png(Image.new("RGB", (4, 4))), "gray 8-bit PNG"),
        (_png(Image.new("I;16", (4, 4))), "gray 8-bit PNG"),
        (_png(Image.new("L", (4, 4), 11)), "label id 11"),
        (_png(Image.new("L", (300, 300), 3))[:-40], "not a readable PNG"),
        (_png(Image.new("L", (300, 300), 3))[:60], "not a readable PNG"),
        (_jpeg(Image.new("L", (32, 32), 3)), "it is a JPEG file"),
        (b"GIF89a", "not a readable PNG"),
        (b"", "not a readable PNG"),
    ],
)
def test_unusable_label_maps_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_labels(data)


def test_the_size_limit_counts_before_decoding() -> None:
    with pytest.raises(ValueError, match="measures 5 x 4 pixels"):
        decode_labels(_png(Image.new("L", (5, 4))), max_pixels=19)


def test_encode_refuses_what_is_no_label_map() -> None:
    with pytest.raises(ValueError, match="label id 200"):
        encode_labels(np.full((2, 2), 200, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"uint8 \(H, W\)"):
        encode_labels(np.zeros((2, 2, 3), dtype=np.uint8))
