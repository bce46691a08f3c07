import pickle

import numpy as np
import pytest

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.data.synthetic_source import SyntheticPortraits


def test_samples_are_the_generators_portraits_in_any_process() -> None:
    source = pickle.loads(pickle.dumps(SyntheticPortraits(seed=4, count=3, resolution=32)))
    assert len(source) == 3
    portrait = generate_portrait(4, 2, resolution=32)
    sample = source.load(2)
    np.testing.assert_array_equal(sample.photo, portrait.photo)
    np.testing.assert_array_equal(sample.labels, portrait.labels)
    assert sample.key == source.key(2) == "portrait-000002"
    assert sample.metadata.license == "CC0-1.0"
    assert not np.array_equal(sample.photo, source.load(1).photo)


def test_the_count_is_checked() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        SyntheticPortraits(seed=0, count=0, resolution=64)
