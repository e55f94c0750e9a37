"""Linear combinations of queries or outputs, in the precision of what is combined."""

import math

import torch
from torch import Tensor

from parity.coders.precision import exact


def combine(matrix: Tensor, parts: Tensor) -> Tensor:
    """Combine the parts of every group with one matrix: (a, b) x (G, b, *S) -> (G, a, *S)."""
    groups, count, *size = parts.shape
    if matrix.dtype != parts.dtype:
        matrix = matrix.to(parts.dtype)
    with exact(parts):
        # The fastest way for what a server does; a program that is exported serves any number of groups.
        if not torch.compiler.is_exporting() and groups == 1:
            return torch.mm(matrix, parts.reshape(count, math.prod(size))).view(1, len(matrix), *size)
        return torch.matmul(matrix, parts.reshape(groups, count, math.prod(size))).view(groups, len(matrix), *size)


def combine_each(matrices: Tensor, parts: Tensor) -> Tensor:
    """Combine the parts of each group with a matrix of its own: (G, a, b) x (G, b, *S) -> (G, a, *S)."""
    flat = parts.reshape(*parts.shape[:2], parts.shape[2:].numel())
    with exact(parts):
        return torch.bmm(matrices.to(parts.dtype), flat).view(*matrices.shape[:2], *parts.shape[2:])
