"""Positional codes: a parity model predicts for all k positions, so one parity output rebuilds any number of them.

The parity model's output has shape (k, *P). With an encoder that leaves every position its own mark there is nothing to
subtract: what is missing is read.
"""

import torch
from torch import Tensor, nn

from parity.coders.base import Shape, SystematicDecoder, like


class PositionalDecoder(SystematicDecoder):
    """Reads the missing positions' predictions; where several parity outputs arrived, their mean."""

    def parity_shape(self, prediction_shape: Shape) -> tuple[int, ...]:
        """Return P' = (k, *P)."""
        return (self.k, *prediction_shape)

    def parity_targets(self, predictions: Tensor) -> Tensor:
        """Return what perfect parity models would put out, all predictions: (G, k, *P) -> (G, r, k, *P)."""
        return predictions.unsqueeze(1).expand(-1, self.r, *predictions.shape[1:])

    def can_decode(self, available: Tensor) -> Tensor:
        return available[:, : self.k].all(1) | available[:, self.k :].any(1)

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        arrived = available[:, self.k :].sum(1, keepdim=True).clamp(min=1)
        total = parity_outputs.sum(1)
        return total / like(arrived, total)


class CombiningDecoder(PositionalDecoder):
    """Also learns from where the parity output is wrong about the predictions that arrived.

    What is read is corrected by a linear map of the differences between arrived predictions and what the parity outputs
    hold for them (zeros where none arrived), one (k P x k P) matrix that begins at zero. Only patterns in which some
    arrive train it: ``up_to_r_missing``, and not ``parities_alone``.
    """

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r, prediction_shape)
        size = k * torch.Size(prediction_shape).numel()
        self.correction = nn.Linear(size, size, bias=False)
        nn.init.zeros_(self.correction.weight)

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        read = super().rebuild(base_outputs, parity_outputs, available)
        arrived = like(available[:, : self.k], base_outputs)
        differences = (base_outputs - read).masked_fill(~arrived, 0)
        return read + self.correction(differences.flatten(1)).view_as(read)
