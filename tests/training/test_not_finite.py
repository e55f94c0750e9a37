"""A loss that is NaN: the message names what it came from, once it has happened."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.models import MLP
from parity.training import train_model

QUERY = (1, 4, 4)


class Breaking(MLP):
    """A network whose predictions for large queries are NaN."""

    def forward(self, queries: Tensor) -> Tensor:
        large = queries.flatten(1).sum(1, keepdim=True) > 1e3
        return super().forward(queries).masked_fill(large, torch.nan)


def network(of: type[MLP] = MLP) -> nn.Module:
    return of(QUERY, (3,), hidden=(4,))


def batch(scale: float, *size: int) -> tuple[Tensor, Tensor]:
    return torch.rand(*size, *QUERY) * scale, torch.randint(3, size)


@pytest.mark.parametrize("shuffled", [False, True])
def test_base_predictions_of_a_later_batch_are_named(shuffled: bool) -> None:
    model = CodedModel(network(Breaking), LinearEncoder(2, 1, QUERY), [network()], LinearDecoder(2, 1, (3,)))
    groups = [batch(1.0, 3, 2) for _ in range(12)] + [batch(1e6, 3, 2)]
    data = DataLoader(groups, batch_size=None, shuffle=True) if shuffled else groups
    with pytest.raises(ParityError, match=r"\), for the base model's predictions of its batch are NaN or infinite: "):
        train_model(model, data, 1, accelerator="cpu", progress=False)


def test_queries_that_were_not_looked_at_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Those on a GPU are not: to look at them would wait for it.
    monkeypatch.setattr("parity.training.loop.batch_form.check_finite", lambda *_: None)
    broken = batch(1.0, 6)
    broken[0][0] = torch.nan
    with pytest.raises(ParityError, match=r"in step 3 .*, for the queries of its batch are NaN or infinite: "):
        train_model(network(), [batch(1.0, 6), batch(1.0, 6), broken], 1, accelerator="cpu", progress=False)


@pytest.mark.parametrize("iterator", [False, True])
def test_a_training_that_diverges_is_advised_a_smaller_learning_rate(iterator: bool) -> None:
    batches = [batch(1.0, 6) for _ in range(4)]
    data = iter(batches) if iterator else batches
    with pytest.raises(ParityError, match=r"\(CrossEntropyLoss\): training stopped.* Try a smaller learning rate"):
        train_model(network(), data, 1, accelerator="cpu", progress=False, steps_per_epoch=4, lr=1e38)
