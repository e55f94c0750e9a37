"""A small transformer encoder that classifies sequences of token ids."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError


class Embedding(nn.Embedding):
    """``nn.Embedding`` that also takes ids as floats that hold whole numbers, and hands a gradient on to them.

    The gradient is that of a weight of 1 on each embedding: what a learned choice of tokens is trained by.
    """

    def forward(self, ids: Tensor) -> Tensor:
        """Look up: ids (..., L), int or float -> (..., L, D)."""
        if not ids.is_floating_point():
            return super().forward(ids)
        weights = 1 + (ids - ids.detach())
        return super().forward(ids.detach().long()) * weights.unsqueeze(-1)


class TextTransformer(nn.Module):
    """Transformer encoder blocks with normalisation first, and the mean over all tokens that are not padding.

    It takes sequences of any length: embeddings are added to sines and cosines of the index (Vaswani et al., 2017,
    section 3.5). With the defaults and 8,000 ids it has 1.4 million weights.

    Args:
        query_shape: (L,), ids; or (2, L), ids and their attention mask, which is 1 for tokens.
        prediction_shape: P, e.g. the number of classes.
        vocabulary: ids are below it.
        width: D, of embeddings; a multiple of the heads.
        blocks, heads: how many.
        padding: the id of padding, which attention leaves out.
        dropout: after embeddings and in each block.

    Raises:
        ParityError: queries are not sequences, or the width is not a multiple of the heads.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        vocabulary: int,
        width: int = 128,
        blocks: int = 2,
        heads: int = 4,
        padding: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(query_shape) not in (1, 2) or (len(query_shape) == 2 and query_shape[0] != 2):
            raise ParityError(
                f"TextTransformer takes ids (L,), or ids with their attention mask (2, L), not queries of shape "
                f"{tuple(query_shape)}."
            )
        if width % (2 * heads):
            raise ParityError(f"a width of {width} is not an even number for each of {heads} heads.")
        self.padding, self.prediction_shape = padding, tuple(prediction_shape)
        self.embedding = Embedding(vocabulary, width, padding_idx=padding)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([_Block(width, heads, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, math.prod(self.prediction_shape))

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: ids (B, L) or (B, 2, L) -> (B, *P)."""
        ids, real = (queries, queries != self.padding) if queries.dim() == 2 else (queries[:, 0], queries[:, 1] != 0)
        hidden = self.embedding(ids)
        hidden = self.dropout(hidden + sines(hidden.shape[1], hidden.shape[2], hidden.device))
        first = torch.arange(hidden.shape[1], device=hidden.device) == 0
        seen = real | (first & ~real.any(1, keepdim=True))  # of nothing but padding one token is looked at
        for block in self.blocks:
            hidden = block(hidden, seen)
        weights = seen.to(hidden.dtype).unsqueeze(-1)
        pooled = (self.norm(hidden) * weights).sum(1) / weights.sum(1)
        numbers = self.head(pooled)
        return numbers if len(self.prediction_shape) == 1 else numbers.unflatten(1, self.prediction_shape)


class _Block(nn.Module):
    """Attention and two linear layers, each added to what it is called with."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Transform: (B, L, D), and bool (B, L) where there are tokens -> (B, L, D)."""
        inputs = self.inputs(self.norm_attention(hidden))
        query, key, value = inputs.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        hidden = hidden + self.dropout(self.outputs(attended.transpose(1, 2).flatten(2)))
        return hidden + self.dropout(self.layers(self.norm_layers(hidden)))


def sines(length: int, width: int, device: torch.device) -> Tensor:
    """Return the sines and cosines of indices at width / 2 frequencies: (L, D)."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000) / width))
    angles = torch.arange(length, device=device).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
