"""The smoothing of a NeRCC code, chosen on validation data."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coders import NeRCCDecoder, NeRCCEncoder
from parity.data import GroupLoader
from parity.errors import ParityError
from parity.tasks import Task

SMOOTHINGS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""What is tried by default. On MNIST with the published base model, at k of 3 and up, 1 is worse than the best of these
by 13 points and more."""


class Smoothing(NamedTuple):
    """lambda_enc and lambda_dec of a NeRCC code."""

    encoder: float
    decoder: float


@torch.no_grad()
def choose_smoothing(
    base_model: nn.Module,
    loader: GroupLoader,
    task: Task,
    r: int = 1,
    erased: int = 1,
    grid: Sequence[float] = SMOOTHINGS,
) -> Smoothing:
    """Find the smoothing with which reconstructions agree most with the base model, on data that is not test data.

    Agreement is the task's first measure, of all k reconstructions under every pattern of ``erased`` unavailable
    outputs. The base model answers each group's coded queries once for every lambda_enc of the grid. Of pairs that are
    equally good the first counts, so where a lambda makes no difference (both at k = 2, r = 1) it is the grid's first.
    What is found for MNIST stands in ``parity.coders.nercc``.

    Args:
        base_model: the network.
        loader: groups of k; not of 'test'.
        task: what predictions are measured by.
        r: of the (k, r) code.
        erased: outputs that are missing, 1 to r.
        grid: lambdas to try, for encoder and decoder.

    Raises:
        ParityError: the loader deals out test data, the grid is empty, or ``erased`` is out of range.
    """
    if loader.split == "test":
        raise ParityError("smoothing is chosen on validation data: hand over the loader of 'val', not of 'test'.")
    if not grid:
        raise ParityError("there is no smoothing to choose from: the grid is empty.")
    if not 1 <= erased <= r:
        raise ParityError(f"erased counts missing outputs, 1 to r = {r}, so it cannot be {erased}.")
    k, device = loader.sampler.k, loader.device
    patterns = erasures.patterns(k + r, erased)
    decoders = [NeRCCDecoder(k, r, task.prediction_shape, smoothing) for smoothing in grid]
    agreement = torch.zeros(len(grid), len(grid), dtype=torch.double, device=device)
    base_model.eval()
    for batch in loader:
        said = task.as_targets(_answers(base_model, batch.queries))
        for row, smoothing in enumerate(grid):
            encoder = NeRCCEncoder(k, r, batch.queries.shape[2:], smoothing).to(device)
            outputs = _answers(base_model, encoder(batch.queries))
            for column, decoder in enumerate(decoders):
                for pattern in patterns:
                    available = pattern.expand(len(said), -1).to(device)
                    rebuilt = decoder.decode(outputs, outputs[:, :0], available)
                    agreement[row, column] += task.measure(rebuilt, said)[..., 0].sum()
    best = int(agreement.argmax())
    return Smoothing(grid[best // len(grid)], grid[best % len(grid)])


def _answers(network: nn.Module, queries: Tensor) -> Tensor:
    """Ask a network for groups: queries (G, x, *Q) -> (G, x, *P)."""
    return network(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])
