"""Sums in which every entry of every query has a random weight of its own.

Murahari et al.: "DataMUX: Data Multiplexing for Neural Networks" (NeurIPS 2022), section 3.1, the Hadamard form of
multiplexing.
"""

import torch
from torch import Tensor

from parity.coders.base import Encoder, Shape


class HadamardSumEncoder(Encoder):
    """Adds up the queries of a group, every entry times a fixed number from N(0, 1), over the square root of k.

    Parity query j is the sum over i of v_ji * x_i; v is drawn once from ``seed`` and stays.

    Args:
        k: any.
        r: 1 or more.
        query_shape: any.
        seed: of the numbers.

    Raises:
        ParityError: r is 0.
    """

    least_r = 1

    def __init__(self, k: int, r: int, query_shape: Shape, seed: int = 0) -> None:
        super().__init__(k, r, query_shape)
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(r, k, *query_shape, generator=generator) / k**0.5
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, *Q)."""
        weights = self.weights if self.weights.dtype == queries.dtype else self.weights.to(queries.dtype)
        return (queries.unsqueeze(1) * weights).sum(2)
