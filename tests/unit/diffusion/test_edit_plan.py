"""The timesteps that plans visit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_photo_editor.diffusion.edit_plan import EditPlan, plan_steps, timestep_sequence


@pytest.mark.parametrize(
    ("t0", "steps", "power", "expected"),
    [
        (200, 200, 1, list(range(200, -1, -1))),
        (500, 5, 1, [500, 400, 300, 200, 100, 0]),
        (10, 4, 1, [10, 8, 5, 3, 0]),
        (1, 1, 1, [1, 0]),
        (500, 5, 2, [500, 320, 180, 80, 20, 0]),
        (20, 10, 2, [20, 16, 13, 10, 7, 5, 4, 3, 2, 1, 0]),
        (7, 7, 2, [7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_timestep_sequence(t0: int, steps: int, power: int, expected: list[int]) -> None:
    assert timestep_sequence(t0, steps, power=power) == expected


@given(t0=st.integers(1, 1000), data=st.data(), power=st.sampled_from([1, 2]))
def test_timestep_sequences_always_descend(t0: int, data: st.DataObject, power: int) -> None:
    steps = data.draw(st.integers(1, t0))
    sequence = timestep_sequence(t0, steps, power=power)
    assert len(sequence) == steps + 1
    assert sequence[0] == t0
    assert sequence[-1] == 0
    assert all(a > b for a, b in pairwise(sequence))


@pytest.mark.parametrize("steps", [0, 6])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="from 1 to the start timestep 5"):
        timestep_sequence(5, steps)


def test_the_solver_visits_timesteps_in_quadratic_spacing() -> None:
    steps = plan_steps(EditPlan(t0=500, steps=5, sampler="dpmpp_2m"))
    assert [step.t for step in steps] == [500, 320, 180, 80, 20]
    assert [step.t_before for step in steps] == [None, 500, 320, 180, 80]
