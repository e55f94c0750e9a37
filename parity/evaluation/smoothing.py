"""The smoothing of a NeRCC code, chosen on validation data."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coders import NeRCCDecoder, NeRCCEncoder
from parity.coders.matrices import combine
from parity.data import GroupLoader
from parity.errors import ParityError
from parity.tasks import Task
from parity.terminal import progress

SMOOTHINGS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates by default. On MNIST with the published base model, at k of 3 and up, 1 is worse than the best of these
by 13 points and more."""


class Smoothing(NamedTuple):
    """lambda_enc and lambda_dec of a NeRCC code."""

    encoder: float
    decoder: float


# Numbers that are rebuilt at a time, 16 MiB of them.
_NUMBERS_AT_ONCE = 1 << 22


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
    outputs. Every pair of the grid is measured, at the cost of one pass through the base model for each lambda_enc: it
    computes each group's coded queries once, and the decoding matrices of all lambda_dec and all patterns are made
    once, stacked, and applied to its outputs in one product. Of pairs that are equally good the first counts, so where
    a lambda makes no difference (both at k = 2, r = 1) it is the grid's first. What is found for MNIST stands in
    ``parity.coders.nercc``. Progress is shown in a terminal, and logged elsewhere.

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
        raise ParityError("the grid is empty: hand over lambdas to choose from.")
    if not 1 <= erased <= r:
        raise ParityError(f"erased counts missing outputs, 1 to r = {r}, so it cannot be {erased}.")
    k, device = loader.sampler.k, loader.device
    agreement = torch.zeros(len(grid), len(grid), dtype=torch.double, device=device)
    encoders: list[nn.Module] = []
    base_model.eval()
    with progress(f"smoothing of NeRCC, k = {k}", (1 + len(loader.sampler)) * len(grid)) as advance:
        decoding = []
        for smoothing in grid:
            decoder = NeRCCDecoder(k, r, task.prediction_shape, smoothing)
            decoding.append(decoder.matrices(erasures.patterns(k + r, erased)).to(device))
            advance()
        matrices = torch.stack(decoding)
        for batch in loader.batches():
            encoders = encoders or [NeRCCEncoder(k, r, batch.queries.shape[2:], each).to(device) for each in grid]
            targets = task.as_targets(_predictions(base_model, batch.queries))
            for row, encoder in enumerate(encoders):
                agreement[row] += _agreement(task, matrices, _predictions(base_model, encoder(batch.queries)), targets)
                advance()
    best = int(agreement.argmax())
    return Smoothing(grid[best // len(grid)], grid[best % len(grid)])


def _agreement(task: Task, matrices: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum the first measure over all groups, patterns and positions, for each lambda_dec.

    Args:
        task: of the base model.
        matrices: (L, E, k, n), for L lambdas and E patterns.
        outputs: (G, n, *P).
        targets: (G, k, ...), the base model's predictions.

    Returns:
        float64 (L,).
    """
    most = max(1, _NUMBERS_AT_ONCE // outputs.numel())
    sums = []
    for part in matrices.flatten(0, 1).split(most):
        rebuilt = combine(part.flatten(0, 1), outputs).unflatten(1, part.shape[:2])  # (G, part, k, *P)
        measured = task.measure(rebuilt, targets[:, None].expand(-1, len(part), *targets.shape[1:]))
        sums.append(measured[..., 0].sum((0, 2), dtype=torch.double))
    return torch.cat(sums).view(matrices.shape[:2]).sum(1)


def _predictions(network: nn.Module, queries: Tensor) -> Tensor:
    """Return a network's predictions for groups: queries (G, x, *Q) -> (G, x, *P)."""
    return network(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])
