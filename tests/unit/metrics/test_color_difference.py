"""CIELAB and CIEDE2000 against scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import deltaE_ciede2000, rgb2lab

from neural_photo_editor.metrics.color_difference import ciede2000, srgb_to_lab

PHOTOS = arrays(np.uint8, (5, 7, 3))
CHANNEL = st.floats(-120.0, 120.0)
LAB = st.tuples(st.floats(0.0, 100.0), CHANNEL, CHANNEL)


def test_lab_of_every_gray_and_many_colors_is_that_of_skimage() -> None:
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    random = np.random.default_rng(0).integers(0, 256, (4000, 3), dtype=np.uint8)
    colors = np.concatenate([gray, random])
    np.testing.assert_allclose(srgb_to_lab(colors), rgb2lab(colors), atol=2e-3)


@given(first=PHOTOS, second=PHOTOS)
def test_the_difference_of_photos_is_that_of_skimage(first: np.ndarray, second: np.ndarray) -> None:
    lab_1, lab_2 = srgb_to_lab(first), srgb_to_lab(second)
    expected = deltaE_ciede2000(lab_1, lab_2)
    np.testing.assert_allclose(ciede2000(lab_1, lab_2), expected, atol=1e-6)


@given(first=LAB, second=LAB)
def test_the_difference_is_symmetric_and_zero_for_equal_colors(
    first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    a, b = np.array(first), np.array(second)
    assert ciede2000(a, a) == 0.0
    assert ciede2000(a, b) == pytest.approx(float(ciede2000(b, a)), abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [  # Sharma, Wu and Dalal 2005, Table 1, rows 1, 7, 13, 16, 17, 20, 25, 31 and 34.
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_published_pairs(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=5e-5)
