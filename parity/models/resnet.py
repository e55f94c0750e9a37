"""Residual networks in the form for small images (He et al., CVPR 2016, section 4.2, with ImageNet's widths)."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to the input: (B, C, H, W) -> (B, channels, H / stride, W / stride).

    Args:
        in_channels: channels C of the input.
        channels: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        residual = functional.relu(self.bn1(self.conv1(features)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        return functional.relu(residual + self.downsample(features), inplace=True)


class ResNet(nn.Module):
    """A residual network of basic blocks: 3 x 3 stem without pooling, stages, mean over positions, one linear layer.

    The first stage keeps the image's size, each further one halves it. Modules have torchvision's names.

    ==================================  ===========================================================
    ``blocks``                          the original's
    ==================================  ===========================================================
    (2, 2, 2, 2)                        ResNet-18, for 3 x 32 x 32
    (2, 2, 2)                           ResNet-18 for 1 x 28 x 28, which leaves the last stage out
    (3, 8, 36, 3)                       "ResNet-152" for CIFAR-100, of basic blocks too
    ==================================  ===========================================================

    Args:
        query_shape: shape Q of a query, (C, H, W).
        prediction_shape: shape P of a prediction, e.g. ``(10,)``.
        blocks: number of blocks in each stage.
        widths: channels of each stage; by default 64 in the first and twice as many in each further one.

    Raises:
        ParityError: the queries are not images, or the stages cannot be made.
    """

    # The names of github.com/kuangliu/pytorch-cifar; the original's are torchvision's.
    RENAMED_KEYS: ClassVar[dict[str, str]] = {"linear": "fc", "shortcut": "downsample"}

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        blocks: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if widths is None:
            widths = [64 * 2**stage for stage in range(len(blocks))]
        if len(query_shape) != 3:
            raise ParityError(f"ResNet takes images (C, H, W), not queries of shape {tuple(query_shape)}.")
        if not blocks or min(blocks) < 1 or len(widths) != len(blocks):
            raise ParityError(
                f"ResNet has 1 block or more and one width in each stage, not blocks = {tuple(blocks)} "
                f"and widths = {tuple(widths)}."
            )
        self.conv1 = nn.Conv2d(query_shape[0], widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{number}" for number in range(1, len(blocks) + 1)]
        channels = widths[0]
        for name, depth, width in zip(self.stages, blocks, widths, strict=True):
            stride = 1 if name == "layer1" else 2
            first = BasicBlock(channels, width, stride)
            self.add_module(name, nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(depth - 1))))
            channels = width
        self.fc = nn.Linear(channels, math.prod(prediction_shape))
        self.prediction_shape = tuple(prediction_shape)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Layers compute in the layout of their weights: in this one a step of a small ResNet on a CPU takes two thirds.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        features = functional.relu(self.bn1(self.conv1(queries)), inplace=True)
        for name in self.stages:
            features = getattr(self, name)(features)
        return self.fc(features.mean(dim=(2, 3))).view(queries.shape[0], *self.prediction_shape)

    def channel_axes(self) -> dict[str, tuple[str | None, ...]]:
        """Return which channels the axes of each weight run over; see ``parity.models.pruning``."""
        stream = self.stages[0]  # what blocks add to; the stem makes the first stage's
        axes: dict[str, tuple[str | None, ...]] = {"conv1.weight": (stream, None)} | _norm("bn1", stream)
        for stage in self.stages:
            for number, block in enumerate(getattr(self, stage)):
                name = f"{stage}.{number}"
                axes |= {f"{name}.conv1.weight": (name, stream), f"{name}.conv2.weight": (stage, name)}
                axes |= _norm(f"{name}.bn1", name) | _norm(f"{name}.bn2", stage)
                if isinstance(block.downsample, nn.Sequential):
                    axes |= {f"{name}.downsample.0.weight": (stage, stream)} | _norm(f"{name}.downsample.1", stage)
                stream = stage
        return axes | {"fc.weight": (None, stream)}


def _norm(name: str, channels: str) -> dict[str, tuple[str | None, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
