from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from neural_photo_editor.diffusion.noise import training_noise
from neural_photo_editor.diffusion.objective import min_snr_weights
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.training.ddpm_module import DDPMModule
from neural_photo_editor.training.portrait_module import Batch

SHAPE = (3, 32, 32)


def make_module(rates: dict[str, Any], **settings: Any) -> DDPMModule:
    torch.manual_seed(0)
    network = DenoisingUNet(
        widths=(16, 16), blocks_per_level=1, attention_levels=(), head_dim=16, num_groups=4
    )
    settings = {"schedule": NoiseSchedule.linear(100), "resolution": 32, "seed": 7, **settings}
    return DDPMModule(network, **rates, **settings)


def test_logged_losses_are_those_of_the_derived_noise(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    """The untrained network answers 0, so that its loss is the mean square of the noise."""
    rates["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    module = make_module(rates, num_samples=1)
    metrics = fit(module, max_steps=6).callback_metrics
    # Two epochs of three batches.
    t, eps = (
        torch.cat(parts)
        for parts in zip(
            *(
                training_noise(7, epoch=epoch, sample_ids=range(12), shape=SHAPE, num_timesteps=100)
                for epoch in (0, 1)
            ),
            strict=True,
        )
    )
    losses = eps.square().mean(dim=(1, 2, 3))
    assert float(metrics["train/loss"]) == pytest.approx(float(losses.mean()), rel=1e-5)
    for low in (0, 25, 50, 75):
        chosen = losses[(t > low) & (t <= low + 25)]
        name = f"train/loss_t{low + 1:03d}-{low + 25:03d}"
        assert float(metrics[name]) == pytest.approx(float(chosen.mean()), rel=1e-5)


def test_timesteps_are_weighted_in_the_objective_alone(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    """Of an untrained network, which answers 0; the losses by timestep stay mean squares."""
    rates["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    plain = fit(make_module(rates, num_samples=1), max_steps=3).callback_metrics
    module = make_module(rates, num_samples=1, min_snr_gamma=5.0)
    weighted = fit(module, max_steps=3).callback_metrics
    t, eps = training_noise(7, epoch=0, sample_ids=range(12), shape=SHAPE, num_timesteps=100)
    weights = min_snr_weights(module.schedule, gamma=5.0)[t]
    expected = (weights * eps.square().mean(dim=(1, 2, 3))).mean()
    assert float(weighted["train/loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(plain["train/loss"]) > 1.2 * float(expected)
    others = [name for name in plain if name.startswith(("train/loss_t", "val/loss"))]
    assert len(others) == 5
    for name in others:
        assert float(weighted[name]) == float(plain[name])
    with pytest.raises(ValueError, match="min_snr_gamma is 0"):
        make_module(rates, min_snr_gamma=0.0)


def test_a_samples_loss_does_not_depend_on_its_batch(
    rates: dict[str, Any], batches: list[Batch]
) -> None:
    module = make_module(rates).eval()
    torch.nn.init.normal_(module.network.conv_out.weight, std=0.05)
    together, t = module._losses(batches[0], seed=7, epoch=3)
    order = torch.tensor([2, 0])
    apart, t_apart = module._losses(
        {name: value[order] for name, value in batches[0].items()}, seed=7, epoch=3
    )
    torch.testing.assert_close(apart, together[order])
    assert t_apart.tolist() == t[order].tolist()
    assert module._losses(batches[0], seed=7, epoch=4)[1].tolist() != t.tolist()


def test_validation_repeats_its_noise(rates: dict[str, Any], fit: Callable[..., Trainer]) -> None:
    rates["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    losses = [
        float(fit(make_module(rates), max_steps=steps).callback_metrics["val/loss"])
        for steps in (1, 4)
    ]
    assert losses[0] == losses[1]


def test_training_lowers_the_loss(rates: dict[str, Any], fit: Callable[..., Trainer]) -> None:
    metrics = fit(make_module(rates), max_steps=60).callback_metrics
    assert float(metrics["val/loss"]) < 0.8  # An answer of 0 has 1.


def test_samples_are_a_square_grid_that_repeats(
    rates: dict[str, Any], batches: list[Batch]
) -> None:
    module = make_module(rates, num_samples=5, sample_steps=2).eval()
    with torch.no_grad():
        first, second = module.make_samples(batches[0]), module.make_samples(batches[0])
    assert first.shape == (2, 2, *SHAPE)
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)


def test_samples_start_from_the_photos_color(rates: dict[str, Any], batches: list[Batch]) -> None:
    """The schedule leaves sqrt(alpha_bar_T) of it at T, and the untrained network all the rest."""
    white = {"image": torch.full_like(batches[0]["image"], 255)}
    module = make_module(rates, num_samples=1, sample_steps=1).eval()
    module.schedule = NoiseSchedule.linear(100, 1e-2, 5e-2)  # eps = 0: x_0 = x_T / sqrt(alpha_bar)
    black = {"image": torch.zeros_like(batches[0]["image"])}
    with torch.no_grad():
        light, dark = module.make_samples(white).float(), module.make_samples(black).float()
    assert float((light - dark).mean()) > 40


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sample_steps": 0}, "sample_steps is 0; .* callbacks.samples=null"),
        ({"num_samples": 0}, "num_samples is 0; .* callbacks.samples=null"),
        ({"resolution": 33}, "resolution is 33, .* multiples of 2: set data.resolution"),
    ],
)
def test_what_would_fail_in_the_training_is_refused(
    settings: dict[str, int], named: str, rates: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=named):
        make_module(rates, **settings)


def test_metadata_carries_the_schedule(rates: dict[str, Any]) -> None:
    assert make_module(rates).artifact_metadata() == {
        "kind": "denoiser",
        "resolution": 32,
        "schedule": NoiseSchedule.linear(100).to_spec(),
        "scale": None,
    }


def test_gradients_are_clipped_and_their_norm_before_that_is_logged(
    rates: dict[str, Any], batches: list[Batch], fit: Callable[..., Trainer]
) -> None:
    module = make_module(rates, gradient_clip_norm=0.01)
    norms: list[float] = []
    module.on_before_zero_grad = lambda optimizer: norms.append(  # type: ignore[method-assign]
        float(
            sum(p.grad.square().sum() for p in module.network.parameters() if p.grad is not None)
            ** 0.5
        )
    )
    metrics = fit(module, max_steps=2).callback_metrics
    assert norms[-1] == pytest.approx(0.01, rel=1e-3)
    assert float(metrics["train/grad_norm"]) > 0.1
    with pytest.raises(ValueError, match="gradient_clip_norm is 0"):
        make_module(rates, gradient_clip_norm=0)


@pytest.mark.parametrize("num_timesteps", [50, 101, 500])
def test_losses_are_counted_under_the_name_of_their_timestep(
    rates: dict[str, Any], num_timesteps: int
) -> None:
    module = make_module(rates, schedule=NoiseSchedule.linear(num_timesteps))
    batch = {
        "image": torch.zeros(4 * num_timesteps, 3, 1, 1, dtype=torch.uint8),
        "sample_id": torch.arange(4 * num_timesteps),
    }
    t = torch.arange(4 * num_timesteps) % num_timesteps + 1
    module._losses = lambda *_, **__: (t.float(), t)  # type: ignore[method-assign]
    module.training_step(batch, 0)
    means = module.means.pop(lambda total: total)
    for name, mean in means.items():
        if name.startswith("train/loss_t"):
            low, high = map(int, name.removeprefix("train/loss_t").split("-"))
            assert mean == (low + high) / 2
