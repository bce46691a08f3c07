import pytest

from neural_photo_editor.common.batch_split import split_batch


@pytest.mark.parametrize(
    ("batch_size", "processes", "limit", "per_device", "accumulation"),
    [
        (40, 1, None, 40, 1),
        (40, 8, None, 5, 1),
        (40, 2, 20, 20, 1),
        (40, 2, 19, 10, 2),  # Passes of one size: 10 + 10, never 19 + 1.
        (40, 1, 16, 10, 4),
        (14, 2, 4, 1, 7),
        (8, 2, 100, 4, 1),
    ],
)
def test_passes_are_few_and_of_one_size(
    batch_size: int, processes: int, limit: int | None, per_device: int, accumulation: int
) -> None:
    split = split_batch(batch_size, processes=processes, max_batch_per_device=limit)
    assert split == (per_device, accumulation)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "8"])
def test_a_number_that_is_none_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size is .*whole number of at least 1"):
        split_batch(value, processes=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data\.max_batch_per_device is .*null for no limit"):
        split_batch(8, processes=1, max_batch_per_device=value)  # type: ignore[arg-type]


def test_a_batch_must_divide_among_the_processes() -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size is 9; it counts all 2 processes"):
        split_batch(9, processes=2)
