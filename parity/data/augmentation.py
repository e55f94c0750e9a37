"""Augmentation of whole batches on the device, every query in a random way of its own."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class RandomCropAndFlip:
    """Pads images with zeros, cuts a window of their own size out at a random place, and mirrors half of them.

    Args:
        padding: pixels on each side; 4 is usual for CIFAR.
        mirror: whether half of them are mirrored.
    """

    padding: int = 4
    mirror: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        """Augment: images (B, C, H, W) of any type -> the same shape and type."""
        count, channels, height, width = images.shape
        device = images.device
        padded = functional.pad(images, [self.padding] * 4)
        top, left = torch.randint(2 * self.padding + 1, (2, count, 1), device=device)
        mirrored = torch.rand(count, 1, device=device) < 0.5
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        columns = left + (torch.where(mirrored, width - 1 - columns, columns) if self.mirror else columns)
        pixels = (top + rows).unsqueeze(2) * padded.shape[3] + columns.unsqueeze(1)  # (B, H, W), of a padded channel
        return padded.flatten(2).gather(2, pixels.flatten(1).unsqueeze(1).expand(-1, channels, -1)).view(images.shape)


@dataclass(frozen=True)
class RandomAffine:
    """Turns, stretches, shears and moves each image; what comes in from outside is zeros.

    An image that is not square is turned and sheared as if its sides were equally long.

    Args:
        degrees: turned by up to so many, either way.
        stretch: each side made longer or shorter by up to this share.
        shear: rows moved along by up to this share of their distance from the middle.
        shift: moved by up to these shares of the height and of the width.
    """

    degrees: float = 15.0
    stretch: float = 0.15
    shear: float = 0.2
    shift: tuple[float, float] = (0.09, 0.09)

    def __call__(self, images: Tensor) -> Tensor:
        """Augment: images (B, C, H, W) of any type -> the same shape, in float32 with the values' own scale."""
        draws = torch.rand(6, len(images), device=images.device) * 2 - 1
        angle, shear = draws[0] * math.radians(self.degrees), draws[1] * self.shear
        tall, wide = 1 + draws[2] * self.stretch, 1 + draws[3] * self.stretch
        down, right = 2 * draws[4] * self.shift[0], 2 * draws[5] * self.shift[1]
        cos, sin = angle.cos(), angle.sin()
        rows = (cos * wide, shear - sin * wide, right, sin * tall, cos * tall, down)
        grid = functional.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
        return functional.grid_sample(images.float(), grid, align_corners=False)
