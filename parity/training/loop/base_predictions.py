"""What the base model says of a batch: looked up where it is always the same, else asked in the step."""

from typing import Protocol

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.data import GroupBatch, GroupLoader


class BasePredictions(Protocol):
    """Gives the base model's predictions (G, k, *P) of a batch."""

    def __call__(self, batch: GroupBatch) -> Tensor: ...


class Answered:
    """Asks the base model in every step: for augmented queries, which it sees as the parity model does."""

    def __init__(self, model: CodedModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: GroupBatch) -> Tensor:
        return self.model.base_outputs(batch.queries)


class LookedUp:
    """Asks the base model once for each query of the data set, then looks up by index.

    Args:
        model: its base model is asked, at once, in full precision.
        loader: its queries.
    """

    @torch.no_grad()
    def __init__(self, model: CodedModel, loader: GroupLoader) -> None:
        table: Tensor | None = None
        with torch.autocast(loader.device.type, enabled=False):
            for rows, queries, _ in loader.every_query():
                predictions = model.base_outputs(queries.unsqueeze(1)).squeeze(1)
                if table is None:
                    table = predictions.new_full((loader.num_rows, *predictions.shape[1:]), torch.nan)
                table[rows] = predictions
        assert table is not None, "a loader has at least one group"
        self.table = table

    def __call__(self, batch: GroupBatch) -> Tensor:
        predictions = self.table.index_select(0, batch.indices.flatten())
        return predictions.view(*batch.indices.shape, *predictions.shape[1:])


def base_predictions(model: CodedModel, loader: GroupLoader) -> BasePredictions:
    """Choose: looked up where the loader hands out exactly what lies in its data set, else answered."""
    return LookedUp(model, loader) if loader.queries_are_fixed else Answered(model)
