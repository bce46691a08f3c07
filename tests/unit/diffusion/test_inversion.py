"""DDIM inversion against the exact ODE of Gaussian data, and with DDIM as an inverse pair."""

import pytest
import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan
from neural_photo_editor.diffusion.inversion import ddim_invert
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.reverse_process import reverse_process
from neural_photo_editor.diffusion.schedule import NoiseSchedule, Prediction
from tests.unit.diffusion.gaussian_data import GaussianData

SCHEDULE = NoiseSchedule.linear()
DATA = GaussianData(SCHEDULE)


def _photos(n: int = 1, size: int = 64) -> Tensor:
    return DATA.mean + DATA.std * sample_noise(1, "photos", shape=(n, 3, size, size))


def _invert(x_0: Tensor, *, t0: int, steps: int, corrections: int = 0) -> Tensor:
    return ddim_invert(DATA, x_0, t0=t0, steps=steps, schedule=SCHEDULE, corrections=corrections)


def _generate(x_t0: Tensor, *, t0: int, steps: int) -> Tensor:
    plans = [EditPlan(t0=t0, steps=steps, sampler="ddim")] * len(x_t0)
    return reverse_process(DATA, x_t0, plans=plans, schedule=SCHEDULE, clip_x_0=False)


def test_photos_become_the_noise_that_the_ode_leads_to() -> None:
    x_0 = _photos()
    exact = DATA.flow(x_0.double(), t=0, s=500)
    # The marginal of the noise, and pixel by pixel the exact solution.
    x_t0 = _invert(x_0, t0=500, steps=500)
    assert float(x_t0.std()) == pytest.approx(float(exact.std()), rel=0.01)
    errors = [
        float((_invert(x_0, t0=500, steps=steps) - exact).abs().max()) for steps in (125, 250, 500)
    ]
    # First order: twice the steps, half the error.
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.1)


def test_ddim_leads_back() -> None:
    x_0 = _photos()

    def error(steps: int, corrections: int = 0) -> float:
        x_t0 = _invert(x_0, t0=200, steps=steps, corrections=corrections)
        return float((_generate(x_t0, t0=200, steps=steps) - x_0).abs().max())

    assert error(200) < 0.02
    assert error(100) / error(200) == pytest.approx(2.0, rel=0.15)
    assert error(50, corrections=1) < 0.2 * error(50)
    assert error(50, corrections=10) < 1e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_a_denoiser_of_either_kind_gives_the_same(prediction: Prediction) -> None:
    """The two agree on x_0 given x_t, whatever x_t is; so must the results."""
    schedule = NoiseSchedule.linear(prediction=prediction)

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        eps = DATA(x_t, t)
        if prediction == "epsilon":
            return eps
        alpha_bar_t = SCHEDULE.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
        x_0 = (x_t - (1 - alpha_bar_t).sqrt() * eps) / alpha_bar_t.sqrt()
        return alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * x_0

    x_0 = _photos(size=8)
    actual = ddim_invert(denoiser, x_0, t0=300, steps=30, schedule=schedule)
    torch.testing.assert_close(actual, _invert(x_0, t0=300, steps=30), atol=2e-5, rtol=0)


def test_an_item_has_the_same_bytes_in_every_batch() -> None:
    x_0 = _photos(3, size=8)
    together = _invert(x_0, t0=100, steps=5)
    assert torch.equal(_invert(x_0[1:2], t0=100, steps=5)[0], together[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t0": 501, "steps": 5}, "from 1 to 500"),
        ({"t0": 5, "steps": 6}, "from 1 to the start"),
        ({"t0": 5, "steps": 5, "corrections": -1}, "at least 0"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _invert(_photos(size=8), **options)
