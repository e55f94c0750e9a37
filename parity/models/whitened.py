"""A convolutional network that is trained within few epochs: a whitened first layer, and identities to start from."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from parity.errors import ParityError

_KERNEL = 2
_SCALE = 1 / 9
_NOISE = 5e-5
"""Least variance of a direction, as a share of the largest: others would be noise, blown up."""

_FASTER = 64
"""Biases learn so many times as fast as weights (section 3.4)."""


class WhitenedConvolution(nn.Module):
    """Rotates patches of 2 x 2 pixels to directions without correlation, of variance 1: (B, C, H, W) -> (B, 8 C, ...).

    The directions are those of the first batch that it is trained on, and are not trained themselves; each one comes
    with its opposite, for the activation that follows. Only a bias is trained.

    Args:
        in_channels: channels C of the input.
    """

    weight: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        numbers = in_channels * _KERNEL**2
        self.register_buffer("weight", _as_they_are(in_channels))
        self.bias = nn.Parameter(torch.zeros(2 * numbers))
        self.whitened = False
        self.register_load_state_dict_post_hook(_see_what_was_loaded)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and not self.whitened and torch.is_grad_enabled():
            self.whiten(images.detach())
        return functional.conv2d(images, self.weight, self.bias)

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Take the directions of these images, (B, C, H, W), unless they are all the same colour; of rank 0's."""
        with torch.autocast(images.device.type, enabled=False):
            patches = functional.unfold(images.float(), _KERNEL).transpose(1, 2).flatten(0, 1)
            covariance = patches.T.cov(correction=0)
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(covariance, 0)
        variances, directions = torch.linalg.eigh(covariance.cpu().double())
        if variances[-1] <= 0:
            return
        scaled = directions / (variances.clamp(min=0) + _NOISE * variances[-1]).sqrt()
        scaled = scaled.T.flip(0).view_as(self.weight[: len(variances)])
        self.weight.copy_(torch.cat([scaled, -scaled]))
        self.whitened = True


def _as_they_are(channels: int) -> Tensor:
    """Return the weights that leave patches as they are, beside their opposites."""
    numbers = channels * _KERNEL**2
    start = torch.eye(numbers).view(numbers, channels, _KERNEL, _KERNEL)
    return torch.cat([start, -start])


def _see_what_was_loaded(layer: Any, _: Any) -> None:
    layer.whitened = not torch.equal(layer.weight.cpu(), _as_they_are(layer.weight.shape[1]).to(layer.weight.dtype))


class WhitenedConvNet(nn.Module):
    """A whitened layer, blocks that each halve the image, the largest value of each channel, one linear layer.

    The network of Jordan: "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv 2404.00498, section 3). A block is
    convolution, max-pooling, norm, bias, GELU, convolution, norm, bias, GELU; norms have no scales that could be
    decayed. As many channels as a convolution has inputs start as the identity.

    Args:
        query_shape: shape Q of a query, (C, H, W), 9 x 9 or larger where there are three blocks.
        prediction_shape: shape P of a prediction, e.g. ``(10,)``.
        widths: channels of each block.

    Raises:
        ParityError: the queries are not images, or too small for so many blocks.
    """

    def __init__(
        self, query_shape: Sequence[int], prediction_shape: Sequence[int], widths: Sequence[int] = (64, 256, 256)
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ParityError(f"WhitenedConvNet has 1 block or more of 1 channel or more, not widths = {widths}.")
        smallest = 2 ** len(widths) + 1
        if len(query_shape) != 3 or min(query_shape[1:]) < smallest:
            raise ParityError(
                f"WhitenedConvNet of {len(widths)} blocks takes images (C, H, W) of {smallest} x {smallest} or larger, "
                f"not queries of shape {tuple(query_shape)}."
            )
        self.whitening = WhitenedConvolution(query_shape[0])
        channels = len(self.whitening.bias)
        blocks = []
        for width in widths:
            blocks.append(_block(channels, width))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, math.prod(prediction_shape), bias=False)
        self.prediction_shape = tuple(prediction_shape)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as ResNet

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        features = self.blocks(functional.gelu(self.whitening(queries)))
        return (self.fc(features.amax((2, 3))) * _SCALE).view(queries.shape[0], *self.prediction_shape)

    def channel_axes(self) -> dict[str, tuple[str | None, ...]]:
        """Return which channels the axes of each weight run over; see ``parity.models.pruning``."""
        axes: dict[str, tuple[str | None, ...]] = {}
        before = channels = None
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Conv2d):
                before, channels = channels, name
                axes[f"blocks.{name}.weight"] = (channels, before)
            elif isinstance(module, nn.BatchNorm2d):
                axes |= {f"blocks.{name}.{part}": (channels,) for part in ("running_mean", "running_var")}
            elif isinstance(module, _Bias):
                axes[f"blocks.{name}.bias"] = (channels,)
        return axes | {"fc.weight": (None, channels)}


class _Bias(nn.Module):
    """Adds a bias to each channel, which any optimiser without adaptive steps changes faster than weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        return features + math.sqrt(_FASTER) * self.bias[:, None, None]


def _block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(in_channels, channels),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(channels, momentum=0.4, affine=False),
        _Bias(channels),
        nn.GELU(),
        _convolution(channels, channels),
        nn.BatchNorm2d(channels, momentum=0.4, affine=False),
        _Bias(channels),
        nn.GELU(),
    )


def _convolution(in_channels: int, channels: int) -> nn.Conv2d:
    made = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(made.weight[:in_channels])
    return made
