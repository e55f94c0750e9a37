"""Augmentation of whole batches on the device, every query in a random way of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class RandomCropAndFlip:
    """Pads images with zeros, cuts a window of their own size out at a random place, and mirrors half of them.

    Args:
        padding: pixels on each side; 4 is usual for CIFAR.
    """

    padding: int = 4

    def __call__(self, images: Tensor) -> Tensor:
        """Augment: images (B, C, H, W) of any type -> the same shape and type."""
        count, channels, height, width = images.shape
        device = images.device
        padded = functional.pad(images, [self.padding] * 4)
        top, left = torch.randint(2 * self.padding + 1, (2, count, 1), device=device)
        mirrored = torch.rand(count, 1, device=device) < 0.5
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        columns = left + torch.where(mirrored, width - 1 - columns, columns)
        pixels = (top + rows).unsqueeze(2) * padded.shape[3] + columns.unsqueeze(1)  # (B, H, W), of a padded channel
        return padded.flatten(2).gather(2, pixels.flatten(1).unsqueeze(1).expand(-1, channels, -1)).view(images.shape)
