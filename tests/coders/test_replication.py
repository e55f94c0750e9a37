import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import ReplicationDecoder, ReplicationEncoder
from parity.errors import ParityError

CODES = [(1, 0), (3, 0), (1, 1), (2, 2), (3, 3), (2, 4), (1, 3)]


class Counting(nn.Module):
    """A network that counts the queries it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2))
        self.answered = 0

    def forward(self, queries: Tensor) -> Tensor:
        self.answered += len(queries)
        return self.layers(queries)


def replicated(k: int, r: int) -> CodedModel:
    return CodedModel(Counting(), ReplicationEncoder(k, r, (3,)), [], ReplicationDecoder(k, r, (2,)))


@pytest.mark.parametrize(("k", "r"), CODES)
def test_every_decodable_pattern_is_answered_bit_for_bit(k: int, r: int) -> None:
    model, available = replicated(k, r), erasures.Strata(k + r).patterns
    available = available[model.decoder.can_decode(available)]
    queries = torch.randn(len(available), k, 3)
    assert torch.equal(model(queries, available), model.base_outputs(queries))


@pytest.mark.parametrize(("k", "r"), CODES)
def test_the_base_model_is_asked_once_for_each_query(k: int, r: int) -> None:
    model = replicated(k, r)
    base_outputs, parity_outputs = model.outputs(torch.randn(5, k, 3))
    assert model.base_model.answered == 5 * k
    assert base_outputs.shape == (5, k + r, 2)
    assert parity_outputs.shape == (5, 0, 2)


@pytest.mark.parametrize(("k", "r"), CODES)
def test_all_workers_run_the_base_model_each_on_its_query(k: int, r: int) -> None:
    queries = torch.randn(4, k, 3)
    encoder = ReplicationEncoder(k, r, (3,))
    base_queries, parity_queries = encoder.dispatch(queries)
    assert base_queries.shape == (4, k + r, 3)
    assert parity_queries.shape == (4, 0, 3)
    assert encoder(queries).shape == (4, r, 3)
    for worker in range(k + r):
        assert torch.equal(base_queries[:, worker], queries[:, worker % k])


@pytest.mark.parametrize(("k", "r"), CODES)
def test_one_copy_of_a_query_is_enough_for_it(k: int, r: int) -> None:
    decoder = ReplicationDecoder(k, r, (2,))
    for row in erasures.Strata(k + r).patterns:
        arrived = [any(row[worker] for worker in range(query, k + r, k)) for query in range(k)]
        assert decoder.rebuildable(row[None]).tolist() == [arrived]
        assert decoder.can_decode(row[None]).tolist() == [all(arrived)]
        assert decoder.rebuilt(row[None]).tolist() == [[not present for present in row[:k].tolist()]]


@pytest.mark.parametrize(("k", "r"), CODES)
def test_tolerance_is_the_most_erasures_that_are_always_harmless(k: int, r: int) -> None:
    decoder = ReplicationDecoder(k, r, (2,))
    harmless = [bool(decoder.can_decode(erasures.patterns(k + r, erased)).all()) for erased in range(k + r + 1)]
    assert harmless.index(False) - 1 == decoder.tolerance


@given(copies=st.integers(1, 4), k=st.integers(1, 20), data=st.data())
def test_predictions_whose_copies_are_all_lost_are_nan_and_the_others_exact(
    copies: int, k: int, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=k * copies, max_size=k * copies), max_size=4))
    available = torch.tensor(rows, dtype=torch.bool).view(-1, k * copies)
    predictions = torch.randn(len(rows), k, 2)
    outputs = predictions.repeat(1, copies, 1).masked_fill(~available[:, :, None], torch.inf)
    decoder = ReplicationDecoder(k, k * (copies - 1), (2,))
    answers = decoder.decode(outputs, outputs[:, :0], available)
    kept = decoder.rebuildable(available)
    assert torch.equal(answers[kept], predictions[kept])
    assert answers[~kept].isnan().all()


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_predictions_of_any_shape(shape: tuple[int, ...]) -> None:
    outputs = torch.randn(1, 4, *shape)
    answers = ReplicationDecoder(2, 2, shape)(outputs, outputs[:, :0], torch.tensor([[False, True, True, True]]))
    assert torch.equal(answers, outputs[:, [2, 1]])


def test_a_group_that_has_lost_a_query_is_named() -> None:
    with pytest.raises(ParityError, match=r"ReplicationDecoder .* outputs 1 and 3 of 4 unavailable"):
        replicated(2, 2)(torch.zeros(1, 2, 3), torch.tensor([[True, False, True, False]]))


@pytest.mark.parametrize("coder", [ReplicationEncoder, ReplicationDecoder])
@pytest.mark.parametrize(("k", "r"), [(2, 1), (2, 3), (3, 1)])
def test_only_whole_copies(coder: type, k: int, r: int) -> None:
    with pytest.raises(ParityError, match=rf"r = 0 \(no redundancy\), {k}, {2 * k}, .*not k = {k} and r = {r}"):
        coder(k, r, (3,))


def test_queries_are_checked() -> None:
    with pytest.raises(ParityError, match="groups of k = 2 queries"):
        replicated(2, 2)(torch.zeros(1, 3, 3), torch.ones(1, 4, dtype=torch.bool))


def test_many_workers_take_no_table() -> None:
    k, copies = 50, 3
    model = replicated(k, k * (copies - 1))
    available = torch.rand(8, k * copies) < 0.9
    available[:, :k] = True
    for i, row in itertools.product(range(8), range(k)):
        available[i, row + k * (i % copies)] = False
    queries = torch.randn(8, k, 3)
    available |= ~model.decoder.rebuildable(available).repeat(1, copies)
    assert torch.equal(model(queries, available), model.base_outputs(queries))
