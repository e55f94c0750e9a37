"""Where wrong outputs are, by how the outputs of a group's workers go together where nothing is wrong.

Workers that all run the base model on a curve through the queries put out numbers that go together: a worker's are
much like the next one's. Without which E outputs are the others most like that? ApproxIFER's own locator, which needs
no outputs to learn from, is ``RationalLocator``.
"""

import itertools
import math

import torch
from torch import Tensor

from parity.coders.locator import Locator
from parity.errors import ParityError

_NOISE = 0.01
"""Added to the variance of each worker's outputs, of their mean: what is measured on few groups is not exact."""

_MOST = 100_000
"""Choices of E workers among n that are tried."""

_AT_ONCE = 1 << 22
"""Numbers that are compared at a time."""


class LikelyLocator(Locator):
    """Finds E wrong outputs of a code whose workers all run the base model.

    Numbers of a prediction are taken to be drawn, all n workers' at once, from a normal distribution with mean zero,
    and the E suspects are those without which the others are most likely. With M the second moments of outputs without
    faults, P = M^-1 and g = P y, leaving S out makes -2 log(likelihood) of a number's y smaller by g_S^T (P_SS)^-1 g_S,
    which is added up over a prediction's numbers. More than 2 E outputs of each group must arrive.

    Args:
        outputs: of workers without faults, (G, n, *P), for example on validation data; finite.
        errors: E.

    Raises:
        ParityError: E is not positive, or half of the workers or more, there are too many choices of E among n, or
            there are no outputs to learn from.
    """

    def __init__(self, outputs: Tensor, errors: int) -> None:
        super().__init__(errors, 2 * errors + 1, outputs.shape[1])
        if not len(outputs) or not outputs.isfinite().all() or not outputs.any():
            raise ParityError(
                f"wrong outputs are found by what outputs without faults are like, and these {len(outputs)} groups of "
                "them hold none, numbers that are not finite, or nothing but zeros."
            )
        if not 1 <= errors < self.n / 2:
            raise ParityError(
                f"E = {errors} wrong outputs among {self.n} cannot be found: E is 1 to {(self.n - 1) // 2}."
            )
        if math.comb(self.n, errors) > _MOST:
            raise ParityError(
                f"there are too many choices of {errors} wrong outputs among {self.n} to try each: use a smaller E."
            )
        values = outputs.flatten(2).double()
        moments = torch.einsum("gic,gjc->ij", values, values) / (len(values) * values.shape[2])
        noise = _NOISE * moments.diagonal().mean()
        self.register_buffer("moments", moments + noise * torch.eye(self.n, dtype=moments.dtype), persistent=False)
        self.moments: Tensor

    def suspects(self, values: Tensor, available: Tensor) -> Tensor:
        """Return the suspects, E of each row; all outputs that are not numbers, where these are more."""
        used = values.isfinite().all(2) & available
        suspects = available & ~used
        patterns, index = torch.cat([used, suspects], dim=1).unique(dim=0, return_inverse=True)
        for row, pattern in enumerate(patterns):
            groups, workers = (index == row).nonzero().flatten(), pattern[: self.n].nonzero().flatten()
            left = self.errors - int(pattern[self.n :].sum())
            if left > 0:
                found = self._least_likely(values[groups][:, workers], self.moments[workers][:, workers], left)
                suspects[groups.unsqueeze(1), workers[found]] = True
        return suspects

    def _least_likely(self, values: Tensor, moments: Tensor, errors: int) -> Tensor:
        """Return for values (G, w, C) of w workers with moments (w, w) which E to leave out: int64 (G, E)."""
        precision = moments.inverse()
        against = precision @ values
        products = against @ against.mT  # (G, w, w)
        choices = torch.tensor(list(itertools.combinations(range(len(moments)), errors)), device=values.device)
        rows, columns = choices.unsqueeze(2), choices.unsqueeze(1)
        inverses = precision[rows, columns].inverse()  # (choices, E, E)
        most = max(1, _AT_ONCE // inverses.numel())
        gained = [(part[:, rows, columns] * inverses).sum((2, 3)).argmax(1) for part in products.split(most)]
        return choices[torch.cat(gained)]
