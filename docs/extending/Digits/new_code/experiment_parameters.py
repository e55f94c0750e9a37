"""A new code: queries are turned by a quarter more for each position, then summed; a plain subtraction decodes."""

import torch
from torch import Tensor

from parity.coders import Encoder, SystematicDecoder
from parity.errors import ParityError
from parity.experiments.config import update_config
from parity.experiments.Digits.original.experiment_parameters import CONFIGS as ORIGINAL


class TurnedSumEncoder(Encoder):
    def __init__(self, k: int, r: int, query_shape: tuple[int, ...]) -> None:
        super().__init__(k, r, query_shape)
        if k > 4 or r != 1 or len(query_shape) != 3 or query_shape[1] != query_shape[2]:
            raise ParityError(f"turning does k up to 4 with r = 1 on square images, not {(k, r)} on {query_shape}.")

    def forward(self, queries: Tensor) -> Tensor:  # (G, k, C, H, H) -> (G, 1, C, H, H)
        turned = [torch.rot90(query, position, (-2, -1)) for position, query in enumerate(queries.unbind(1))]
        return torch.stack(turned).sum(0).unsqueeze(1)


class SubtractionDecoder(SystematicDecoder):
    def parity_targets(self, predictions: Tensor) -> Tensor:  # (G, k, *P) -> (G, 1, *P)
        return predictions.sum(1, keepdim=True)

    def can_decode(self, available: Tensor) -> Tensor:  # (G, n) -> (G,)
        return available.sum(1) >= self.k

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        missing = parity_outputs - base_outputs.sum(1, keepdim=True)  # what has not arrived is zeros here
        return missing.expand_as(base_outputs)


CODE = dict(encoder=TurnedSumEncoder, decoder=SubtractionDecoder)
CONFIGS = {f"mlp_k{k}_turned": update_config(ORIGINAL[f"mlp_k{k}_add"], dict(code=CODE)) for k in (2, 3, 4)}
