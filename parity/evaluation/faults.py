"""Faults to inject: in what a worker puts out, in its weights, in what its layers compute."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.data import GroupLoader
from parity.errors import ParityError

Fault = Callable[[Tensor, torch.Generator], Tensor]
"""(outputs (G, *P') of one worker, one in each group) -> what a faulty worker puts out for these groups."""

NetworkFault = Callable[[nn.Module, torch.Generator], nn.Module]
"""A worker's network -> a copy of it with a fault; drawn again for every few groups."""

DRAWS = 200
"""Faults of networks that are drawn at least, as far as there are groups: one may do much or nothing."""


@dataclass(frozen=True)
class BitFlip:
    """Flips a bit of one random number of an output: silent data corruption.

    Args:
        bit: of a float32, 31 the sign, 30 the highest of the exponent.
    """

    bit: int

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        flat = outputs.float().flatten(1).clone()
        index = torch.randint(flat.shape[1], (len(flat), 1), generator=generator).to(flat.device)
        flipped = flip(flat.gather(1, index), self.bit)
        return flat.scatter(1, index, flipped).view_as(outputs)


@dataclass(frozen=True)
class Scaled:
    """Multiplies an output: ``factor=-5`` is the fault of ApproxIFER's locator in docs/codes.md."""

    factor: float

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return outputs * self.factor


@dataclass(frozen=True)
class OfAnotherGroup:
    """The output for a query of another group: answers that were mixed up."""

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return outputs.roll(int(torch.randint(1, max(len(outputs), 2), (1,), generator=generator)), 0)


@dataclass(frozen=True)
class ShiftedClasses:
    """Classes in another order, each a position further: a worker that has another list of classes."""

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return outputs.roll(1, -1)


@dataclass(frozen=True)
class NotANumber:
    """NaN in all of an output."""

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(outputs, torch.nan)


FAULTS: Mapping[str, Fault] = {
    "prediction of another query": OfAnotherGroup(),
    "sign flipped": BitFlip(31),
    "exponent bit flipped": BitFlip(30),
    "classes shifted": ShiftedClasses(),
    "times −5": Scaled(-5.0),
    "NaN": NotANumber(),
}
"""Of outputs, what a table reports, by name."""


@dataclass(frozen=True)
class WeightBitFlip:
    """Flips a bit of one random weight.

    Args:
        bit: of a float32.

    Raises:
        ParityError: when called with a network that has no float32 weights.
    """

    bit: int

    def __call__(self, network: nn.Module, generator: torch.Generator) -> nn.Module:
        broken = copy.deepcopy(network)
        weights = [value.detach() for value in broken.parameters() if value.dtype == torch.float32]
        if not weights:
            raise ParityError(f"{type(network).__name__} has no float32 weights to flip a bit of: use another fault.")
        index = int(torch.randint(sum(value.numel() for value in weights), (1,), generator=generator))
        for value in weights:
            if index < value.numel():
                at = torch.unravel_index(torch.tensor(index), value.shape)
                value[at] = flip(value[at], self.bit)
                break
            index -= value.numel()
        return broken


@dataclass(frozen=True)
class ActivationBitFlip:
    """Flips a bit of one random number that one random hidden layer puts out, in every query.

    A layer is a module that calls no other one and puts out floating-point numbers, (B, ...), or a tuple that begins
    with them, as recurrent layers and attention do. Which are called is found out when the network is, by a trial pass.

    Args:
        bit: of a float32.

    Raises:
        ParityError: when the faulty network is called, where it has no such layer.
    """

    bit: int

    def __call__(self, network: nn.Module, generator: torch.Generator) -> nn.Module:
        broken = copy.deepcopy(network)
        leaves = [module for module in broken.modules() if not any(True for _ in module.children())]
        drawn = _hidden(leaves, generator)

        def choose(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            first_call.remove()
            layers = _layers(broken, inputs)
            if not layers:
                raise ParityError(
                    f"{type(network).__name__} has no layer that puts out floating-point numbers (B, ...) to flip a "
                    "bit of: use another fault."
                )
            chosen = drawn if layers == leaves else _hidden(layers, generator)
            chosen.register_forward_hook(lambda _, inputs, output: self._flipped(output, generator))

        first_call = broken.register_forward_pre_hook(choose)
        return broken

    def _flipped(self, output: Any, generator: torch.Generator) -> Any:
        if not isinstance(output, Tensor):
            return (self._flipped(output[0], generator), *output[1:])
        return BitFlip(self.bit)(output, generator).to(output.dtype)


def _hidden(layers: list[nn.Module], generator: torch.Generator) -> nn.Module:
    """Draw a layer other than the last, where there is another."""
    hidden = layers[:-1] or layers
    return hidden[int(torch.randint(len(hidden), (1,), generator=generator))]


def _layers(network: nn.Module, inputs: tuple[Any, ...]) -> list[nn.Module]:
    """Return the modules that call no other one and put out numbers, in the order of ``modules()``."""
    outputs: dict[nn.Module, Any] = {}
    hooks = [
        module.register_forward_hook(lambda module, _, output: outputs.update({module: output}))
        for module in network.modules()
    ]
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    calls_none = (module for module in network.modules() if not outputs.keys() & {*module.modules()} - {module})
    return [module for module in calls_none if _puts_out_numbers(outputs.get(module))]


def _puts_out_numbers(output: Any) -> bool:
    first = output[0] if isinstance(output, tuple) and output else output
    return isinstance(first, Tensor) and first.is_floating_point() and first.dim() > 1 and first.numel() > 0


NETWORK_FAULTS: Mapping[str, NetworkFault] = {
    "exponent bit of a weight flipped": WeightBitFlip(30),
    "exponent bit of an activation flipped": ActivationBitFlip(30),
}
"""Of networks, what a table reports, by name."""


def flip(numbers: Tensor, bit: int) -> Tensor:
    """Return float32 numbers with one bit flipped, 31 the sign."""
    mask = -(1 << 31) if bit == 31 else 1 << bit
    return (numbers.contiguous().view(torch.int32) ^ mask).view(torch.float32)


class Outputs(NamedTuple):
    """What workers put out for all groups, (G, m, *P) and (G, n - m, *P'), and the true targets (G, k, ...).

    ``draw`` is int64 (G,), which fault of a network made them: groups that share one are not independent. None where
    each group has its own, or there is none.
    """

    base: Tensor
    parity: Tensor
    targets: Tensor
    draw: Tensor | None = None


@torch.no_grad()
def outputs_of(model: CodedModel, loader: GroupLoader) -> Outputs:
    """Ask all workers for all groups of a loader, once.

    With the networks of an older version in place of the model's it is what stale workers put out.
    """
    model.eval()
    return _joined([Outputs(*model.outputs(batch.queries), batch.targets) for batch in loader.batches()], model)


def with_fault(outputs: Outputs, fault: Fault, seed: int = 0) -> Outputs:
    """Return what every worker would put out with a fault of outputs.

    Args:
        outputs: without faults.
        fault: what goes wrong.
        seed: of the fault.
    """
    generator = torch.Generator().manual_seed(seed)
    base, parity = (
        torch.stack([fault(each, generator) for each in part.unbind(1)], dim=1) if part.shape[1] else part
        for part in (outputs.base, outputs.parity)
    )
    return Outputs(base, parity, outputs.targets)


@torch.no_grad()
def with_faulty_networks(model: CodedModel, loader: GroupLoader, fault: NetworkFault, seed: int = 0) -> Outputs:
    """Return what every worker would put out with a fault in its network, drawn again at least ``DRAWS`` times.

    Where there are fewer groups, it is drawn for each.

    Args:
        model: the code, without faults.
        loader: of the groups.
        fault: what goes wrong.
        seed: of the fault.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[Outputs] = []
    draws: list[Tensor] = []
    together = max(1, len(loader.sampler.rows) // model.k // DRAWS)
    for batch in loader.batches():
        for queries, targets in zip(batch.queries.split(together), batch.targets.split(together), strict=True):
            base = fault(model.base_model, generator)
            parities = [fault(each, generator) for each in model.parity_models]
            broken = CodedModel(base, model.encoder, parities, model.decoder).eval()
            draws.append(torch.full((len(queries),), len(parts)))
            parts.append(Outputs(*broken.outputs(queries), targets))
    return _joined(parts, model)._replace(draw=torch.cat(draws))


def _joined(parts: list[Outputs], model: CodedModel) -> Outputs:
    if not parts:
        raise ParityError(f"there is not one group of k = {model.k} queries to look for wrong outputs in.")
    named = ("base", "parity", "targets")
    base, parity, targets = (torch.cat([getattr(part, name) for part in parts]) for name in named)
    return Outputs(base, parity, targets)
