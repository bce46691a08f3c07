"""Group normalization and SiLU as one differentiable operation, for training on CPUs."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class GroupNormSiLU(nn.GroupNorm):
    """Group normalization (Wu & He 2018, Eq. 1) followed by SiLU.

    On channels_last tensors of a CPU, training uses an operation of our own: in bfloat16, torch's
    takes two to five times as long. It also keeps one tensor less for the backward pass (the value
    between the two). On GPUs, where autocast computes both in float32, the backward pass computes
    them again instead of keeping them, unless torch.compile has decided. Elsewhere, and without
    gradients, torch's operations run.
    """

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """x: float, (N, C, H, W); offset: (N, C), added to every pixel of x before anything else.

        Returns the shape of x, and its dtype but under autocast of a GPU: float32.
        """
        on_cpu = x.device.type == "cpu"
        if torch.is_grad_enabled() and on_cpu and not x.is_contiguous():
            apply: Callable[..., Tensor] = _GroupNormSiLU.apply
            return apply(x, offset, self.weight, self.bias, self.num_groups, self.eps)
        if torch.is_grad_enabled() and not on_cpu and not torch.compiler.is_compiling():
            computed_again: Tensor = checkpoint(
                self._with_torch, x, offset, use_reentrant=False, preserve_rng_state=False
            )
            return computed_again
        return self._with_torch(x, offset)

    def _with_torch(self, x: Tensor, offset: Tensor | None) -> Tensor:
        x = x if offset is None else x + offset[:, :, None, None]
        z = F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return F.silu(z, inplace=not torch.is_grad_enabled())


class _GroupNormSiLU(torch.autograd.Function):
    """Per pixel there are multiply-adds only; the rest is (N, C) or smaller.

    z = x_hat * weight + bias, where x_hat = (x + offset - mean) * rstd, is written
    x * scale + shift. `center`, which is mean - offset, is all that is left of the offset.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        offset: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        num_groups: int,
        eps: float,
    ) -> Tensor:
        means, center, rstd = _statistics(x, offset, num_groups, eps)
        scale = rstd * weight
        shift = bias - center * scale
        ctx.save_for_backward(x, offset, weight, means, center, rstd, scale, shift)
        ctx.num_groups = num_groups
        y = torch.empty_like(x)
        for n, image in enumerate(torch.split(y, 1)):
            F.silu(_scale_and_shift(x[n : n + 1], scale[n], shift[n], out=image), inplace=True)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, None, None]:
        x, offset, weight, means, center, rstd, scale, shift = ctx.saved_tensors
        dx = torch.empty_like(x)  # Up to the last loop it holds dz.
        sums = []
        for n, dz in enumerate(torch.split(dx, 1)):
            image = x[n : n + 1]
            z = _scale_and_shift(image, scale[n], shift[n], out=dz)  # Cheaper again than kept.
            torch.ops.aten.silu_backward.grad_input(dy[n : n + 1], z, grad_input=dz)
            sums.append(_pixel_sums(dz, image, center[n], rstd[n]))
        sum_dz, sum_dz_x_hat = (torch.stack(parts) for parts in zip(*sums, strict=True))

        # dx = rstd * (weight * dz - E[weight * dz] - x_hat * E[weight * dz * x_hat]), where E is
        # the mean over a group's channels and pixels.
        num_pixels = x.shape[2] * x.shape[3]
        mean_dz = _group_mean(weight * sum_dz, ctx.num_groups) / num_pixels
        mean_dz_x_hat = _group_mean(weight * sum_dz_x_hat, ctx.num_groups) / num_pixels
        scale_x = -rstd.square() * mean_dz_x_hat
        shift_dx = -rstd * mean_dz - scale_x * center
        per_pixel = scale.to(x.dtype)[:, None, :, None, None]
        part = torch.empty_like(x[:1])
        for n, image in enumerate(torch.split(dx, 1)):
            _scale_and_shift(x[n : n + 1], scale_x[n], shift_dx[n], out=part)
            torch.addcmul(part, image, per_pixel[n], out=image)
        d_offset = None
        if offset is not None:
            # The sum of dx over the pixels.
            d_offset = rstd * weight * sum_dz + num_pixels * (shift_dx + scale_x * means)
            d_offset = d_offset.to(offset.dtype)
        return dx, d_offset, sum_dz_x_hat.sum(0), sum_dz.sum(0), None, None


# torch's elementwise operations and reductions over pixels convert a bfloat16 tensor to float32
# and back with every step. Those inside batch normalization do not, and take float32 numbers per
# channel: called image by image they are what group normalization needs.


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor, *, out: Tensor) -> Tensor:
    """x * scale + shift of one image, (1, C, H, W), with float32 (C,) each; returns `out`."""
    unused = scale.new_empty(0)
    torch.ops.aten.native_batch_norm.out(
        x,
        weight=scale,
        bias=shift,
        running_mean=torch.zeros_like(scale),
        running_var=torch.ones_like(scale),
        training=False,
        momentum=0.0,
        eps=0.0,
        out=out,
        save_mean=unused,
        save_invstd=unused,
    )
    return out


def _statistics(
    x: Tensor, offset: Tensor | None, num_groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Each channel's mean; mean of its group less its offset; reciprocal standard deviation.

    All are float32 (N, C); mean and deviation of a group are those of x + offset.
    """
    images = [torch.batch_norm_update_stats(image, None, None, 0.0) for image in torch.split(x, 1)]
    means, variances = (torch.stack(parts) for parts in zip(*images, strict=True))
    shifted = means if offset is None else means + offset
    mean = _group_mean(shifted, num_groups)
    variance = _group_mean(variances + (shifted - mean).square(), num_groups)
    center = mean if offset is None else mean - offset
    return means, center, (variance + eps).rsqrt()


def _pixel_sums(dz: Tensor, x: Tensor, center: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the pixels of an image, (1, C, H, W), of dz and of dz * x_hat: float32 (C,)."""
    _, sum_dz_x_hat, sum_dz = torch.ops.aten.native_batch_norm_backward(
        dz, x, None, None, None, center, rstd, True, 0.0, [False, True, True]
    )
    return sum_dz, sum_dz_x_hat


def _group_mean(values: Tensor, num_groups: int) -> Tensor:
    """(N, C) -> (N, C), each channel holding the mean over its group's channels."""
    groups = values.view(len(values), num_groups, -1)
    return groups.mean(2, keepdim=True).expand_as(groups).flatten(1)
