"""How the weights of networks lie in a device's memory."""

import torch
from torch import nn


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Put the channels of images' convolutions last where that is the layout of the device's kernels: on GPUs.

    Layers compute in the layout of their weights; other weights are left as they are.
    """
    if device.type != "cuda":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
