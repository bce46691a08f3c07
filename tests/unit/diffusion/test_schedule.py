"""The schedule against diffusers, the design's figures, and its own inverses."""

import pickle

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()
COSINE = NoiseSchedule.cosine(1000)
SCALED = NoiseSchedule.scaled_linear(1000, 8.5e-4, 1.2e-2)


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (SCHEDULE, {"num_train_timesteps": 500, "beta_start": 1e-4, "beta_end": 2e-2}),
        (NoiseSchedule.linear(1000), {}),
        (
            SCALED,
            {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 1.2e-2},
        ),
        (COSINE, {"beta_schedule": "squaredcos_cap_v2"}),
        (
            NoiseSchedule.cosine(50),
            {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50},
        ),
    ],
)
def test_betas_and_alpha_bar_agree_with_diffusers(
    schedule: NoiseSchedule, settings: dict[str, object]
) -> None:
    reference = DDPMScheduler(**settings)
    torch.testing.assert_close(schedule.betas, reference.betas.double(), rtol=1e-6, atol=0)
    # diffusers multiplies in float32, where 1 - 0.999 alone is off by 1.3e-5.
    expected = reference.alphas_cumprod.double()
    torch.testing.assert_close(schedule.alpha_bar[1:], expected, rtol=2e-5, atol=0)
    assert schedule.alpha_bar[0] == 1.0
    assert schedule.alpha_bar.dtype == torch.float64


def test_cosine_is_the_papers_closed_form_up_to_its_last_timesteps() -> None:
    # Improved DDPM (Nichol & Dhariwal 2021), Eq. 17; only the last beta is cut to 0.999.
    t = np.arange(1000)
    f = np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(COSINE.alpha_bar[:1000].numpy(), f / f[0], rtol=1e-9)
    assert COSINE.betas[-1] == 0.999
    assert COSINE.betas[:-1].max() < 0.999


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


@pytest.mark.parametrize("schedule", [COSINE, SCALED, NoiseSchedule.linear(1000)])
def test_strength_means_the_same_noise_in_every_schedule(schedule: NoiseSchedule) -> None:
    for strength in (0.0, 0.25, 0.37, 0.5, 0.75, 1.0):
        t = schedule.timestep_for_strength(strength)
        assert schedule.snr_db(t) == pytest.approx(10.0 - 30.0 * strength, abs=0.12)
        assert schedule.strength_for_timestep(t) == pytest.approx(strength, abs=0.004)


@pytest.mark.parametrize("schedule", [SCHEDULE, COSINE])
@pytest.mark.parametrize("factor", [0.25, 1 / 64, 4.0])
def test_a_factor_shifts_every_signal_to_noise_ratio(
    schedule: NoiseSchedule, factor: float
) -> None:
    """simple diffusion (Hoogeboom et al. 2023): log-SNR + 2 log(64 / side)."""
    shifted = NoiseSchedule.from_spec({**schedule.to_spec(), "snr_factor": factor})
    for t in (1, 10, 250, 499):
        expected = schedule.snr_db(t) + 10.0 * np.log10(factor)
        assert shifted.snr_db(t) == pytest.approx(expected, abs=1e-6)
    products = torch.cumprod(1.0 - shifted.betas, dim=0)
    torch.testing.assert_close(products, shifted.alpha_bar[1:], rtol=1e-9, atol=0)
    assert shifted.alpha_bar[0] == 1.0


def test_strength_of_a_schedule_that_keeps_more_signal_ends_at_its_last_timestep() -> None:
    mild = NoiseSchedule.linear(100, 1e-4, 2e-2)
    assert mild.timestep_for_strength(1.0) == 100


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.linear(250, 2e-4, 3e-2),
        NoiseSchedule.scaled_linear(250, 2e-4, 3e-2, "v"),
        NoiseSchedule.cosine(250, "v"),
        NoiseSchedule.cosine(250, snr_factor=0.25),
        NoiseSchedule.linear(250, prediction="v", zero_terminal_snr=True),
        NoiseSchedule.scaled_linear(250, 1e-4, 1e-2, "v", snr_factor=4, zero_terminal_snr=True),
    ],
)
def test_spec_round_trip_equality_and_pickle(schedule: NoiseSchedule) -> None:
    assert NoiseSchedule.from_spec(schedule.to_spec()) == schedule
    assert hash(NoiseSchedule.from_spec(schedule.to_spec())) == hash(schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule not in (SCHEDULE, NoiseSchedule.linear(250))


def test_specs_hold_what_their_kind_needs() -> None:
    assert SCHEDULE.to_spec() == {
        "kind": "linear",
        "num_timesteps": 500,
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "prediction": "epsilon",
    }
    assert SCALED.to_spec() == {
        "kind": "scaled_linear",
        "num_timesteps": 1000,
        "beta_start": 8.5e-4,
        "beta_end": 1.2e-2,
        "prediction": "epsilon",
    }
    cosine = {"kind": "cosine", "num_timesteps": 1000, "prediction": "epsilon"}
    assert COSINE.to_spec() == cosine
    assert NoiseSchedule.cosine(1000, snr_factor=0.25).to_spec() == {**cosine, "snr_factor": 0.25}
    explicit = {**cosine, "snr_factor": 1.0, "zero_terminal_snr": False}
    assert NoiseSchedule.from_spec(explicit) == COSINE


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "cosine", "num_timesteps": 500},
        {**COSINE.to_spec(), "beta_start": 1e-4, "beta_end": 2e-2},
        {**SCHEDULE.to_spec(), "kind": "sigmoid"},
        {**SCALED.to_spec(), "beta_start": 0.0},
        {"kind": "linear", "num_timesteps": 500},
        {**SCHEDULE.to_spec(), "s": 1},
        {**SCHEDULE.to_spec(), "beta_end": 1.0},
        {**SCHEDULE.to_spec(), "num_timesteps": 0},
        {**SCHEDULE.to_spec(), "prediction": "x_0"},
        {**SCHEDULE.to_spec(), "zero_terminal_snr": True},
        {**SCHEDULE.to_spec(), "snr_factor": 0.0},
        {**SCHEDULE.to_spec(), "snr_factor": float("nan")},
    ],
)
def test_bad_specs_are_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"noise schedule|choose|at least"):
        NoiseSchedule.from_spec(spec)


def test_a_kind_of_the_future_asks_for_an_update() -> None:
    with pytest.raises(ValueError, match=r"kind 'sigmoid'; this version knows linear.*update"):
        NoiseSchedule.from_spec({"kind": "sigmoid"})
    with pytest.raises(ValueError, match="a cosine noise schedule has no beta_start"):
        NoiseSchedule(kind="cosine")


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        SCHEDULE.timestep_for_strength(strength)


@pytest.mark.parametrize("t", [0, 501])
def test_timestep_out_of_range(t: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 500"):
        SCHEDULE.snr_db(t)
