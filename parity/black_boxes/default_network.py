"""The network that a parity model is by default, where it is not a copy: as large as it may be at the base's cost."""

import functools
import itertools
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from parity.black_boxes.network import BlackBox
from parity.errors import ParityError
from parity.models import MLP
from parity.models.counting import count_multiply_adds
from parity.storage.files import read_json, write_json

log = logging.getLogger(__name__)

Shape = tuple[int, ...]

_WIDTHS = "widths.json"
_NARROWEST, _WIDEST = 2, 512
_TIMED = 64
_LEAST_SIDE = 4
_MOST_STRIDED = 6


class Convolutions(nn.Module):
    """Convolutions along all axes but the first, their mean, and a linear layer.

    All but the first have stride 2: two of them, or more where queries are long, so that the last see most of a query.

    Args:
        query_shape: (C, *S), of one, two or three axes S; or a signal (L,).
        prediction_shape: P.
        width: channels of the first convolution; the others have twice as many.
    """

    def __init__(self, query_shape: Shape, prediction_shape: Shape, width: int) -> None:
        super().__init__()
        self.query_shape = query_shape if len(query_shape) > 1 else (1, *query_shape)
        axes = len(self.query_shape) - 1
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        normalisation = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1]
        layers: list[nn.Module] = []
        strided = min(_MOST_STRIDED, max(2, int(math.log2(min(self.query_shape[1:]))) - 2))
        widths = [self.query_shape[0], width, *[2 * width] * strided]
        for index, (taken, made) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index else 1
            layers += [convolution(taken, made, 3, stride, padding=1, bias=False), normalisation(made), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(2 * width, math.prod(prediction_shape))
        self.prediction_shape = prediction_shape

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        queries = queries.view(queries.shape[0], *self.query_shape)
        return self.last(self.layers(queries).flatten(2).mean(2)).view(queries.shape[0], *self.prediction_shape)


class Perceptron(MLP):
    """Two hidden linear layers, the second of half the width.

    Args:
        query_shape, prediction_shape: any Q and P.
        width: of the first.
    """

    def __init__(self, query_shape: Shape, prediction_shape: Shape, width: int) -> None:
        super().__init__(query_shape, prediction_shape, (width, width // 2))


class DefaultNetworks:
    """Makes networks that cost at most what another does.

    They are convolutions for queries with axes to move along, and linear layers for others, where convolutions cost too
    much, and in place of a network that begins with a linear layer itself.
    Multiply-adds are compared where those of the network can be counted, and measured times elsewhere. These differ
    from run to run: widths that were chosen by them are kept beside the network's predictions, for the same call again.

    Args:
        network: a base model, (B, *Q) -> (B, *P).
        queries: some that it takes, (B, *Q).
    """

    def __init__(self, network: nn.Module, queries: Tensor) -> None:
        self.network, self.queries = network, queries
        self._chosen: dict[str, int | None] = {}

    def __call__(self, query_shape: Shape, prediction_shape: Shape, copies: int = 1) -> nn.Module:
        """Make the widest network that may be.

        Args:
            query_shape: of its queries.
            prediction_shape: of its predictions.
            copies: queries that it predicts for in place of one of the base model's; they share the cost.

        Raises:
            ParityError: even the narrowest costs more.
        """
        kinds: list[type[nn.Module]] = [Convolutions, Perceptron] if self._has_axes(query_shape) else [Perceptron]
        for kind in kinds:
            if (width := self._width(kind, tuple(query_shape), tuple(prediction_shape), copies)) is not None:
                return kind(tuple(query_shape), tuple(prediction_shape), width)
        most, unit, _ = self._most
        raise ParityError(
            f"{_name(self.network)} takes {most:.3g} {unit} for a query, which no default parity model does with: "
            "give a network of your own, factory=lambda query_shape, prediction_shape: ..."
        )

    def _width(self, kind: type[nn.Module], query: Shape, prediction: Shape, copies: int) -> int | None:
        """Return the width of the widest network of a kind, the one that was chosen before where there is one."""
        name = f"{kind.__name__} {list(query)} {list(prediction)} {copies}"
        folder = self.network.kept_in if isinstance(self.network, BlackBox) and not self._is_counted else None
        if name not in self._chosen:
            kept = {} if folder is None else _read(folder / _WIDTHS)
            self._chosen = {**kept, **self._chosen}
        if name not in self._chosen:
            self._chosen[name] = self._widest(kind, query, prediction, copies)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / _WIDTHS, self._chosen)
        return self._chosen[name]

    def _widest(self, kind: type[nn.Module], query: Shape, prediction: Shape, copies: int) -> int | None:
        """Return the greatest width; it is found upwards, for a network that is far too large takes long to try."""
        most, _, cost = self._most
        example = torch.zeros(len(self.queries[:_TIMED]), *query)

        def fits(width: int) -> bool:
            return width <= _WIDEST and copies * cost(kind(query, prediction, width), example) <= most

        if not fits(_NARROWEST):
            return None
        width, step = _NARROWEST, 1
        while fits(width + step):
            width, step = width + step, 2 * step
        while step > 0:
            if fits(width + step):
                width += step
            step //= 2
        return width

    def _has_axes(self, query_shape: Shape) -> bool:
        """Return whether there is something for convolutions to move along: not in the rows that a black box takes."""
        if begins_linear(self.network) or (len(query_shape) == 1 and isinstance(self.network, BlackBox)):
            return False
        return len(query_shape) <= 4 and min(query_shape[1:] or query_shape) >= _LEAST_SIDE

    @property
    def _is_counted(self) -> bool:
        return not isinstance(self.network, BlackBox) or not math.isnan(self.network.multiply_adds)

    @functools.cached_property
    def _most(self) -> tuple[float, str, Callable[[nn.Module, Tensor], float]]:
        """The most that a network may cost, the unit, and what measures it."""
        if not isinstance(self.network, BlackBox):
            return _multiply_adds(self.network, self.queries), "multiply-adds", _multiply_adds
        if not math.isnan(self.network.multiply_adds):
            return self.network.multiply_adds, "multiply-adds", _multiply_adds
        return self.network.seconds_per_query(self.queries[:_TIMED]), "seconds", _seconds_per_query


def _read(path: Path) -> dict[str, int | None]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path, "widths of default parity models")
    except ParityError as error:
        log.warning("%s: widths are chosen again", error)
        return {}
    return {name: width for name, width in content.items() if width is None or width in range(_NARROWEST, _WIDEST + 1)}


def _name(network: nn.Module) -> str:
    return network.name if isinstance(network, BlackBox) else type(network).__name__


def begins_linear(network: nn.Module) -> bool:
    """Return whether a network's first layer with weights is a linear one, as in a perceptron."""
    return isinstance(next((each for each in network.modules() if [*each.parameters(recurse=False)]), None), nn.Linear)


def _multiply_adds(network: nn.Module, queries: Tensor) -> float:
    return count_multiply_adds(network, queries[:1])


@torch.no_grad()
def _seconds_per_query(network: nn.Module, queries: Tensor) -> float:
    network.eval()
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        network(queries)
        times.append(time.perf_counter() - begun)
    network.train()
    return min(times) / len(queries)
