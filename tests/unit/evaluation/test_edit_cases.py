from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.evaluation.edit_cases import (
    FILLED,
    PAINTED,
    filled_cases,
    painted_cases,
)
from neural_photo_editor.evaluation.edit_masks import BLOB_SHARE, blob_mask, mouth_mask

LABELS = generate_portrait(0, 0, resolution=64).labels


def test_painted_cases_take_turns_and_paint_inside_their_masks() -> None:
    cases = list(islice(painted_cases(3, resolution=64), 8))
    assert [case.kind for case in cases] == [*PAINTED, *PAINTED]
    assert len({case.index for case in cases}) == 8
    for case in cases:
        np.testing.assert_array_equal(case.painted[~case.mask], case.photo[~case.mask])
        assert (case.painted[case.mask] != case.photo[case.mask]).any()


def test_filled_cases_take_turns_and_have_no_paint() -> None:
    cases = list(islice(filled_cases(3, resolution=64), 6))
    assert [case.kind for case in cases] == [*FILLED, *FILLED]
    for case in cases:
        np.testing.assert_array_equal(case.painted, case.photo)
        assert 0.0 < case.mask.mean() < 0.3


def test_cases_are_a_function_of_their_series() -> None:
    first, again, other = (next(painted_cases(s, resolution=32)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.painted, again.painted)
    assert not np.array_equal(first.photo, other.photo)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_blob_covers_its_share_whatever_the_seed(seed: int) -> None:
    mask = blob_mask(LABELS, seed=seed)
    assert mask.mean() == pytest.approx(BLOB_SHARE, abs=1 / mask.size)


def test_a_mouth_that_is_not_there_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match="no mouth"):
        mouth_mask(np.zeros((64, 64), dtype=np.uint8))
