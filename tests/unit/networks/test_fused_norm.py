"""The fused operation against torch's own, in float64 and bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neural_photo_editor.networks.fused_norm import GroupNormSiLU, _GroupNormSiLU


def gradients(
    x: Tensor, norm: GroupNormSiLU, *, reference: bool, dy: Tensor
) -> tuple[Tensor, list[Tensor]]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    if reference:
        y = F.silu(F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps))
    else:
        y = norm(x)
    return y, list(torch.autograd.grad(y, [x, norm.weight, norm.bias], dy))


def make(num_images: int, channels: int, side: int) -> tuple[Tensor, GroupNormSiLU, Tensor]:
    torch.manual_seed(num_images)
    norm = GroupNormSiLU(4, channels, eps=1e-3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, dy = torch.randn(2, num_images, channels, side, side + 1).double()
    x = 1.5 * x + torch.randn(channels, 1, 1)
    return x.to(memory_format=torch.channels_last), norm, dy


@pytest.mark.parametrize("shape", [(1, 8, 5), (3, 12, 4), (2, 4, 1), (2, 32, 9)])
def test_float32_equals_a_float64_reference(shape: tuple[int, int, int]) -> None:
    x, norm, dy = make(*shape)
    expected = gradients(x, norm.double(), reference=True, dy=dy)
    norm.float()
    y, grads = gradients(x.float(), norm, reference=False, dy=dy.float())
    torch.testing.assert_close(y.double(), expected[0], atol=1e-5, rtol=1e-4)
    for actual, wanted in zip(grads, expected[1], strict=True):
        torch.testing.assert_close(actual.double(), wanted, atol=3e-5, rtol=1e-4)


def test_bfloat16_is_as_close_as_torchs() -> None:
    x, norm, dy = make(4, 32, 8)
    expected = gradients(x, norm.double(), reference=True, dy=dy)
    norm.float()
    low = x.bfloat16(), norm
    ours = gradients(*low, reference=False, dy=dy.bfloat16())
    assert ours[0].dtype == torch.bfloat16
    assert [g.dtype for g in ours[1]] == [torch.bfloat16, torch.float32, torch.float32]
    for actual, wanted in zip([ours[0], *ours[1]], [expected[0], *expected[1]], strict=True):
        assert (actual.double() - wanted).norm() < 0.02 * wanted.norm()


def test_a_large_mean_does_not_cost_precision() -> None:
    x, norm, _ = make(2, 8, 6)
    x = x + 50
    expected = F.silu(F.group_norm(x, 4, norm.double().weight, norm.bias, norm.eps))
    actual = norm.float()(x.float())
    torch.testing.assert_close(actual.double(), expected, atol=1e-3, rtol=1e-3)


def test_gradient_of_another_memory_format_is_accepted() -> None:
    x, norm, dy = make(2, 8, 6)
    x, dy = x.float(), dy.float()
    strided = gradients(x, norm, reference=False, dy=dy.contiguous())[1]
    same = gradients(x, norm, reference=False, dy=dy.to(memory_format=torch.channels_last))[1]
    for a, b in zip(strided, same, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_without_gradients_the_result_is_the_same() -> None:
    x, norm, _ = make(2, 8, 6)
    x = x.float()
    expected = norm(x)
    with torch.no_grad():
        actual = norm(x)
    torch.testing.assert_close(actual, expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("with_offset", [True, False])
def test_gradients_are_those_of_its_values(with_offset: bool) -> None:
    x, norm, _ = make(2, 8, 3)
    norm.double()
    offset = torch.randn(2, 8).double() if with_offset else None
    values = [x, offset, norm.weight, norm.bias]
    inputs = [None if value is None else value.detach().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(
        lambda x, offset, weight, bias: _GroupNormSiLU.apply(x, offset, weight, bias, 4, 1e-3),
        inputs,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_offset_is_added_before_everything_else(dtype: torch.dtype) -> None:
    x, norm, dy = make(3, 8, 5)
    offset = torch.randn(3, 8).double()

    def run(x: Tensor, offset: Tensor, norm: GroupNormSiLU, *, apart: bool) -> list[Tensor]:
        x, offset = x.detach().requires_grad_(), offset.detach().requires_grad_()
        y = norm(x + offset[:, :, None, None]) if apart else norm(x, offset)
        return [y, *torch.autograd.grad(y, [x, offset, norm.weight, norm.bias], dy.to(y.dtype))]

    expected = run(x.contiguous(), offset, norm.double(), apart=True)
    actual = run(x.to(dtype), offset.to(dtype), norm.float(), apart=False)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for ours, wanted in zip(actual, expected, strict=True):
        assert (ours.double() - wanted).norm() < tolerance * wanted.norm()
    assert actual[2].dtype == dtype


def test_an_offset_counts_in_torchs_own_operations_too() -> None:
    x, norm, _ = make(2, 8, 5)
    x, offset = x.float(), torch.randn(2, 8)
    fused = norm(x, offset)
    with torch.no_grad():
        torch.testing.assert_close(norm(x, offset), fused.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm(x.contiguous(), offset), fused, atol=1e-5, rtol=1e-4)


def test_other_devices_keep_nothing_but_the_input() -> None:
    norm = GroupNormSiLU(4, 32, eps=1e-5).to("meta")
    x = torch.empty(2, 32, 16, 16, device="meta", requires_grad=True)
    offset = torch.empty(2, 32, device="meta", requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = norm(x, offset)
    y.sum().backward()

    assert not [tensor for tensor in kept if tensor.shape == x.shape and tensor is not x]
    assert [v.grad is not None for v in (x, offset, norm.weight)] == [True, True, True]
