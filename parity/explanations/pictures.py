"""Pictures of attributions: colours of B-cos networks, and heat maps of any."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.explanations.contributions import check_bcos, gradients, weights_held
from parity.explanations.explain import Target, check_smooth, explained, flat_targets, smoothed
from parity.models import AddInverse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TINY = 1e-12


def color_image(network: nn.Module, query: Tensor, target: Target, smooth: int = 1, percentile: float = 99.5) -> Tensor:
    """Draw the weights of a B-cos network in the colours that they look for (Böhle et al., TPAMI 2024).

    A pixel's colour is the direction of its weights, each against the inverse's; it is as opaque as they are long, and
    clear where the pixel speaks against the target.

    Args:
        network: a B-cos network on images.
        query: one image, (C, H, W), of 1 or 3 channels.
        target: as in ``explain``.
        smooth: side of the window that opacity is averaged over.
        percentile: of weights' lengths, from which on a pixel is opaque.

    Returns:
        (H, W, 4), red, green, blue and opacity in [0, 1], as ``imshow`` takes it.

    Raises:
        ParityError: it is not a B-cos network, has no such output, or this is not one image.
    """
    check_bcos(network)
    if query.dim() != 3 or len(query) not in (1, 3):
        raise ParityError(f"a picture is of one image (C, H, W) of 1 or 3 channels, not of shape {tuple(query.shape)}.")
    check_smooth(smooth, query.dim())
    if not 0 <= percentile <= 100:
        raise ParityError(f"percentile is a number from 0 to 100, not {percentile}.")
    inputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: inputs.append(output))
        for module in network.modules()
        if isinstance(module, AddInverse)
    ]
    flat = nn.Sequential(network, nn.Flatten(1))
    try:
        with explained(network), weights_held(network):
            outputs = network(query[None].detach().clone().requires_grad_())
            index = flat_targets(target, tuple(outputs.shape[1:]), 1, query.device)
            [weights] = torch.autograd.grad(outputs.flatten(1)[0, index[0]], inputs[-1:])
        with explained(network), weights_held(network, contributions=True):
            contributions = gradients(flat, query[None], index)[0].sum(0)
    finally:
        for hook in hooks:
            hook.remove()
    return _colored(weights[0], contributions, smooth, percentile)


def _colored(weights: Tensor, contributions: Tensor, smooth: int, percentile: float) -> Tensor:
    channels = len(weights) // 2
    direction = (weights / (weights.abs().amax(0) + _TINY)).clamp(min=0)
    colors = direction[:channels] / (direction[:channels] + direction[channels:] + _TINY)
    opacity = torch.where(contributions > 0, weights.norm(dim=0), 0)
    opacity = smoothed(opacity[None], smooth)[0]
    opacity = (opacity / (opacity.quantile(percentile / 100) + _TINY)).clamp(0, 1)
    return torch.cat([colors.expand(3, *opacity.shape), opacity[None]]).permute(1, 2, 0).detach().cpu()


def heat_map(attributions: Tensor, axes: "Axes", percentile: float = 99.5) -> None:
    """Draw attributions of one image, summed over channels: red for the target, blue against it.

    Args:
        attributions: (C, H, W).
        axes: of matplotlib, to draw into.
        percentile: of absolute values, from which on the colour does not get stronger.
    """
    pixels = attributions.detach().cpu().sum(0)
    most = max(float(pixels.abs().flatten().quantile(percentile / 100)), _TINY)
    axes.imshow(pixels.numpy(), cmap="bwr", vmin=-most, vmax=most)
    axes.set_xticks([])
    axes.set_yticks([])
