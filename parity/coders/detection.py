"""Which outputs look wrong: what arrived is held against what the code rebuilds from the rest.

A code that survives a missing output can also notice a wrong one, at no cost but decoding: each prediction that arrived
is compared with its own reconstruction. Where they differ by more than they do without faults, some output is wrong;
which one is found as the one without which everything else agrees.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from parity.coders.base import Decoder, SystematicDecoder
from parity.errors import ParityError

Difference = Callable[[Tensor, Tensor], Tensor]
"""(what arrived (G, k, *P), what is rebuilt for it (G, k, *P)) -> (G, k), 0 where they agree."""


class ClassGap:
    """How much less likely the reconstruction holds the class that arrived than its own: a difference of log odds.

    It is 0 where both are of the same class, and does not see a fault that leaves the class as it is.
    """

    def __call__(self, arrived: Tensor, rebuilt: Tensor) -> Tensor:
        own = rebuilt.gather(-1, arrived.argmax(-1, keepdim=True)).squeeze(-1)
        return rebuilt.amax(-1) - own


class Distance:
    """Euclidean distance of the predictions."""

    def __call__(self, arrived: Tensor, rebuilt: Tensor) -> Tensor:
        return (arrived - rebuilt).flatten(2).norm(dim=-1)


class Detector(nn.Module):
    """Finds the outputs of a group that look wrong.

    Args:
        decoder: of the code.
        difference: compares what arrived with what is rebuilt for it.
        threshold: the largest difference in a group that passes for none; ``evaluation.detection.calibrated`` chooses
            it on validation data for a rate of false alarms.
    """

    def __init__(self, decoder: Decoder, difference: Difference, threshold: float = 0.0) -> None:
        super().__init__()
        if not threshold >= 0:
            raise ParityError(f"the threshold of a detector is a difference, 0 or more, not {threshold}.")
        self.decoder, self.difference, self.threshold = decoder, difference, threshold

    def disagreement(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much the outputs of each group contradict each other.

        Args:
            base_outputs: (G, m, *P).
            parity_outputs: (G, n - m, *P').
            available: bool (G, n).

        Returns:
            (G,), the largest difference, 0 where nothing can be compared; and bool (G,), where something can.
        """
        k, systematic = self.decoder.k, isinstance(self.decoder, SystematicDecoder)
        if systematic:
            known, arrived = base_outputs[:, :k], available[:, :k]
        else:
            known, arrived = self._rebuilt(base_outputs, parity_outputs, available)
        largest = known.new_zeros(len(available))
        comparable = torch.zeros_like(largest, dtype=torch.bool)
        for worker in range(k if systematic else self.decoder.n):
            rest = available.clone()
            rest[:, worker] = False
            rebuilt, there = self._rebuilt(base_outputs, parity_outputs, rest)
            both = there & arrived & available[:, worker, None]
            if systematic:  # the others are what arrived
                both = both & (torch.arange(k, device=both.device) == worker)
            differences = self.difference(known, rebuilt).masked_fill(~both, 0)
            largest = torch.maximum(largest, differences.amax(1))
            comparable = comparable | both.any(1)
        return largest, comparable

    def _rebuilt(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
        predictions, there = self.decoder.decode_any(base_outputs, parity_outputs, available)
        return predictions.nan_to_num(), there

    def forward(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Return which of the outputs that arrived are suspect; what is done about it is the caller's affair.

        An output with a NaN or an infinity is. Of the others none is, unless they contradict each other; then those
        without any single one of which the rest agrees, first of all where the rest can still be compared. Where there
        is no such output, several are wrong, and all are suspect.

        Args:
            base_outputs: (G, m, *P). What lies at unavailable indices is not read.
            parity_outputs: (G, n - m, *P').
            available: bool (G, n).

        Returns:
            bool (G, n).

        Raises:
            ParityError: ``available`` is of another shape.
        """
        if tuple(available.shape) != (len(base_outputs), self.decoder.n) or available.dtype != torch.bool:
            raise ParityError(
                f"available must be a bool tensor (G, n) = ({len(base_outputs)}, {self.decoder.n}), but is "
                f"{available.dtype} {tuple(available.shape)}."
            )
        outputs = (base_outputs, parity_outputs)
        finite = torch.cat([part.flatten(2).isfinite().all(-1) for part in outputs], dim=1)
        suspect = available & ~finite
        arrived = available & finite
        base, parity = (part.nan_to_num(posinf=0, neginf=0) for part in outputs)
        rows = (self.disagreement(base, parity, arrived)[0] > self.threshold).nonzero().flatten()
        if len(rows):
            suspect[rows] |= self._explanations(base[rows], parity[rows], arrived[rows])
        return suspect

    def predictions(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Return what the decoder makes of the outputs that are not suspect; nothing else changes.

        A prediction that cannot be had without the suspects is the one that they give.

        Args:
            base_outputs: (G, m, *P).
            parity_outputs: (G, n - m, *P').
            available: bool (G, n).

        Returns:
            (G, k, *P).

        Raises:
            ParityError: a pattern of ``available`` cannot be rebuilt.
        """
        own = self.decoder(base_outputs, parity_outputs, available)
        suspect = self(base_outputs, parity_outputs, available)
        rows = suspect.any(1).nonzero().flatten()
        if len(rows):
            trusted = (available & ~suspect)[rows]
            given, there = self.decoder.decode_any(base_outputs[rows], parity_outputs[rows], trusted)
            there = there.reshape(*there.shape, *(1,) * (given.dim() - 2))
            own = own.index_copy(0, rows, torch.where(there, given, own[rows]))
        return own

    def _explanations(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Return the outputs that may be what makes groups contradictory: bool (G, n)."""
        agree, compared = [], []
        for worker in range(self.decoder.n):
            rest = available.clone()
            rest[:, worker] = False
            largest, comparable = self.disagreement(base_outputs, parity_outputs, rest)
            agree.append((largest <= self.threshold) & available[:, worker])
            compared.append(comparable)
        alone = torch.stack(agree, dim=1)
        located = alone & torch.stack(compared, dim=1)
        found = torch.where(located.any(1, keepdim=True), located, alone)
        return torch.where(found.any(1, keepdim=True), found, available)
