"""Cells of token ids: every sequence is shortened by leaving tokens out, and k short ones are a parity query.

Ids are never added up or resampled, so a parity query is a sequence of ids again, and a network for ids takes it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from parity.coders.base import Encoder, Shape
from parity.errors import ParityError
from parity.grids import Grid

_FAR = 1e6
"""Between the scores of tokens that are always kept, of others, and of padding."""


class Shortening(nn.Module):
    """Scores tokens: those with the highest scores are kept, in their order.

    Args:
        length: L, tokens in a query.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("indices", torch.arange(float(length)), persistent=False)
        self.indices: Tensor

    def forward(self, ids: Tensor, real: Tensor, kept: int) -> Tensor:
        """Score: ids int (B, L), bool (B, L) where a token may be chosen, so many of each row -> floats (B, L)."""
        raise NotImplementedError


class Head(Shortening):
    """Keeps the first tokens."""

    def forward(self, ids: Tensor, real: Tensor, kept: int) -> Tensor:
        return -self.indices.expand(ids.shape)


class Tail(Shortening):
    """Keeps the last tokens."""

    def forward(self, ids: Tensor, real: Tensor, kept: int) -> Tensor:
        return self.indices.expand(ids.shape)


class Strided(Shortening):
    """Keeps tokens at equal distances: the last one of each of as many equal parts of what is not padding.

    Of 16 tokens, numbered from 1, a cell for 4 keeps 4, 8, 12 and 16.
    """

    def forward(self, ids: Tensor, real: Tensor, kept: int) -> Tensor:
        rank, total = real.cumsum(-1), real.sum(-1, keepdim=True).clamp(min=1)
        steps = rank * kept // total
        return ((steps > (rank - 1) * kept // total) | (total <= kept)).float()


class Important(Shortening):
    """Keeps the tokens of the ids and indices that matter most, which is learned.

    A token's score is a number of its id and one of its index, which begin as those of ``Head``. In training, Gumbel
    noise is added to the scores, so that also other tokens are tried. The parity model's loss reaches the scores by a
    straight-through estimate: what is kept is weighted by 1, with the gradient of a softmax of the scores. So ids of
    parity queries are floats in training, whole numbers, which the network must take: ``parity.models.Embedding`` does.

    Args:
        length: L, tokens in a query.
        vocabulary: ids are below it.
        noise: the scale of the noise.
    """

    def __init__(self, length: int, vocabulary: int, noise: float = 0.3) -> None:
        super().__init__(length)
        self.noise = noise
        self.of_ids = nn.Parameter(torch.zeros(vocabulary))
        self.of_indices = nn.Parameter(-torch.arange(length) / length)

    def forward(self, ids: Tensor, real: Tensor, kept: int) -> Tensor:
        scores = self.of_ids[ids] + self.of_indices
        if self.training and torch.is_grad_enabled():
            exponential = torch.empty_like(scores).exponential_().clamp(min=1e-9)
            scores = scores - self.noise * exponential.log()
        return scores


class TokenCellsEncoder(Encoder):
    """Shortens the k sequences of a group to L // k tokens each and puts them one after another, padding at the end.

    Padding is kept only where a sequence has too few tokens, on the side that it is on; a sequence that fits its cell
    keeps all its tokens. All r parity queries are the same. Sequences shorter than L are padded at their end before
    they are encoded (the base model gets them as they are); longer ones are refused.

    Args:
        k: up to L.
        r: 1 or more.
        query_shape: (L,), ids, among which ``padding`` stands for no token; or (2, L), ids and their attention mask,
            which is 1 for tokens.
        shortening: makes what chooses tokens, called with L: ``Head``, ``Tail``, ``Strided``, or
            ``partial(Important, vocabulary=...)``.
        padding: the id of padding.
        keep: so many first tokens are always kept, e.g. 1 for one that stands for the whole sequence.

    Raises:
        ParityError: queries are not sequences, or have fewer than k tokens, or cells have no room for ``keep`` tokens.
    """

    least_r = 1
    takes_ids, takes_numbers = True, False

    def __init__(
        self,
        k: int,
        r: int,
        query_shape: Shape,
        shortening: Callable[[int], nn.Module] = Strided,
        padding: int = 0,
        keep: int = 0,
    ) -> None:
        super().__init__(k, r, query_shape)
        if len(self.query_shape) not in (1, 2) or self.query_shape[:-1] not in ((), (2,)):
            raise ParityError(
                f"{type(self).__name__} takes sequences of ids, (L,), or ids with their attention mask, (2, L), but a "
                f"query here has shape {self.query_shape}."
            )
        self.grid = Grid(k, query_shape, axes=(-1,))
        self.length, self.kept = self.query_shape[-1], self.grid.cell_shape[-1]
        if not 0 <= keep <= self.kept:
            raise ParityError(f"cells of {self.kept} tokens have no room for keep = {keep} of them.")
        self.keep = keep
        self.shortening = shortening(self.length)
        fill = torch.tensor([padding]) if len(self.query_shape) == 1 else torch.tensor([[padding], [0]])
        self.register_buffer("fill", fill, persistent=False)
        self.fill: Tensor

    def check(self, queries: Tensor) -> None:
        if queries.is_floating_point():
            raise ParityError(f"{type(self).__name__} takes ids, integers, but queries here are {queries.dtype}.")
        if queries.shape[-1] > self.length:
            raise ParityError(
                f"sequences of {queries.shape[-1]} tokens are longer than the {self.length} that this code was made "
                f"for: cut them to {self.length}, or make a code for longer ones."
            )
        super().check(self.padded(queries))

    def padded(self, queries: Tensor) -> Tensor:
        """Pad sequences at their end: (..., at most L) -> (..., L)."""
        missing = self.length - queries.shape[-1]
        if not missing:
            return queries
        return torch.cat([queries, self.fill.to(queries).expand(*queries.shape[:-1], missing)], dim=-1)

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: ids (G, k, *Q) -> ids (G, r, *Q)."""
        whole = self.padded(queries).flatten(0, 1)
        ids, real = self._tokens(whole)
        chosen, weights = self._chosen(ids, real)
        cells = whole.gather(-1, chosen if ids is whole else chosen.unsqueeze(1).expand(-1, 2, -1))
        if weights is not None:
            carried = weights - weights.detach()  # zeros, with a gradient
            cells = cells + (carried if ids is whole else torch.stack([carried, torch.zeros_like(carried)], 1))
        fill = self.fill.to(queries.dtype)
        parity_query = self.grid.join((cells - fill).unflatten(0, (-1, self.k))) + fill
        return parity_query.unsqueeze(1).expand(-1, self.r, *parity_query.shape[1:])

    def _tokens(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), and bool (B, L): where there are tokens and no padding."""
        if len(self.query_shape) == 1:
            return queries, queries != self.fill
        return queries[:, 0], queries[:, 1] != 0

    def _chosen(self, ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the indices that are kept, (B, l) in order, and the weights that gradients go through, if any."""
        order = torch.arange(self.length, device=ids.device)
        always = real & (real.cumsum(-1) <= self.keep)
        free = real & ~always
        scores = self.shortening(ids, free, self.kept - self.keep)
        ranked = torch.where(free, scores.detach(), torch.where(always, _FAR, -_FAR) - order)
        chosen = ranked.topk(self.kept).indices.sort().values
        if not (self.training and scores.requires_grad):
            return chosen, None
        weights = scores.masked_fill(~real, -_FAR).softmax(-1) * self.kept
        return chosen, weights.gather(-1, chosen)
