"""The forward process against diffusers, its inverse, and noise that ignores its surroundings."""

import pytest
import torch
from diffusers import DDPMScheduler

from neural_photo_editor.diffusion import noise
from neural_photo_editor.diffusion.noise import sample_noise, training_noise
from neural_photo_editor.diffusion.objective import denoising_loss
from neural_photo_editor.diffusion.process import add_noise, predict_x_0, training_target
from neural_photo_editor.diffusion.schedule import NoiseSchedule, Prediction

SCHEDULE = NoiseSchedule.linear()


def _images(n: int) -> torch.Tensor:
    return torch.rand((n, 3, 4, 4), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_add_noise_agrees_with_diffusers() -> None:
    x_0, eps = _images(5), sample_noise(1, "eps", shape=(5, 3, 4, 4))
    t = torch.tensor([1, 2, 200, 499, 500])
    reference = DDPMScheduler(num_train_timesteps=500, beta_start=1e-4, beta_end=2e-2)
    expected = reference.add_noise(x_0, eps, t - 1)
    torch.testing.assert_close(add_noise(x_0, t=t, eps=eps, schedule=SCHEDULE), expected)


def test_timestep_zero_is_the_image_exactly() -> None:
    x_0 = _images(2)
    eps = sample_noise(2, "eps", shape=(2, 3, 4, 4))
    t = torch.zeros(2, dtype=torch.int64)
    assert torch.equal(add_noise(x_0, t=t, eps=eps, schedule=SCHEDULE), x_0)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_predict_x_0_inverts_add_noise_and_training_target(prediction: Prediction) -> None:
    schedule = NoiseSchedule.linear(prediction=prediction)
    x_0, eps = _images(4), sample_noise(3, "eps", shape=(4, 3, 4, 4))
    t = torch.tensor([1, 100, 300, 500])
    x_t = add_noise(x_0, t=t, eps=eps, schedule=schedule)
    output = training_target(x_0, t=t, eps=eps, schedule=schedule)
    recovered = predict_x_0(x_t, t=t, output=output, schedule=schedule)
    torch.testing.assert_close(recovered, x_0, atol=1e-5, rtol=0)


def test_v_agrees_with_diffusers() -> None:
    x_0, eps = _images(4), sample_noise(4, "eps", shape=(4, 3, 4, 4))
    t = torch.tensor([1, 100, 300, 500])
    reference = DDPMScheduler(num_train_timesteps=500, beta_start=1e-4, beta_end=2e-2)
    schedule = NoiseSchedule.linear(prediction="v")
    target = training_target(x_0, t=t, eps=eps, schedule=schedule)
    torch.testing.assert_close(target, reference.get_velocity(x_0, eps, t - 1))


def test_tables_made_under_inference_mode_serve_training() -> None:
    schedule = NoiseSchedule.linear(17)
    x_0, t = _images(1), torch.tensor([9])
    with torch.inference_mode():
        add_noise(x_0, t=t, eps=x_0, schedule=schedule)
    weight = torch.ones((), requires_grad=True)
    loss = denoising_loss(lambda x, _: x * weight, x_0, t=t, eps=x_0, schedule=schedule)
    loss.sum().backward()
    assert weight.grad is not None


def test_noise_depends_on_seed_and_keys_alone() -> None:
    first = sample_noise(7, "known", 3, shape=(3, 8, 8))
    torch.manual_seed(0)
    assert torch.equal(first, sample_noise(7, "known", 3, shape=(3, 8, 8)))
    for other in [(8, "known", 3), (7, "known", 4), (7, "start", 3)]:
        assert not torch.equal(first, sample_noise(*other, shape=(3, 8, 8)))


def test_noise_is_standard_normal() -> None:
    noise = sample_noise(0, "check", shape=(100_000,))
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1.0) < 0.01


def test_training_noise_of_a_sample_ignores_its_batch() -> None:
    together = training_noise(
        5, epoch=2, sample_ids=torch.tensor([10, 11, 12]), shape=(3, 4, 4), num_timesteps=500
    )
    alone = training_noise(5, epoch=2, sample_ids=[12], shape=(3, 4, 4), num_timesteps=500)
    assert together[0][2] == alone[0][0]
    assert torch.equal(together[1][2], alone[1][0])
    later = training_noise(5, epoch=3, sample_ids=[12], shape=(3, 4, 4), num_timesteps=500)
    assert not torch.equal(later[1], alone[1])


def test_training_timesteps_cover_the_whole_range() -> None:
    t, _ = training_noise(0, epoch=0, sample_ids=range(400), shape=(1,), num_timesteps=4)
    counts = torch.bincount(t, minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 70


def test_training_noise_is_the_same_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        return training_noise(
            3, epoch=1, sample_ids=range(64), shape=(3, 32, 32), num_timesteps=500
        )

    expected = draw()
    monkeypatch.setitem(noise._DRAWING_THREADS, "cpu", 8)
    for one, other in zip(draw(), expected, strict=True):
        assert torch.equal(one, other)


def test_denoising_loss_is_per_item_mean_square() -> None:
    x_0, eps = _images(3), sample_noise(4, "eps", shape=(3, 3, 4, 4))
    t = torch.tensor([1, 250, 500])
    offsets = torch.tensor([0.0, 1.0, -2.0]).reshape(3, 1, 1, 1)
    loss = denoising_loss(
        lambda x, _: (eps + offsets).bfloat16(), x_0, t=t, eps=eps, schedule=SCHEDULE
    )
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0, 4.0]), atol=2e-2, rtol=0)
