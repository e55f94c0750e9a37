from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError
from parity.models import TextTransformer
from parity.vocabulary import check_ids, vocabulary_of

WEIGHTS = torch.randn(17, 3)


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        (nn.Embedding(30, 4), (8,), 30),
        (nn.Embedding(2, 4), (8,), 2),
        (nn.Embedding(30522, 4), (8,), 30522),
        (TextTransformer((2, 8), (3,), vocabulary=25, width=8).eval(), (2, 8), 25),  # with an attention mask
        (lambda ids: WEIGHTS[ids].mean(1), (8,), 17),
        (lambda ids: functional.one_hot(ids, 17).float() @ WEIGHTS, (8,), 17),
        (lambda ids: WEIGHTS[ids % 17], (8,), None),  # any
        (nn.Linear(8, 3), (8,), None),  # none
    ],
)
def test_the_ids_that_a_network_takes_are_counted(
    network: Callable[[Tensor], Tensor], shape: tuple[int, ...], expected: int | None
) -> None:
    assert vocabulary_of(network, shape) == expected


@pytest.mark.parametrize(
    "ids", [torch.tensor([[0, -1]]), torch.tensor([5]), torch.tensor([[0.5]]), torch.tensor([9.0])]
)
def test_other_ids_are_refused(ids: Tensor) -> None:
    with pytest.raises(ParityError, match="a query: ids of tokens are whole numbers from 0 to 4"):
        check_ids(ids, 5, "a query")


def test_the_last_id_and_none_are_taken() -> None:
    for ids in (torch.tensor([0, 4]), torch.tensor([4.0]), torch.empty(0, 8, dtype=torch.int64)):
        check_ids(ids, 5, "a query")
    check_ids(torch.tensor([99]), None, "a query")
