"""The network that a parity model of a black box is by default: as large as it may be, and no larger than the box."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from parity.black_boxes.network import BlackBox
from parity.errors import ParityError
from parity.models import MLP

Shape = tuple[int, ...]

_WIDTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_TIMED = 64
_LEAST_SIDE = 4


class Convolutions(nn.Module):
    """Three convolutions along all axes but the first, two of them of stride 2, their mean, and a linear layer.

    Args:
        query_shape: (C, *S), of one, two or three axes S.
        prediction_shape: P.
        width: channels of the first convolution; the others have twice as many.
    """

    def __init__(self, query_shape: Shape, prediction_shape: Shape, width: int) -> None:
        super().__init__()
        axes = len(query_shape) - 1
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        normalisation = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1]
        layers: list[nn.Module] = []
        for made, taken, stride in ((width, query_shape[0], 1), (2 * width, width, 2), (2 * width, 2 * width, 2)):
            layers += [convolution(taken, made, 3, stride, padding=1, bias=False), normalisation(made), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(2 * width, math.prod(prediction_shape))
        self.prediction_shape = prediction_shape

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return self.last(self.layers(queries).flatten(2).mean(2)).view(queries.shape[0], *self.prediction_shape)


def default_factory(box: BlackBox, queries: Tensor) -> Callable[[Shape, Shape], nn.Module]:
    """Return what makes networks that cost at most what the box does; of a smaller query, its share of that.

    Multiply-adds are compared where those of the box can be counted, and measured times elsewhere.

    Args:
        box: the base model.
        queries: some that it takes, (B, *Q).
    """
    whole = math.prod(queries.shape[1:])
    counted = not math.isnan(box.multiply_adds)
    most = box.multiply_adds if counted else box.seconds_per_query(queries[:_TIMED])
    cost = _multiply_adds if counted else _seconds_per_query

    def make(query_shape: Shape, prediction_shape: Shape) -> nn.Module:
        share = most * min(1.0, math.prod(query_shape) / whole)  # stacked queries are larger
        example, made = torch.zeros(len(queries[:_TIMED]), *query_shape), None
        for width in _WIDTHS:  # upwards, for one that is far too large would take long to measure
            networks = _candidates(tuple(query_shape), tuple(prediction_shape), width)
            fitting = [network for network in networks if cost(network, example) <= share]
            if not fitting:
                break
            made = fitting[-1]
        if made is not None:
            return made
        unit = "multiply-adds" if counted else "seconds"
        raise ParityError(
            f"{box.name} takes {most:.3g} {unit} for a query, which no default parity model does with: give a network "
            "of your own, factory=lambda query_shape, prediction_shape: ..."
        )

    return make


def _candidates(query_shape: Shape, prediction_shape: Shape, width: int) -> list[nn.Module]:
    """Return networks of a width: convolutions where there are axes to move along, else linear layers."""
    if 2 <= len(query_shape) <= 4 and min(query_shape[1:]) >= _LEAST_SIDE:
        return [Convolutions(query_shape, prediction_shape, width)]
    return [MLP(query_shape, prediction_shape, hidden) for hidden in ((width,), (width, width))]


@torch.no_grad()
def _multiply_adds(network: nn.Module, queries: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network.eval()(queries[:1])
    network.train()
    return counter.get_total_flops() // 2


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
