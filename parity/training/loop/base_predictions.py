"""The base model's predictions of a batch: looked up where they are always the same, else computed in the step."""

from typing import Protocol

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.data import GroupBatch, GroupLoader


class BasePredictions(Protocol):
    """Gives the base model's predictions (G, k, *P) of a batch."""

    def __call__(self, batch: GroupBatch) -> Tensor: ...


class Computed:
    """Runs the base model in every step: on augmented queries, which it sees as the parity model does.

    In full precision, as what is looked up in validation: the base model is deployed so.
    """

    def __init__(self, model: CodedModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: GroupBatch) -> Tensor:
        with torch.autocast(batch.queries.device.type, enabled=False):
            return self.model.base_outputs(batch.queries)


class LookedUp:
    """Runs the base model once on each query that the loader yields here, then looks up by index.

    Args:
        model: its base model runs at once, in full precision.
        loader: of the queries.
    """

    @torch.no_grad()
    def __init__(self, model: CodedModel, loader: GroupLoader) -> None:
        table: Tensor | None = None
        own, done = loader.own_rows(), 0
        self.positions = torch.zeros(loader.num_rows, dtype=torch.long, device=loader.device)
        """int64, by row index of the data set: where in the table its prediction is."""
        with torch.autocast(loader.device.type, enabled=False):
            for rows, queries, _ in own.every_query():
                predictions = model.base_outputs(queries.unsqueeze(1)).squeeze(1)
                if table is None:
                    table = predictions.new_empty(len(own.sampler.rows), *predictions.shape[1:])
                end = done + len(rows)
                table[done:end] = predictions
                self.positions[rows] = torch.arange(done, end, device=loader.device)
                done = end
        assert table is not None, "a loader has at least one group"
        self.table = table
        """(N, *P), of the queries alone that batches can hold here."""

    def __call__(self, batch: GroupBatch) -> Tensor:
        positions = self.positions.index_select(0, batch.indices.flatten())
        predictions = self.table.index_select(0, positions)
        return predictions.view(*batch.indices.shape, *predictions.shape[1:])


def base_predictions(model: CodedModel, loader: GroupLoader) -> BasePredictions:
    """Look predictions up where the loader yields exactly what lies in its data set, else compute them."""
    return LookedUp(model, loader) if loader.queries_are_fixed else Computed(model)
