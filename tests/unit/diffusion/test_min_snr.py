"""Min-SNR weights against diffusers' training examples, and across what is predicted."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.objective import denoising_loss, min_snr_weights
from neural_photo_editor.diffusion.process import add_noise, training_target
from neural_photo_editor.diffusion.schedule import NoiseSchedule, Prediction

T = 1000


@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_weights_are_those_of_diffusers_examples(
    beta_schedule: str, prediction: Prediction, gamma: float
) -> None:
    scheduler = DDPMScheduler(beta_schedule=beta_schedule)
    scheduler.alphas_cumprod = torch.cumprod(1.0 - scheduler.betas.double(), dim=0)
    snr = compute_snr(scheduler, torch.arange(T)).double()
    # train_text_to_image.py, --snr_gamma.
    expected = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    expected = expected / (snr if prediction == "epsilon" else snr + 1)

    make = NoiseSchedule.linear if beta_schedule == "linear" else NoiseSchedule.cosine
    weights = min_snr_weights(make(T, prediction=prediction), gamma=gamma)
    assert weights.dtype == torch.float64
    # compute_snr takes square roots in float32.
    torch.testing.assert_close(weights[1:], expected, rtol=2e-2, atol=1e-6)
    torch.testing.assert_close(weights[1:900], expected[:899], rtol=2e-5, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_one_estimate_of_the_image_costs_the_same_however_it_is_put_out(gamma: float) -> None:
    """min(SNR_t, gamma) |x_0 - estimate|^2, for both predictions."""
    x_0, estimate, eps = (
        sample_noise(1, name, shape=(4, 3, 4, 4)).double() for name in ("x_0", "estimate", "eps")
    )
    t = torch.tensor([1, 90, 300, 700])
    costs = {}
    for prediction in ("epsilon", "v"):
        schedule = NoiseSchedule.linear(T, prediction=prediction)
        signal = schedule.alpha_bar[t].reshape(-1, 1, 1, 1).sqrt()
        x_t = add_noise(x_0, t=t, eps=eps, schedule=schedule)
        # The noise that would make the estimate the image.
        own_eps = (x_t - signal * estimate) / (1.0 - signal.square()).sqrt()
        output = training_target(estimate, t=t, eps=own_eps, schedule=schedule)
        loss = denoising_loss(lambda x, t, o=output: o, x_0, t=t, eps=eps, schedule=schedule)
        costs[prediction] = min_snr_weights(schedule, gamma=gamma)[t] * loss
    alpha_bar = NoiseSchedule.linear(T).alpha_bar[t]
    snr = alpha_bar / (1.0 - alpha_bar)
    expected = snr.clamp_max(gamma) * (x_0 - estimate).square().mean(dim=(1, 2, 3))
    for cost in costs.values():
        torch.testing.assert_close(cost, expected, rtol=1e-3, atol=1e-6)


def test_weights_of_little_noise_are_small_and_of_much_noise_those_of_eps() -> None:
    weights = min_snr_weights(NoiseSchedule.linear(T), gamma=5.0)
    assert weights[0] == 0.0
    assert float(weights[1]) == pytest.approx(5.0 * 1e-4 / (1.0 - 1e-4), rel=1e-6)
    assert (weights[500:] == 1.0).all()
    assert (weights[1:].diff() >= 0.0).all()


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan")])
def test_gamma_is_positive(gamma: float) -> None:
    with pytest.raises(ValueError, match="min_snr_gamma is"):
        min_snr_weights(NoiseSchedule.linear(T), gamma=gamma)
