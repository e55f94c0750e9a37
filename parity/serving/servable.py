"""A code with all that a service needs to know of it, whether it comes from a run or from an artefact."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.vocabulary import check_ids


@dataclass(frozen=True, eq=False)
class Servable:
    """A coded model, and how its clients' queries become its own.

    Args:
        model: in eval mode.
        preprocess: stored queries (B, *Q) -> what networks see, (B, *Q). It may overwrite them.
        stored: the type of queries in the data set; where it is of integers, clients' numbers are whole.
        name: of the run or artefact.
        version: of the weights, as a hash.
        default: the prediction (*P) where there is no other, if the service is to have one.
        ids_below: of queries that are ids of tokens, the size of the vocabulary; None for other queries.
    """

    model: CodedModel
    preprocess: Callable[[Tensor], Tensor]
    stored: torch.dtype
    name: str
    version: str
    default: Tensor | None = None
    ids_below: int | None = None

    @property
    def query_shape(self) -> tuple[int, ...]:
        """Shape Q of a query."""
        return tuple(self.model.encoder.query_shape)

    def prepared(self, query: Tensor) -> Tensor:
        """Return a client's query (*Q) as networks see it.

        Raises:
            ParityError: it has another shape, or numbers that the data set cannot hold.
        """
        if tuple(query.shape) != self.query_shape:
            raise ParityError(f"a query has shape {list(self.query_shape)}, and this one has {list(query.shape)}.")
        if not torch.isfinite(query).all():
            raise ParityError("a query has finite numbers only, but this one has NaN or infinity in it.")
        check_ids(query, self.ids_below, "a query")
        return self.preprocess(self._stored(query)[None])[0]

    def _stored(self, query: Tensor) -> Tensor:
        """Convert a query to the type of stored ones, in a copy."""
        if self.stored.is_floating_point:
            converted = query.to(self.stored, copy=True)
            if not torch.isfinite(converted).all():
                raise ParityError(f"a query has numbers that fit {self.stored}, but this one has others.")
            return converted
        limits = torch.iinfo(self.stored)
        if not (limits.min <= query.min() and query.max() <= limits.max):
            raise ParityError(
                f"a query has numbers from {limits.min} to {limits.max}, as the data set stores them, but this one has "
                "others: post it before preprocessing, which the service does itself."
            )
        if query.is_floating_point() and not torch.equal(query, query.round()):
            raise ParityError(
                f"a query has whole numbers from {limits.min} to {limits.max}, as the data set stores them, but this "
                "one has others: post it before it is scaled, which the service does itself."
            )
        return query.to(self.stored, copy=True)
