"""Where ApproxIFER's wrong outputs are: a rational function is fitted to each class's outputs, and evidence adds up.

Soleymani, Ali, Mahdavifar, Avestimehr: "ApproxIFER: A Model-Agnostic Approach to Resilient and Robust Prediction
Serving Systems" (AAAI 2022), section 4 and algorithm 2. There every class votes for E workers; here what each class
holds against a worker is added up, which finds more (docs/detection.md).
"""

import math

import torch
from torch import Tensor, nn

from parity.coders.interpolation import Nodes, worker_nodes
from parity.errors import ParityError

_LEAST = 1e-12
"""Of abs(q), beside its median: one class alone does not decide."""


class Locator(nn.Module):
    """Finds E wrong outputs of a code whose workers all run the base model.

    It always names E: ask it where something is known to be wrong, or where E outputs may be spared.

    Args:
        errors: E.
        needed: outputs of each group that must arrive.
        n: workers.
    """

    def __init__(self, errors: int, needed: int, n: int) -> None:
        super().__init__()
        self.errors, self.needed, self.n = errors, needed, n

    def forward(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Return the E suspects of each group.

        Args:
            base_outputs: (G, n, *P). What lies at unavailable indices is not read.
            parity_outputs: (G, 0, *P), of no use here.
            available: bool (G, n).

        Returns:
            bool (G, n).

        Raises:
            ParityError: too few outputs of a group arrived, or there are not n of them.
        """
        if base_outputs.shape[1] != self.n or tuple(available.shape) != tuple(base_outputs.shape[:2]):
            raise ParityError(
                f"wrong outputs are looked for among {self.n} of each group, not among outputs of shape "
                f"{tuple(base_outputs.shape)} of which {tuple(available.shape)} are available."
            )
        if len(available) == 0:
            return torch.zeros_like(available)
        if int(available.sum(1).amin()) < self.needed:
            raise ParityError(f"finding {self.errors} wrong outputs needs {self.needed} outputs of each group.")
        return self.suspects(base_outputs.flatten(2).double(), available)

    def suspects(self, values: Tensor, available: Tensor) -> Tensor:
        """Return the suspects, bool (G, n), for float64 numbers (G, n, C), where ``available`` (G, n)."""
        raise NotImplementedError


class RationalLocator(Locator):
    """Finds E wrong outputs of a code whose workers all run the base model.

    For each number of a prediction, polynomials p and q of degree k + E - 1 are fitted such that p(beta_i) = y_i
    q(beta_i) for the outputs y_i that arrived: where y is a rational function of degree k - 1 in all but E of them, as
    for a linear base model, q has a zero at each of these. The E workers with the smallest sum of log abs(q), each
    relative to its median over workers, are suspect.

    Args:
        k: queries in a coding group.
        n: workers; at least 2 (k + E) - 1 of their outputs must arrive.
        errors: E.
        nodes: makes the betas, those of encoder and decoder.

    Raises:
        ParityError: E is not positive, or the workers are too few.
    """

    def __init__(self, k: int, n: int, errors: int, nodes: Nodes = worker_nodes) -> None:
        super().__init__(errors, 2 * (k + errors) - 1, n)
        if errors < 1 or n < self.needed:
            raise ParityError(
                f"{errors} wrong outputs at k = {k} are found among 2 (k + E) - 1 = {self.needed} workers or more, "
                f"with E of at least 1, not among {n}."
            )
        powers = torch.arange(k + errors, dtype=torch.float64)
        basis = (powers * nodes(n).clamp(-1, 1).acos()[:, None]).cos()  # Chebyshev polynomials at the nodes
        self.register_buffer("basis", basis, persistent=False)
        self.basis: Tensor

    def suspects(self, values: Tensor, available: Tensor) -> Tensor:
        """Return the suspects, E of each row; all outputs that are not numbers, where these are more."""
        values = values.mT  # (G, C, n)
        finite = values.isfinite().all(1) & available
        used = finite.unsqueeze(1)
        values = values.masked_fill(~used, 0)
        values = values / values.abs().amax(-1, keepdim=True).clamp(min=1e-300)
        equations = torch.cat([self.basis.expand(*values.shape, -1), -values.unsqueeze(-1) * self.basis], dim=-1)
        equations = equations * used.unsqueeze(-1)  # (G, C, n, 2 (k + E))
        fitted = torch.linalg.svd(equations)[2][..., -1, :]  # the unit vector that they map nearest to zero
        q = (self.basis @ fitted[..., self.basis.shape[1] :].unsqueeze(-1)).squeeze(-1).abs()  # (G, C, n)
        middle = q.masked_fill(~used, math.nan).nanmedian(-1, keepdim=True).values
        evidence = -(q / middle.clamp(min=_LEAST)).clamp(min=_LEAST).log().sum(1)
        evidence = evidence.masked_fill(available & ~finite, math.inf).masked_fill(~available, -math.inf)
        suspects = evidence.topk(self.errors).indices
        return (available & ~finite).scatter(1, suspects, True)
