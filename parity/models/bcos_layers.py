"""Layers of the package ``bcos`` with a training step of fewer passes over their features; it must be installed.

Most of a B-cos network's time goes into arithmetic on single numbers: dividing by norms, and by standard deviations,
and the gradients of both. What is computed is the same, up to rounding, in less than half the passes. Explanations,
evaluation and exports take the package's own way.
"""

from typing import Any

import torch
from bcos.modules import BcosConv2d
from bcos.modules.norms import BatchNormUncentered2d
from torch import Tensor
from torch.autograd.function import once_differentiable

_STABLE = 1e-6
"""What ``bcos`` adds to the squared norm of a patch."""


class _ScaledByCosine(torch.autograd.Function):
    """out |out| / norm: (B, C, H, W), (B, 1, H, W) -> (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, norm: Tensor) -> Tensor:
        inverse = norm.reciprocal()
        ctx.save_for_backward(out, inverse)
        return (out.abs() * inverse).mul_(out)  # in this order: of 16 bits the square may be too large, or nothing

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        out, inverse = ctx.saved_tensors
        scaled = (gradient * inverse).mul_(out.abs())
        return 2 * scaled, -inverse * (scaled * out).sum(1, keepdim=True)


class _SquaredNorm(torch.autograd.Function):
    """Sum of squares over channels: (B, C, H, W) -> (B, 1, H, W)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return features.square().sum(1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        [features] = ctx.saved_tensors
        return features * (2 * gradient)


class _Normalised(torch.autograd.Function):
    """features weight / std, by the batch's own statistics: (B, C, H, W), (C,) -> (B, C, H, W), variance (C,)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        mean = features.mean((0, 2, 3))
        variance = (features - mean[:, None, None]).square().mean((0, 2, 3))
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(features, weight, mean, inverse)
        ctx.mark_non_differentiable(variance)
        return features * (weight * inverse)[:, None, None], variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weight, mean, inverse = ctx.saved_tensors
        scale_gradient = (gradient * features).sum((0, 2, 3))
        through_variance = -scale_gradient * weight * inverse**3 * (mean.numel() / features.numel())
        found = gradient * (weight * inverse)[:, None, None]
        found.addcmul_(features, through_variance[:, None, None])
        return found.sub_((through_variance * mean)[:, None, None]), scale_gradient * inverse, None


def _wide(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))  # half the digits are too few for sums


class FastBcosConv2d(BcosConv2d):
    """``BcosConv2d``: (B, C, H, W) -> (B, out_channels, H', W')."""

    def _is_plain(self) -> bool:
        """Whether this is a training step of a layer whose patches have one norm for all outputs."""
        return self.training and self.groups == 1 and self.linear.dilation == (1, 1)

    def forward_impl(self, in_tensor: Tensor) -> Tensor:
        if not self._is_plain() or self.detach or self.b != 2:
            return super().forward_impl(in_tensor)
        out = self.linear(in_tensor)
        if self.max_out > 1:
            out = out.unflatten(1, (self.out_channels, self.max_out)).amax(2)
        return _ScaledByCosine.apply(out, self.calc_patch_norms(in_tensor))

    def calc_patch_norms(self, in_tensor: Tensor) -> Tensor:
        if not self._is_plain():
            return super().calc_patch_norms(in_tensor)
        squares = _SquaredNorm.apply(_wide(in_tensor))
        squares = torch.nn.functional.avg_pool2d(squares, self.kernel_size, self.stride, self.padding)
        return (squares * self.patch_size + _STABLE).sqrt()


class FastBatchNormUncentered2d(BatchNormUncentered2d):
    """``BatchNormUncentered2d``: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        tracked = self.track_running_stats and self.momentum is not None
        if not self.training or self.detach or self.weight is None or self.bias is not None or not tracked:
            return super().forward(features)
        normalised, variance = _Normalised.apply(_wide(features), self.weight, self.eps)
        self.num_batches_tracked.add_(1)
        self.running_var.lerp_(variance, self.momentum)
        return normalised.to(features.dtype)
