"""Shapes of students that may cost so much: from a student's own, by width, depth and the side of its images."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from parity.errors import ParityError
from parity.evaluation.costs import multiply_adds
from parity.models.resized import Downsampled

_WIDTHS = ("widths", "hidden", "width")
"""What networks call the numbers of their channels."""

_DEPTH = "blocks"
_WIDEST = 4.0
"""Students are made at most so many times as wide as the one that they are made from."""

_SIDES = (1.0, 0.75, 0.5)
_REFUSALS = (ParityError, TypeError, ValueError, RuntimeError, LookupError)
"""What a network raises that cannot have a shape."""


@dataclass(frozen=True)
class Shape:
    """A student's shape.

    Args:
        model: settings that make it, ``student`` among them, as a config's ``model`` has them.
        depth: layers, or blocks of each stage, more than the student's own had.
        side: of the images that it sees; None where they stay as they are.
        multiply_adds: of one query.
    """

    model: Mapping[str, Any]
    depth: int
    side: int | None
    multiply_adds: float

    @property
    def name(self) -> str:
        """What it is called: ``own``, ``deeper``, ``shallower``, each with the side of its images."""
        depth = {-1: "shallower", 0: "own", 1: "deeper"}[self.depth]
        return depth if self.side is None else f"{depth}_{self.side}px"


def student_shapes(
    student: Callable[..., nn.Module],
    arguments: Mapping[str, Any],
    query_shape: Sequence[int],
    prediction_shape: Sequence[int],
    budget: float,
) -> list[Shape]:
    """Return the widest students of at most so many multiply-adds, of each depth and side that their network can have.

    Args:
        student: makes the network: called with Q, P, and
        arguments: its keyword arguments; widths that are not among them are the network's own.
        query_shape: shape Q of a query.
        prediction_shape: shape P of a prediction.
        budget: multiply-adds of one query.

    Raises:
        ParityError: the network has no widths that could be changed, or none is narrow enough.
    """
    arguments = {**_own_widths(student), **arguments}
    if not any(name in arguments for name in _WIDTHS):
        raise ParityError(
            f"{_name(student)} has no widths that could be changed: a student is a network with {', '.join(_WIDTHS)}."
        )
    image = len(query_shape) == 3
    found = []
    for share in _SIDES if image else _SIDES[:1]:
        side = None if share == 1 else round(share * min(query_shape[1:]))
        for depth, deeper in _depths(arguments):
            settings = dict(student=student) if side is None else dict(student=Downsampled, inner=student, side=side)
            make = _Maker(settings, deeper, query_shape, prediction_shape)
            if (scale := make.largest(budget)) is not None:
                found.append(Shape(make.model(scale), depth, side, make.cost(scale)))
    if not found:
        raise ParityError(
            f"no {_name(student)} has {budget:,.0f} multiply-adds or fewer for a query of shape {tuple(query_shape)}."
        )
    return found


@dataclass(frozen=True)
class _Maker:
    """Makes students of one depth and side, of any width."""

    settings: Mapping[str, Any]
    arguments: Mapping[str, Any]
    query_shape: Sequence[int]
    prediction_shape: Sequence[int]

    def model(self, scale: float) -> dict[str, Any]:
        """Return the settings of a student so many times as wide."""
        scaled = {name: _times(value, scale) if name in _WIDTHS else value for name, value in self.arguments.items()}
        return {**self.settings, **scaled}

    def cost(self, scale: float) -> float:
        """Return its multiply-adds; raises what its network does where it cannot be made."""
        arguments = self.model(scale)
        with torch.random.fork_rng(devices=()), torch.no_grad():
            network = arguments.pop("student")(self.query_shape, self.prediction_shape, **arguments)
            return multiply_adds(network, torch.zeros(1, *self.query_shape))

    def largest(self, budget: float) -> float | None:
        """Return the largest scale that the budget is enough for; None where there is none."""
        low, high = 0.0, _WIDEST
        try:
            if self.cost(0) > budget:
                return None
            for _ in range(12):
                middle = (low + high) / 2
                low, high = (middle, high) if self.cost(middle) <= budget else (low, middle)
        except _REFUSALS:
            return None
        return low


def _own_widths(student: Callable[..., nn.Module]) -> dict[str, Any]:
    parameters = inspect.signature(student).parameters
    return {
        name: parameters[name].default
        for name in (*_WIDTHS, _DEPTH)
        if name in parameters and isinstance(parameters[name].default, int | Sequence)
    }


def _depths(arguments: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield depths with the arguments that make them: blocks of all stages, or layers where there are no blocks."""
    yield 0, dict(arguments)
    if _DEPTH in arguments:
        blocks = arguments[_DEPTH]
        for change in (-1, 1):
            if min(blocks) + change >= 1:
                yield change, {**arguments, _DEPTH: tuple(count + change for count in blocks)}
        return
    layers = next((name for name in _WIDTHS if isinstance(arguments.get(name), Sequence)), None)
    if layers is None:
        return
    widths = tuple(arguments[layers])
    if len(widths) > 1:
        yield -1, {**arguments, layers: widths[:-1]}
    yield 1, {**arguments, layers: (*widths, widths[-1])}


def _times(widths: Any, scale: float) -> Any:
    if isinstance(widths, Sequence):
        return tuple(_times(width, scale) for width in widths)
    return max(1, round(widths * scale))


def _name(network: Callable[..., nn.Module]) -> str:
    return getattr(network, "__name__", repr(network))
