"""Adversarial losses against their logarithms."""

import math

import pytest
import torch

from neural_photo_editor.losses.adversarial import (
    discriminator_loss,
    generator_loss,
    relative_logits,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_equal_their_definition() -> None:
    real, fake = [1.5, -0.5, 0.25], [-2.0, 0.75, 3.0]
    expected_generator = -sum(math.log(sigmoid(f)) for f in fake) / 3
    expected_discriminator = (
        -sum(math.log(sigmoid(r)) for r in real) / 3
        - sum(math.log(1 - sigmoid(f)) for f in fake) / 3
    ) / 2
    maps = [torch.tensor(v).view(1, 1, 1, 3) for v in (real, fake)]
    assert generator_loss(maps[1]).item() == pytest.approx(expected_generator, rel=1e-6)
    assert discriminator_loss(*maps).item() == pytest.approx(expected_discriminator, rel=1e-6)


def test_the_two_pull_in_opposite_directions() -> None:
    fake = torch.zeros(4, requires_grad=True)
    (up,) = torch.autograd.grad(generator_loss(fake), fake)
    (down,) = torch.autograd.grad(discriminator_loss(torch.zeros(4), fake), fake)
    assert (up < 0).all()
    assert (down > 0).all()


def test_relativistic_losses_equal_their_definition() -> None:
    """ESRGAN, Eq. 1 and 2, each the mean of its two halves."""
    real, fake = [1.5, -0.5, 0.25], [-2.0, 0.75, 3.0]
    mean_real, mean_fake = sum(real) / 3, sum(fake) / 3
    d_real = [sigmoid(r - mean_fake) for r in real]
    d_fake = [sigmoid(f - mean_real) for f in fake]
    expected_discriminator = (
        -sum(math.log(d) for d in d_real) / 3 - sum(math.log(1 - d) for d in d_fake) / 3
    ) / 2
    expected_generator = (
        -sum(math.log(1 - d) for d in d_real) / 3 - sum(math.log(d) for d in d_fake) / 3
    ) / 2
    maps = [torch.tensor(v) for v in (real, fake)]
    relative = relative_logits(*maps, mean_real=maps[0].mean(), mean_fake=maps[1].mean())
    assert discriminator_loss(*relative).item() == pytest.approx(expected_discriminator, rel=1e-6)
    exchanged = discriminator_loss(*reversed(relative))
    assert exchanged.item() == pytest.approx(expected_generator, rel=1e-6)


def test_finite_for_extreme_bfloat16_logits() -> None:
    extreme = torch.tensor([-300.0, 300.0]).bfloat16()
    assert torch.isfinite(generator_loss(extreme))
    assert discriminator_loss(extreme, extreme).dtype == torch.float32
