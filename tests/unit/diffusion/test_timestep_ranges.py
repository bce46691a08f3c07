"""Losses by quarter of the timesteps, against masks."""

import pytest
import torch

from neural_photo_editor.diffusion.timestep_ranges import (
    sum_by_timestep_range,
    timestep_range_names,
)


@pytest.mark.parametrize("num_timesteps", [4, 10, 499, 500, 1000])
def test_each_timestep_counts_in_the_range_that_its_name_says(num_timesteps: int) -> None:
    t = torch.arange(1, num_timesteps + 1)
    losses = torch.rand(num_timesteps, generator=torch.Generator().manual_seed(0))
    sums, counts = sum_by_timestep_range(losses, t, num_timesteps=num_timesteps)
    names = timestep_range_names(num_timesteps)
    assert counts.sum() == num_timesteps
    for name, total, count in zip(names, sums, counts, strict=True):
        low, high = map(int, name.removeprefix("t").split("-"))
        chosen = losses[(t >= low) & (t <= high)]
        assert len(chosen) == count > 0
        assert float(total) == pytest.approx(float(chosen.sum()), rel=1e-5)


def test_ranges_are_named_with_three_digits_at_least() -> None:
    assert timestep_range_names(500) == ("t001-125", "t126-250", "t251-375", "t376-500")
    assert timestep_range_names(1000)[-1] == "t751-1000"
