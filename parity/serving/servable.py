"""A code with all that a service needs to know of it, whether it comes from a run or from an artefact."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError


@dataclass(frozen=True, eq=False)
class Servable:
    """A coded model, and how its clients' queries become its own.

    Args:
        model: in eval mode.
        preprocess: stored queries (B, *Q), floating-point -> what networks see, (B, *Q). It may overwrite them.
        stored: the type of queries in the data set; of uint8 ones, clients post numbers from 0 to 255.
        name: of the run or artefact.
        version: of the weights, as a hash.
        default: the prediction (*P) where there is no other, if the service is to have one.
    """

    model: CodedModel
    preprocess: Callable[[Tensor], Tensor]
    stored: torch.dtype
    name: str
    version: str
    default: Tensor | None = None

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
        query = query.to(torch.float32, copy=True)
        if not torch.isfinite(query).all():
            raise ParityError("a query has finite numbers only, but this one has NaN or infinity in it.")
        if self.stored == torch.uint8 and not (query.min() >= 0 and query.max() <= 255):
            raise ParityError(
                "a query has numbers from 0 to 255, as the data set stores them, but this one has others: post it "
                "before preprocessing, which the service does itself."
            )
        return self.preprocess(query[None])[0]
