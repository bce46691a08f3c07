"""Group normalization and SiLU as one differentiable operation, for training on CPUs."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNormSiLU(nn.GroupNorm):
    """Group normalization (Wu & He 2018, Eq. 1) followed by SiLU.

    On channels_last tensors of a CPU, training uses an operation of our own: in bfloat16, torch's
    takes two to five times as long. It also keeps one tensor less for the backward pass (the value
    between the two). Elsewhere, and without gradients, torch's operations run.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: float, (N, C, H, W). Returns the same shape and dtype."""
        if not torch.is_grad_enabled() or x.device.type != "cpu" or x.is_contiguous():
            z = F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
            return F.silu(z, inplace=not torch.is_grad_enabled())
        apply: Callable[..., Tensor] = _GroupNormSiLU.apply
        return apply(x, self.weight, self.bias, self.num_groups, self.eps)


class _GroupNormSiLU(torch.autograd.Function):
    """Per pixel there are multiply-adds only; the rest is (N, C) or smaller.

    z = x_hat * weight + bias, where x_hat = (x - mean) * rstd, is written x * scale + shift.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float
    ) -> Tensor:
        mean, rstd = _group_statistics(x, num_groups, eps)
        scale = _per_pixel(rstd * weight, x)
        shift = _per_pixel(bias - mean * rstd * weight, x)
        ctx.save_for_backward(x, weight, mean, rstd, scale, shift)
        ctx.num_groups = num_groups
        return F.silu(torch.addcmul(shift, x, scale), inplace=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, rstd, scale, shift = ctx.saved_tensors
        # z is cheaper to compute again than to keep.
        z = torch.addcmul(shift, x, scale)
        dz = torch.ops.aten.silu_backward.grad_input(dy, z, grad_input=z)
        sum_dz, sum_dz_x_hat = _pixel_sums(dz, x, mean, rstd)

        # dx = rstd * (weight * dz - E[weight * dz] - x_hat * E[weight * dz * x_hat]), where E is
        # the mean over a group's channels and pixels.
        num_pixels = x.shape[2] * x.shape[3]
        mean_dz = _group_mean(weight * sum_dz, ctx.num_groups) / num_pixels
        mean_dz_x_hat = _group_mean(weight * sum_dz_x_hat, ctx.num_groups) / num_pixels
        scale_x = -rstd.square() * mean_dz_x_hat
        shift_dx = -rstd * mean_dz - scale_x * mean
        dx = torch.addcmul(_per_pixel(shift_dx, x), x, _per_pixel(scale_x, x)).addcmul_(dz, scale)
        return dx, sum_dz_x_hat.sum(0), sum_dz.sum(0), None, None


# torch's reductions over pixels convert a bfloat16 tensor to float32 first. The two inside batch
# normalization do not, and they return float32 per channel: called image by image they are what
# group normalization needs.


def _group_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal standard deviation of each channel's group, float32 (N, C)."""
    images = [torch.batch_norm_update_stats(image, None, None, 0.0) for image in torch.split(x, 1)]
    means, variances = (torch.stack(parts) for parts in zip(*images, strict=True))
    mean = _group_mean(means, num_groups)
    variance = _group_mean(variances + (means - mean).square(), num_groups)
    return mean, (variance + eps).rsqrt()


def _pixel_sums(dz: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the pixels of dz and of dz * x_hat, float32 (N, C)."""
    images = [
        torch.ops.aten.native_batch_norm_backward(
            *image, None, None, None, image_mean, image_rstd, True, 0.0, [False, True, True]
        )
        for *image, image_mean, image_rstd in zip(
            torch.split(dz, 1), torch.split(x, 1), mean.unbind(), rstd.unbind(), strict=True
        )
    ]
    _, sum_dz_x_hat, sum_dz = zip(*images, strict=True)
    return torch.stack(sum_dz), torch.stack(sum_dz_x_hat)


def _group_mean(values: Tensor, num_groups: int) -> Tensor:
    """(N, C) -> (N, C), each channel holding the mean over its group's channels."""
    groups = values.view(len(values), num_groups, -1)
    return groups.mean(2, keepdim=True).expand_as(groups).flatten(1)


def _per_pixel(values: Tensor, like: Tensor) -> Tensor:
    """(N, C) -> (N, C, 1, 1) in the dtype of `like`."""
    return values.to(like.dtype)[:, :, None, None]
