"""B-cos networks as what they are linear in: gradients, and contributions, with the dynamic weights held."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.models import AddInverse


def is_bcos(network: nn.Module) -> bool:
    """Return whether a network has contributions to read off."""
    return any(isinstance(module, AddInverse) for module in network.modules())


def check_bcos(network: nn.Module) -> None:
    """Make sure that a network has contributions to read off.

    Raises:
        ParityError: it is not a B-cos network.
    """
    if not is_bcos(network):
        raise ParityError(
            "the explainer Ours reads contributions off B-cos networks (BcosResNet, alone or in PerCell), and this "
            f"{type(network).__name__} is another: choose another explainer, such as IntegratedGradients."
        )


@contextmanager
def weights_held(network: nn.Module, contributions: bool = False) -> Iterator[None]:
    """Within this block, the layers of B-cos networks are linear to autograd: their dynamic weights are constants.

    Args:
        network: that has B-cos layers somewhere.
        contributions: let gradients in queries be contributions; see ``AddInverse``.
    """
    layers: list[Any] = [module for module in network.modules() if hasattr(module, "set_explanation_mode")]
    inverses = [module for module in network.modules() if isinstance(module, AddInverse)]
    before = [module.contributions for module in inverses]
    for layer in layers:
        layer.set_explanation_mode(True)
    for module in inverses:
        module.contributions = contributions
    try:
        yield
    finally:
        for layer in layers:
            layer.set_explanation_mode(False)
        for module, value in zip(inverses, before, strict=True):
            module.contributions = value


def gradients(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each input's output ``targets`` in that input: (B, *Q), (B,) -> (B, *Q)."""
    inputs = inputs.detach().clone().requires_grad_()
    outputs = network(inputs).gather(1, targets[:, None]).sum()
    if not outputs.requires_grad:  # it depends on none of them
        return torch.zeros_like(inputs)
    [gradient] = torch.autograd.grad(outputs, [inputs], allow_unused=True, materialize_grads=True)
    return gradient
