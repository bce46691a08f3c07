"""The schedule against diffusers, the design's figures, and its own inverses."""

import pickle

import pytest
import torch
from diffusers import DDPMScheduler

from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()


def test_alpha_bar_agrees_with_diffusers() -> None:
    reference = DDPMScheduler(num_train_timesteps=500, beta_start=1e-4, beta_end=2e-2)
    expected = reference.alphas_cumprod.double()
    torch.testing.assert_close(SCHEDULE.alpha_bar[1:], expected, rtol=1e-5, atol=1e-7)
    assert SCHEDULE.alpha_bar[0] == 1.0
    assert SCHEDULE.alpha_bar.dtype == torch.float64


@pytest.mark.parametrize(("index", "snr_db"), [(200, -1.1), (400, -14.0), (475, -19.9)])
def test_signal_to_noise_figures(index: int, snr_db: float) -> None:
    # The figures count timesteps from 0, as diffusers does; ours count from 1.
    assert SCHEDULE.snr_db(index + 1) == pytest.approx(snr_db, abs=0.05)


def test_terminal_signal() -> None:
    assert float(SCHEDULE.alpha_bar[500]) ** 0.5 == pytest.approx(0.080, abs=5e-4)


def test_strength_is_monotonic_and_spans_the_stated_range() -> None:
    timesteps = [SCHEDULE.timestep_for_strength(i / 100) for i in range(101)]
    assert timesteps == sorted(timesteps)
    assert SCHEDULE.snr_db(timesteps[0]) == pytest.approx(10.0, abs=0.2)
    assert SCHEDULE.snr_db(timesteps[50]) == pytest.approx(-5.0, abs=0.1)
    assert SCHEDULE.snr_db(timesteps[100]) == pytest.approx(-20.0, abs=0.1)


def test_strength_and_timestep_are_inverse_within_the_range() -> None:
    for t in range(68, 478):
        assert SCHEDULE.timestep_for_strength(SCHEDULE.strength_for_timestep(t)) == t
    assert SCHEDULE.strength_for_timestep(1) == 0.0
    assert SCHEDULE.strength_for_timestep(500) == 1.0


def test_strength_of_a_schedule_that_keeps_more_signal_ends_at_its_last_timestep() -> None:
    mild = NoiseSchedule.linear(100, 1e-4, 2e-2)
    assert mild.timestep_for_strength(1.0) == 100


def test_spec_round_trip_equality_and_pickle() -> None:
    schedule = NoiseSchedule.linear(250, 2e-4, 3e-2)
    assert NoiseSchedule.from_spec(schedule.to_spec()) == schedule
    assert hash(NoiseSchedule.from_spec(schedule.to_spec())) == hash(schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule != SCHEDULE
    assert SCHEDULE.to_spec() == {
        "kind": "linear",
        "num_timesteps": 500,
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "prediction": "epsilon",
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "cosine", "num_timesteps": 500},
        {"kind": "linear", "num_timesteps": 500},
        {**SCHEDULE.to_spec(), "s": 1},
        {**SCHEDULE.to_spec(), "beta_end": 1.0},
        {**SCHEDULE.to_spec(), "num_timesteps": 0},
        {**SCHEDULE.to_spec(), "prediction": "x_0"},
    ],
)
def test_bad_specs_are_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"noise schedule|choose|at least"):
        NoiseSchedule.from_spec(spec)


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        SCHEDULE.timestep_for_strength(strength)


@pytest.mark.parametrize("t", [0, 501])
def test_timestep_out_of_range(t: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 500"):
        SCHEDULE.snr_db(t)
