"""What workers do in measurements: sleep for a random time, or compute; both carry out a network."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import ParityError


class Sleeping:
    """A network that takes a lognormal time, most of it asleep, so that one core carries many workers.

    Args:
        network: (B, *Q) -> (B, *P).
        service: mean time of a batch, in seconds.
        sigma: of its logarithm.
        seed: of the times; by default each process draws its own.

    Raises:
        ParityError: a value is out of range.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], service: float = 0.1, sigma: float = 0.05, seed: int | None = None
    ) -> None:
        if not service > 0 or not sigma >= 0:
            raise ParityError(f"service must be more than 0 and sigma at least 0, not {service} and {sigma}.")
        self._network, self._service, self._sigma, self._seed = network, service, sigma, seed
        self._begin()

    def __call__(self, queries: Tensor) -> Tensor:
        until = time.perf_counter() + self._draw()
        outputs = self._network(queries)
        time.sleep(max(0.0, until - time.perf_counter()))
        return outputs

    def _begin(self) -> None:
        self._random, self._lock = random.Random(self._seed), threading.Lock()

    def _draw(self) -> float:
        with self._lock:
            factor = self._random.lognormvariate(-(self._sigma**2) / 2, self._sigma)
        return self._service * factor

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_random", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()


class Computing(nn.Module):
    """A network that is preceded by so much work: layers whose output does not matter.

    Args:
        network: (B, *Q) -> (B, *P).
        width: of the layers.
        layers: how many.
    """

    def __init__(self, network: nn.Module, width: int = 1024, layers: int = 8) -> None:
        super().__init__()
        self.network = network
        self.work = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
        self._width = width

    @torch.inference_mode()
    def forward(self, queries: Tensor) -> Tensor:
        self.work(queries.new_ones(len(queries), self._width))
        return self.network(queries)
