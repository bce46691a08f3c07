"""The timesteps that plans visit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_photo_editor.diffusion.edit_plan import (
    EditPlan,
    even_timesteps,
    log_snr_timesteps,
    plan_steps,
)
from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()


@pytest.mark.parametrize(
    ("t0", "steps", "expected"),
    [
        (4, 4, [4, 3, 2, 1, 0]),
        (500, 4, [500, 375, 250, 125, 0]),
        (7, 3, [7, 5, 2, 0]),
        (1, 1, [1, 0]),
    ],
)
def test_even_timesteps(t0: int, steps: int, expected: list[int]) -> None:
    assert even_timesteps(t0, steps) == expected


@given(t0=st.integers(1, 500), data=st.data())
def test_timesteps_always_descend(t0: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, t0))
    for timesteps in (even_timesteps(t0, steps), log_snr_timesteps(t0, steps, SCHEDULE)):
        assert len(timesteps) == steps + 1
        assert timesteps[0] == t0
        assert timesteps[-1] == 0
        assert all(a > b for a, b in pairwise(timesteps))


def test_log_snr_falls_evenly() -> None:
    timesteps = log_snr_timesteps(475, 15, SCHEDULE)
    assert timesteps[-2:] == [1, 0]
    snr_db = [SCHEDULE.snr_db(t) for t in timesteps[:-1]]
    falls = [b - a for a, b in pairwise(snr_db)]
    even = (snr_db[-1] - snr_db[0]) / 14
    # Near t = 0 whole timesteps are far apart in log-SNR.
    assert falls[:10] == pytest.approx([even] * 10, rel=0.05)


@pytest.mark.parametrize("steps", [0, 6])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="from 1 to the start timestep 5"):
        even_timesteps(5, steps)


def test_the_solver_visits_timesteps_even_in_log_snr() -> None:
    steps = plan_steps(EditPlan(t0=475, steps=15, sampler="dpmpp_2m"), SCHEDULE)
    timesteps = log_snr_timesteps(475, 15, SCHEDULE)
    assert [(step.t, step.s) for step in steps] == list(pairwise(timesteps))
    assert [step.t_before for step in steps] == [None, *timesteps[:-2]]
