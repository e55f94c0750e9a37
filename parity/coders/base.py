"""What every encoder and every decoder is.

Letters: G groups in a batch, k queries in a group, r parity queries, n = k + r outputs, m of them the
base model's; Q is the shape of a query, Q' that of a parity query, P that of a prediction, P' that of a parity model's
output.

Coders are made with (k, r, query shape) or (k, r, prediction shape). The docstring of a code of its own names of these
what it restricts.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coders.pattern_cache import Pattern, PatternCache
from parity.coders.precision import exact
from parity.errors import ParityError

Shape = Sequence[int]


class Coder(nn.Module):
    """What an encoder and a decoder of a (k, r) code have in common.

    Args:
        k: queries in a coding group.
        r: parity queries made of them.

    Attributes:
        least_r: the least r, 1 for a code that needs a parity query.
    """

    least_r: ClassVar[int] = 0

    def __init__(self, k: int, r: int) -> None:
        super().__init__()
        if k < 1 or r < self.least_r:
            least = f"k of at least 1 and r of at least {self.least_r}"
            raise ParityError(f"{type(self).__name__} needs {least}, not k = {k} and r = {r}.")
        self.k, self.r, self.n = k, r, k + r


class Encoder(Coder):
    """Makes the coded queries of a group that are not its queries themselves.

    Args:
        k: queries in a coding group.
        r: parity queries made of them.
        query_shape: shape Q of a query.

    Raises:
        ParityError: the code cannot do this (k, r), or not with queries of this shape.

    Attributes:
        systematic: the first k queries that the base model is asked are the queries themselves.
        copies: how many workers the base model's queries go to each: those of worker j and of worker j + m / copies
            are the same.
        takes_ids: queries may be ids of tokens, integers; codes that add queries up or resample them take none.
        takes_numbers: queries may be floating-point numbers; codes of ids alone take none.
    """

    systematic: ClassVar[bool] = True
    takes_ids: bool = False
    takes_numbers: bool = True
    copies: int = 1

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r)
        self.query_shape = tuple(query_shape)

    @property
    def parity_workers(self) -> int:
        """n - m, the workers that run a parity model: r of them in a systematic code, as here."""
        return self.r

    @property
    def parity_query_shape(self) -> tuple[int, ...]:
        """Q', the shape of a parity query: Q, as here, unless a code sends its parity workers more or less."""
        return self.query_shape

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, *Q'), or coded queries (G, n, *Q) if not systematic."""
        raise NotImplementedError

    def dispatch(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the workers are asked.

        Args:
            queries: (G, k, *Q).

        Returns:
            The base model's queries, (G, m, *Q), and the parity models', (G, n - m, *Q'). In a
            systematic code, as here, the first are the queries themselves; one that is not overrides this, and sets
            ``systematic``.

        Raises:
            ParityError: these are not groups of k queries.
        """
        self.check(queries)
        with exact(queries):
            return queries, self(queries)

    def check(self, queries: Tensor) -> None:
        """Make sure that these are groups of k queries, (G, k, *Q).

        Raises:
            ParityError: they are not.
        """
        if tuple(queries.shape[1:]) != (self.k, *self.query_shape):
            raise ParityError(
                f"expected groups of k = {self.k} queries of shape {self.query_shape}, i.e. a tensor "
                f"(G, {', '.join(map(str, (self.k, *self.query_shape)))}), but got {tuple(queries.shape)}."
            )
        if not (queries.is_floating_point() or self.takes_ids):
            raise ParityError(
                f"queries of {type(self).__name__} must be floating-point numbers, but are {queries.dtype}: scale them "
                "first, or encode ids of tokens with TokenCellsEncoder."
            )


class Decoder(Coder):
    """Rebuilds the predictions of a group from the outputs that arrived.

    Args:
        k: queries in a coding group.
        r: parity queries made of them.
        prediction_shape: shape P of a prediction.

    Raises:
        ParityError: the code cannot do this (k, r), or not with predictions of this shape.
    """

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r)
        self.prediction_shape = tuple(prediction_shape)
        self._decodable: PatternCache[bool] = PatternCache()  # of single groups: no need to ask again
        self._patterns: PatternCache[Tensor] = PatternCache(16)

    def parity_shape(self, prediction_shape: Shape) -> tuple[int, ...]:
        """Return P', the shape of what a parity model must put out, for predictions of shape P."""
        return tuple(prediction_shape)

    def parity_targets(self, predictions: Tensor) -> Tensor:
        """Return what perfect parity models would put out: predictions (G, k, *P) -> (G, r, *P').

        Raises:
            ParityError: this decoder has no exact target.
        """
        raise ParityError(
            f"{type(self).__name__} has no exact parity target: train with a loss on the reconstructions instead."
        )

    @property
    def tolerance(self) -> int:
        """Every pattern of at most so many unavailable outputs can be rebuilt: r, unless a decoder promises less."""
        return self.r

    def can_decode(self, available: Tensor) -> Tensor:
        """Return which patterns can be rebuilt, all missing predictions of them: bool (G, n) -> bool (G,)."""
        raise NotImplementedError

    def patterns_of(self, choose: Callable[[int, int], Tensor], device: torch.device) -> Tensor:
        """Return patterns to train on, bool (E, n) on a device: ``choose(k, r)``, checked once and kept.

        Raises:
            ParityError: not all that is missing under one of them can be rebuilt.
        """
        return self._patterns.get(choose, lambda _: self._checked(choose).to(device, non_blocking=True), device)

    def _checked(self, choose: Callable[[int, int], Tensor]) -> Tensor:
        patterns = choose(self.k, self.r)
        if not (decodable := self.can_decode(patterns)).all():
            pattern = erasures.describe(patterns[(~decodable).nonzero()[0, 0]])
            name = getattr(choose, "__name__", repr(choose))
            raise ParityError(f"{type(self).__name__} cannot be trained on {name}: {pattern}.")
        return patterns

    def rebuildable(self, available: Tensor) -> Tensor:
        """Return which predictions can be rebuilt under each pattern: bool (G, n) -> bool (G, k).

        All or none, as here, unless a decoder rebuilds some predictions of a group where it has lost others. It means
        nothing where a prediction need not be rebuilt.
        """
        return self.can_decode(available)[:, None].expand(-1, self.k)

    def rebuilt(self, available: Tensor) -> Tensor:
        """Return which predictions have to be rebuilt under each pattern: bool (G, n) -> bool (G, k)."""
        raise NotImplementedError

    def decode(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Rebuild what is known to be ``rebuildable``; see ``forward`` for the shapes.

        Where some predictions of a group are lost and others not, those that are lost come back as NaN.

        Nothing in here waits for the device, so this is what training calls.
        """
        raise NotImplementedError

    def where_read(self, device: torch.device) -> torch.device:
        """Return where ``decode`` best finds ``available``, for outputs on a device: there too, as here."""
        return device

    def decode_under(self, base_outputs: Tensor, parity_outputs: Tensor, pattern: Tensor) -> Tensor:
        """Rebuild all groups under one pattern, bool (n,), in which what has to be rebuilt is ``rebuildable``.

        With ``pattern`` on the CPU, this need not wait for the device.
        """
        available = pattern.to(base_outputs.device, non_blocking=True)
        return self.decode(base_outputs, parity_outputs, available.expand(len(base_outputs), -1))

    def decode_one(self, base_outputs: Tensor, parity_outputs: Tensor, pattern: Pattern) -> Tensor:
        """Rebuild a single group, as a server does: the same as ``decode_under``, for what knows a faster way."""
        return self.decode_under(base_outputs, parity_outputs, torch.tensor(pattern))

    def decode_patterns(self, base_outputs: Tensor, parity_outputs: Tensor, patterns: Tensor) -> Tensor:
        """Rebuild all groups under each of several patterns, bool (E, n), as ``decode_under`` does: (E, G, k, *P)."""
        groups, count = len(base_outputs), len(patterns)
        available = patterns.to(base_outputs.device, non_blocking=True).repeat_interleave(groups, dim=0)
        base_outputs, parity_outputs = (
            outputs.repeat(count, *(1,) * (outputs.dim() - 1)) for outputs in (base_outputs, parity_outputs)
        )
        return self.decode(base_outputs, parity_outputs, available).unflatten(0, (count, groups))

    def decode_any(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
        """Rebuild under any patterns, also those that cannot be rebuilt, without a branch on what is in them.

        This is what ``torch.export`` traces, where ``traceable`` returns this decoder; see ``forward`` for the shapes.

        Returns:
            (G, k, *P), NaN where a prediction is not there, and bool (G, k): where it arrived or could be rebuilt.
        """
        rebuildable = self.rebuildable(available)
        there = rebuildable | ~self.rebuilt(available)
        known = available | ~rebuildable.any(1, keepdim=True)  # a pattern that decoders know, where there is nothing
        predictions = self.decode(base_outputs, parity_outputs, known)
        return predictions.masked_fill(like(~there, predictions), torch.nan), there

    def traceable(self) -> "Decoder":
        """Return a decoder with the same reconstructions whose ``decode_any`` can be traced; itself, as here, if it is.

        Raises:
            ParityError: what it would have to hold is too much.
        """
        return self

    def rebuild_each(self, base_outputs: Tensor, parity_outputs: Tensor) -> Tensor:
        """Rebuild every prediction as if its output alone were unavailable: what A_d is counted on.

        Args:
            base_outputs: (G, m, *P), finite numbers.
            parity_outputs: (G, n - m, *P'), finite numbers.

        Returns:
            (G, k, *P), prediction i rebuilt under the pattern that misses output i and nothing else.
        """
        groups, k = len(base_outputs), self.k
        patterns = erasures.single_erasures(k, self.n).to(base_outputs.device, non_blocking=True)
        rebuilt = self.decode(
            base_outputs.repeat_interleave(k, dim=0),
            parity_outputs.repeat_interleave(k, dim=0),
            patterns.repeat(groups, 1),
        )
        own = torch.arange(k, device=rebuilt.device)
        return rebuilt.unflatten(0, (groups, k))[:, own, own]

    def forward(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Rebuild the predictions of each group.

        Args:
            base_outputs: (G, m, *P). What lies at unavailable indices is never read.
            parity_outputs: (G, n - m, *P').
            available: bool (G, n). On the CPU, checking it costs no wait for the device.

        Returns:
            (G, k, *P).

        Raises:
            ParityError: a pattern that cannot be rebuilt, named, or ``available`` of another shape.
        """
        groups = base_outputs.shape[0]
        if not isinstance(available, Tensor):
            raise ParityError(f"available must be a bool tensor (G, n), but is of type {type(available).__name__}.")
        if tuple(available.shape) != (groups, self.n) or available.dtype != torch.bool:
            raise ParityError(
                f"available must be a bool tensor (G, n) = ({groups}, {self.n}), True where an output arrived, "
                f"but is {available.dtype} {tuple(available.shape)}."
            )
        if groups == 1 and (pattern := tuple(available.tolist()[0])) in self._decodable:
            return self.decode_one(base_outputs, parity_outputs, pattern)
        decodable = self.can_decode(available)
        if not decodable.all():
            row = int((~decodable).nonzero()[0])
            raise ParityError(
                f"{self._get_name()} (k = {self.k}, r = {self.r}) cannot rebuild group {row}: "
                f"{erasures.describe(available[row])}; ask can_decode(available) beforehand."
            )
        if groups == 1:
            self._decodable.get(pattern, lambda _: True)
        return self.decode(
            base_outputs, parity_outputs, available.to(self.where_read(base_outputs.device), non_blocking=True)
        )


class SystematicDecoder(Decoder):
    """A decoder of a systematic code: what arrived comes back bit for bit, only what is missing is rebuilt."""

    def rebuilt(self, available: Tensor) -> Tensor:
        return ~available[:, : self.k]

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Rebuild all k predictions, (G, k, *P), from outputs whose unavailable entries are zeros."""
        raise NotImplementedError

    def decode(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        base_missing = like(~available[:, : self.k], base_outputs)
        parity_missing = like(~available[:, self.k :], parity_outputs)
        rebuilt = self.rebuild(
            base_outputs.masked_fill(base_missing, 0), parity_outputs.masked_fill(parity_missing, 0), available
        )
        return torch.where(base_missing, rebuilt, base_outputs)


def like(mask: Tensor, outputs: Tensor) -> Tensor:
    """Append dimensions to a (G, x) mask until it broadcasts with (G, x, *P)."""
    return mask.reshape(*mask.shape, *(1,) * (outputs.dim() - mask.dim()))
