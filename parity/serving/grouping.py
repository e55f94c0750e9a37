"""Which queries form a coding group."""

from dataclasses import dataclass
from typing import Protocol

from parity.errors import ParityError


class Grouping(Protocol):
    """Deals arriving queries out to the groups that are open."""

    def slot(self, number: int) -> int:
        """Return which of the open groups a query joins.

        Args:
            number: how many queries were accepted before it.
        """
        ...


@dataclass(frozen=True)
class Consecutive:
    """A group is k consecutive queries: it is full as soon as it can be."""

    def slot(self, number: int) -> int:
        """There is one open group."""
        return 0


@dataclass(frozen=True)
class AcrossBatches:
    """A group is item i of k consecutive batches, as in ParM: neighbours, which share a batch, share no group.

    It takes ``batch_size`` times as long to fill as consecutive queries do; the group timeout should allow for that.

    Args:
        batch_size: queries in a batch.

    Raises:
        ParityError: it is less than 1.
    """

    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ParityError(f"a batch has at least 1 query, not {self.batch_size}.")

    def slot(self, number: int) -> int:
        """There is an open group for each item of a batch."""
        return number % self.batch_size
