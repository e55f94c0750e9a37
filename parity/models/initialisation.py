"""How parity models start: objects that a config passes as ``parity_init``; ``From...`` as ``parity_start``."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.models.packed import PackedStudents
from parity.models.per_cell import PerCell
from parity.models.resized import Downsampled
from parity.models.revmux import RevMUX

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NormalLinear:
    """Draws the weights of all linear layers from N(0, std^2) and sets their biases to 0, as the original does."""

    std: float = 0.01

    def __call__(self, network: nn.Module) -> None:
        _draw(network, nn.Linear, partial(nn.init.normal_, std=self.std))


@dataclass(frozen=True)
class XavierConvolution:
    """Draws the weights of all convolutions from Glorot's uniform distribution, and sets their biases to 0.

    Glorot, Bengio (AISTATS 2010), equation 16, times the gain; the original's is that of ReLU.
    """

    gain: float = 2**0.5

    def __call__(self, network: nn.Module) -> None:
        _draw(network, nn.Conv2d, partial(nn.init.xavier_uniform_, gain=self.gain))


def _draw(network: nn.Module, kind: type[nn.Linear | nn.Conv2d], weights: Callable[[Tensor], Tensor]) -> None:
    """Draw the weights of all layers of a kind, and set their biases to 0."""
    for module in network.modules():
        if isinstance(module, kind):
            weights(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class LastBias:
    """Sets the bias of the last linear layer.

    The original's localisation starts a parity model at k x the mean training box.

    Raises:
        ParityError: when called with a network whose last linear layer has no bias of this size, or that has none.
    """

    value: tuple[float, ...]

    def __call__(self, network: nn.Module) -> None:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        bias = linear[-1].bias if linear else None
        if bias is None:
            raise ParityError(f"{type(network).__name__} has no last linear layer with a bias to set.")
        if len(bias) != len(self.value):
            raise ParityError(
                f"the last bias of {type(network).__name__} has {len(bias)} values, not {len(self.value)}."
            )
        with torch.no_grad():
            bias.copy_(torch.tensor(self.value))


@dataclass(frozen=True)
class InOrder:
    """Applies initialisers one after another: ``InOrder((NormalLinear(), LastBias((0.5, 0.5))))``."""

    initialisers: tuple[Callable[[nn.Module], None], ...]

    def __call__(self, network: nn.Module) -> None:
        for initialise in self.initialisers:
            initialise(network)


@dataclass(frozen=True)
class FromBaseModel:
    """Starts a parity model from the base model's weights, of ``parity_start``: what has the same name and shape.

    A last layer that is k times as high, for a prediction at each position, gets the base model's k times over; it is
    the last module that has parameters.

    Raises:
        ParityError: when called with networks that have nothing in common.
    """

    def __call__(self, parity_model: nn.Module, base_model: nn.Module) -> None:
        target = inner_network(parity_model)
        own, start = target.state_dict(), {}
        last = [name for name, module in base_model.named_modules() if [*module.parameters(recurse=False)]][-1:]
        for name, value in base_model.state_dict().items():
            if name not in own:
                continue
            repeated = value.dim() and name.rpartition(".")[0] in last
            copies = len(own[name]) // max(len(value), 1) if repeated else 1
            tiled = torch.cat([value] * copies) if copies > 1 else value
            if own[name].shape == tiled.shape:
                start[name] = tiled
        if not start:
            raise ParityError(
                f"{type(target).__name__} has no weights of the names and shapes of the base model's: it cannot start "
                "from them."
            )
        target.load_state_dict(start, strict=False)
        if left := [name for name in own if name not in start]:
            log.info(
                "%s starts from the base model but for %d of its %d weights: %s%s",
                type(target).__name__, len(left), len(own), ", ".join(left[:3]), ", ..." * (len(left) > 3),
            )  # fmt: skip


@dataclass(frozen=True)
class FrozenBaseModel:
    """Starts a parity model as ``FromBaseModel`` does, and does not train the layers that have the base model's names.

    The last layer is trained where it is of another shape than the base model's.

    Raises:
        ParityError: when called with networks that have nothing in common.
    """

    def __call__(self, parity_model: nn.Module, base_model: nn.Module) -> None:
        FromBaseModel()(parity_model, base_model)
        shapes = {name: value.shape for name, value in base_model.named_parameters()}
        for name, value in inner_network(parity_model).named_parameters():
            value.requires_grad_(value.requires_grad and shapes.get(name) != value.shape)


def inner_network(parity_model: nn.Module) -> nn.Module:
    """Return the network of a parity model that can start from the base model: what it wraps, or it itself."""
    while isinstance(parity_model, PerCell | PackedStudents | RevMUX | Downsampled):
        parity_model = parity_model.network
    return parity_model
