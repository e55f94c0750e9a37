"""A ``CodedModel`` taken apart for serving: its code for the core, the sizes of its pools."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.serving.commands import BASE

# Patterns of which is remembered what can be rebuilt.
_MOST_KNOWN = 1 << 12


class ModelCode:
    """Encodes and decodes single groups with a coded model's encoder and decoder, on the CPU.

    Queries are tensors (*Q), outputs (*P) of the base model and (*P') of parity models. The blank is the
    model's ``blank_query``.

    Args:
        model: which is not to be trained meanwhile.
    """

    def __init__(self, model: CodedModel) -> None:
        self.k, self.n = model.k, model.n
        self.systematic = model.encoder.systematic
        self.blank = model.blank_query()
        self._encoder, self._decoder = model.encoder, model.decoder
        self._base_workers = model.n - len(model.parity_models)
        self._known: dict[tuple[bool, ...], frozenset[int]] = {}

    def pool(self, worker: int) -> int:
        """Return the pool of a worker: each parity model has one."""
        return BASE if worker < self._base_workers else 1 + worker - self._base_workers

    @torch.inference_mode()
    def encode(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """Encode k queries (*Q): what workers k ... n - 1 are asked, or all n if the code is not systematic."""
        base_queries, parity_queries = self._encoder.dispatch(torch.stack(list(queries))[None])
        coded = [*base_queries[0], *parity_queries[0]]
        return coded[self.k :] if self.systematic else coded

    def rebuildable(self, arrived: AbstractSet[int]) -> frozenset[int]:
        """Return which predictions can be rebuilt from the outputs of these workers."""
        pattern = self._pattern(arrived)
        if (known := self._known.get(pattern)) is None:
            found = self._decoder.rebuildable(torch.tensor([pattern]))[0]
            known = frozenset(found.nonzero().flatten().tolist())
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[pattern] = known
        return known

    @torch.inference_mode()
    def decode(self, outputs: Mapping[int, Tensor]) -> list[Tensor]:
        """Rebuild k predictions (*P) from the outputs by worker."""
        prediction_shape = self._decoder.prediction_shape
        base = self._stack(outputs, range(self._base_workers), prediction_shape)
        parity = self._stack(outputs, range(self._base_workers, self.n), self._decoder.parity_shape(prediction_shape))
        return [*self._decoder.decode_one(base, parity, self._pattern(outputs.keys()))[0]]

    def _pattern(self, arrived: AbstractSet[int]) -> tuple[bool, ...]:
        return tuple(worker in arrived for worker in range(self.n))

    @staticmethod
    def _stack(outputs: Mapping[int, Tensor], workers: range, shape: Sequence[int]) -> Tensor:
        """Lay outputs beside each other, zeros where none arrived: (1, workers, *shape)."""
        missing = torch.zeros(tuple(shape))
        found = [outputs.get(worker, missing) for worker in workers]
        return torch.stack(found)[None] if found else torch.zeros(1, 0, *shape)


def pool_sizes(model: CodedModel, workers: int) -> list[int]:
    """Return the workers of each pool: so many run the base model, 1 / k of them each parity model.

    A parity pool gets one query for each k of the base pool.

    Raises:
        ParityError: fewer than 1 worker.
    """
    if workers < 1:
        raise ParityError(f"the base model needs at least 1 worker, not {workers}.")
    return [workers, *[-(-workers // model.k)] * len(model.parity_models)]
