import numpy as np
import pytest

from neural_photo_editor.common.regions import (
    CELEBAMASK_HQ_TO_REGION,
    NUM_REGIONS,
    REGION_NAMES,
    REGIONS,
    colorize_labels,
    region_id,
)


def test_ids_are_consecutive_and_colors_distinct() -> None:
    assert [region.id for region in REGIONS] == list(range(NUM_REGIONS))
    assert len({region.color for region in REGIONS}) == NUM_REGIONS


def test_region_id_round_trip_and_error_lists_names() -> None:
    assert [region_id(name) for name in REGION_NAMES] == list(range(11))
    with pytest.raises(ValueError, match="background, hair, hat"):
        region_id("beard")


def test_every_region_is_reachable_from_celebamask_hq() -> None:
    assert len(CELEBAMASK_HQ_TO_REGION) == 19
    assert set(CELEBAMASK_HQ_TO_REGION) == set(range(NUM_REGIONS))


def test_colorize_labels() -> None:
    labels = np.arange(11, dtype=np.uint8).reshape(1, 11)
    picture = colorize_labels(labels)
    assert picture.shape == (1, 11, 3)
    assert tuple(picture[0, 6]) == REGIONS[6].color
