"""Codes in the space of embeddings: queries go through the base model's own first layers before they are encoded.

DataMUX (Murahari et al., arXiv 2202.09318) and RevMUX (Xu et al., arXiv 2410.04519) add up embeddings of several
sequences so that one transformer predicts for all of them; here a parity model does, for those that are lost.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from parity.coders.base import Encoder, Shape
from parity.vocabulary import vocabulary_of


class EmbeddedEncoder(Encoder):
    """Embeds queries, and encodes their embeddings with another encoder; parity queries are embeddings.

    Args:
        k, r, query_shape: as in ``Encoder``.
        embed: the base model's first layers, (B, *Q) -> (B, *E), which are not trained.
        shape: E, of an embedding, e.g. (L, D).
        inner: makes the encoder of embeddings, called with (k, r, E).
        ids: whether queries are ids, and not numbers; by default whether ``embed`` refuses numbers, or has a
            vocabulary.
    """

    def __init__(
        self,
        k: int,
        r: int,
        query_shape: Shape,
        embed: nn.Module,
        shape: Shape,
        inner: Callable[..., Encoder],
        ids: bool | None = None,
    ) -> None:
        super().__init__(k, r, query_shape)
        self.embed, self.inner = embed.requires_grad_(False), inner(k, r, tuple(shape))
        self.takes_ids = _takes_ids(embed, self.query_shape) if ids is None else ids
        self.takes_numbers = not self.takes_ids

    @property
    def parity_query_shape(self) -> tuple[int, ...]:
        return self.inner.parity_query_shape

    @property
    def parity_workers(self) -> int:
        return self.inner.parity_workers

    def train(self, mode: bool = True) -> "EmbeddedEncoder":
        super().train(mode)
        self.embed.eval()
        return self

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, *E)."""
        with torch.no_grad():
            embedded = self.embed(queries.flatten(0, 1))
        encoded: Tensor = self.inner(embedded.unflatten(0, queries.shape[:2]))
        return encoded


@torch.no_grad()
def _takes_ids(embed: nn.Module, query_shape: tuple[int, ...]) -> bool:
    weight = next(embed.parameters(), torch.empty(0))
    try:
        embed(torch.zeros(1, *query_shape, dtype=weight.dtype, device=weight.device))
    except Exception:  # of a user's own network
        return True
    return vocabulary_of(embed, query_shape) is not None  # of an embedding that converts what it gets
