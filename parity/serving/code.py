"""What the core needs of a code; it names workers by their index 0 ... n - 1 and knows no tensors."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from parity.serving.commands import P, Q


class Code(Protocol[Q, P]):
    """A (k, r) code: encoding, decoding, and which outputs suffice.

    Attributes:
        k: queries in a coding group.
        n: outputs of a group.
        systematic: workers 0 ... k - 1 are asked the queries themselves.
        blank: the query that fills a partial group.
    """

    @property
    def k(self) -> int: ...

    @property
    def n(self) -> int: ...

    @property
    def systematic(self) -> bool: ...

    @property
    def blank(self) -> Q: ...

    def pool(self, worker: int) -> int:
        """Return the pool of a worker: ``BASE``, or 1 + j for parity model j."""
        ...

    def encode(self, queries: Sequence[Q]) -> Sequence[Q]:
        """Return what the workers are asked beside the queries themselves.

        Args:
            queries: the k of a group.

        Returns:
            Those of workers k ... n - 1 of a systematic code, of all n workers otherwise.
        """
        ...

    def rebuildable(self, arrived: AbstractSet[int]) -> AbstractSet[int]:
        """Return which members 0 ... k - 1 of a group can be rebuilt from the outputs of these workers."""
        ...

    def decode(self, outputs: Mapping[int, P]) -> Sequence[P]:
        """Rebuild a group from outputs by worker: k predictions, of which only the ``rebuildable`` ones count."""
        ...
