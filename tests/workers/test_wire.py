"""What passes between frontend and workers comes out as it went in."""

import pickle

import pytest
import torch
from torch import Tensor, nn

from parity.workers.wire import pack, unpack


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.empty(0, 3),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor([True, False]),
    ],
    ids=["matrix", "bfloat16 scalar", "empty", "not contiguous", "bool"],
)
def test_a_tensor_arrives_as_it_was_and_may_be_written_to(tensor: Tensor) -> None:
    batch, slowness = unpack(pack(([tensor, tensor.clone()], 2.0)))
    assert slowness == 2.0
    for arrived in batch:
        assert (arrived.dtype, arrived.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(arrived, tensor)
        arrived.zero_()


def test_a_tensor_takes_hardly_more_than_its_bytes() -> None:
    tensor = torch.rand(100, 100)
    assert len(pack(tensor[0])) < 400 + 200  # torch itself would send all 100 rows
    assert len(pickle.dumps(tensor[0])) > 4 * 10_000


def test_other_values_pass_as_well() -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert unpack(pack({"answer": [1, None, "two"]})) == {"answer": [1, None, "two"]}
    assert torch.equal(unpack(pack(parameter)), parameter)
