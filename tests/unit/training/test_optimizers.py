"""Muon against the singular value decomposition, and what it leaves to AdamW."""

import pytest
import torch
from torch import Tensor, nn

from neural_photo_editor.training.optimizers import muon


def _parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return parameter


def _orthogonal(gradient: Tensor) -> Tensor:
    """U V^T of the matrix of output channels by the rest."""
    u, _, v = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    return (u @ v).view_as(gradient)


@pytest.mark.parametrize("shape", [(32, 64, 3, 3), (96, 32), (64, 64, 1, 1)])
def test_a_hidden_weight_moves_along_the_nearest_orthogonal_matrix(shape: tuple[int, ...]) -> None:
    weight = _parameter(*shape)
    assert weight.grad is not None
    expected = _orthogonal(weight.grad)
    muon([weight], lr=0.1, adamw_lr=0.0, momentum=0.0).step()
    rows, columns = len(weight), weight.numel() // len(weight)
    step = -weight.detach() / (0.1 * max(1.0, rows / columns) ** 0.5)
    # Five Newton-Schulz steps leave singular values of about 0.7 to 1.2 (Jordan et al. 2024).
    singular_values = torch.linalg.svdvals(step.flatten(1))
    # Directions without any gradient, as a square matrix may have, stay without.
    assert float(singular_values.quantile(0.1)) > 0.6
    assert float(singular_values.max()) < 1.3
    cosine = torch.nn.functional.cosine_similarity(step.flatten(), expected.flatten(), dim=0)
    assert float(cosine) > 0.95


def test_the_length_of_the_gradient_does_not_matter() -> None:
    short, long = _parameter(48, 48), _parameter(48, 48)
    assert long.grad is not None
    long.grad *= 1000.0
    for weight in (short, long):
        muon([weight], lr=0.1, adamw_lr=0.0).step()
    torch.testing.assert_close(short, long, rtol=0.02, atol=2e-3)


def test_biases_and_outer_layers_step_like_adamw() -> None:
    ours = [_parameter(64), _parameter(32, 3, 3, 3, seed=1), _parameter(3, 64, 3, 3, seed=2)]
    torchs = [_parameter(64), _parameter(32, 3, 3, 3, seed=1), _parameter(3, 64, 3, 3, seed=2)]
    optimizers = [
        muon(ours, lr=0.5, adamw_lr=0.01, adamw_betas=(0.9, 0.99)),
        torch.optim.AdamW(torchs, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_stopped_run_continues_with_the_same_steps() -> None:
    def run(weight: nn.Parameter, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            weight.grad = torch.randn((40, 40), generator=torch.Generator().manual_seed(step))
            optimizer.step()

    whole = _parameter(40, 40)
    run(whole, muon([whole], lr=0.1, adamw_lr=0.1), range(6))
    part = _parameter(40, 40)
    first = muon([part], lr=0.1, adamw_lr=0.1)
    run(part, first, range(3))
    second = muon([part], lr=0.1, adamw_lr=0.1)
    second.load_state_dict(first.state_dict())
    run(part, second, range(3, 6))
    assert torch.equal(part, whole)


@pytest.mark.parametrize("changes", [{"lr": -1.0}, {"adamw_lr": -1.0}, {"momentum": 1.5}])
def test_values_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"lr|momentum"):
        muon([_parameter(40, 40), _parameter(40)], **{"lr": 0.1, "adamw_lr": 0.1, **changes})
