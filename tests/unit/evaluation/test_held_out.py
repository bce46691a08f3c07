"""Which held-out photos a network is measured on."""

import pytest
import torch
from torch import Tensor

from neural_photo_editor.evaluation.held_out import first_samples


def _batches(num_samples: int, batch_size: int) -> list[dict[str, Tensor]]:
    ids = torch.arange(num_samples).split(batch_size)
    return [{"image": part[:, None].expand(-1, 3), "sample_id": part} for part in ids]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (5, 5), (6, 6), (10, 10), (99, 10)])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
def test_the_same_photos_are_taken_in_batches_of_any_size(
    count: int, expected: int, batch_size: int
) -> None:
    taken = list(first_samples(_batches(10, batch_size), count))
    assert torch.cat([batch["sample_id"] for batch in taken]).tolist() == list(range(expected))
    assert all(len(batch["image"]) == len(batch["sample_id"]) > 0 for batch in taken)


def test_without_a_limit_all_photos_are_taken_and_no_photo_is_no_limit() -> None:
    assert len(list(first_samples(_batches(10, 4), None))) == 3
    with pytest.raises(ValueError, match="max_samples is 0; give 1 or more, or null"):
        next(first_samples(_batches(10, 4), 0))


def test_no_batch_is_read_that_is_not_needed() -> None:
    batches = iter(_batches(10, 5))
    list(first_samples(batches, 5))
    assert next(batches)["sample_id"].tolist() == [5, 6, 7, 8, 9]
