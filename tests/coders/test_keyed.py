import pytest
import torch

from parity.coders import KeyedSumEncoder, LinearEncoder, Permutation, Shift, Symmetry
from parity.coders.keyed import Key
from parity.errors import ParityError

KEYS = [Permutation(), Permutation(seed=3), Symmetry(), Shift(), Shift(dims=(0,))]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20), (1, 161, 101)])
@pytest.mark.parametrize(("k", "r"), [(2, 1), (3, 2), (8, 1)])
def test_every_query_of_every_parity_query_has_a_key_of_its_own(key: Key, shape, k: int, r: int) -> None:
    encoder = KeyedSumEncoder(k, r, shape, key)
    queries = torch.rand(2, k, *shape)
    seen = []
    for i in range(k):
        alone = torch.zeros_like(queries)
        alone[:, i] = queries[:, 0]
        for j, parity_query in enumerate(encoder(alone).unbind(1)):
            assert torch.equal(parity_query.flatten(2).sort().values, queries[:, 0].flatten(2).sort().values)
            assert (i + j == 0) == torch.equal(parity_query, queries[:, 0])
            seen.append(parity_query)
    assert not any(torch.equal(a, b) for number, a in enumerate(seen) for b in seen[:number])


def test_a_parity_query_is_the_sum_of_what_its_queries_alone_would_give() -> None:
    encoder, queries = KeyedSumEncoder(3, 2, (3, 8, 8), Symmetry()), torch.rand(4, 3, 3, 8, 8)
    alone = [encoder(torch.where(torch.arange(3).view(3, 1, 1, 1) == i, queries, 0)) for i in range(3)]
    assert torch.allclose(encoder(queries), sum(alone), atol=1e-6)


def test_one_query_is_left_as_it_is_as_by_addition() -> None:
    queries = torch.rand(2, 1, 1, 5, 6)
    assert torch.equal(KeyedSumEncoder(1, 1, (1, 5, 6))(queries), LinearEncoder(1, 1, (1, 5, 6))(queries))


def test_flat_queries_are_permuted() -> None:
    queries = torch.rand(2, 3, 50)
    parity_query = KeyedSumEncoder(3, 1, (50,))(queries)
    assert parity_query.shape == (2, 1, 50)
    assert torch.allclose(parity_query.sum(2), queries.sum((1, 2))[:, None])


def test_symmetries_keep_neighbours_together() -> None:
    encoder = KeyedSumEncoder(8, 1, (1, 6, 6), Symmetry())
    image = torch.arange(36.0).view(1, 1, 1, 6, 6)
    for i in range(8):
        alone = torch.zeros(1, 8, 1, 6, 6)
        alone[:, i] = image[:, 0]
        rows = encoder(alone)[0, 0, 0]
        steps = {float(rows.diff(dim=0).abs().mean()), float(rows.diff(dim=1).abs().mean())}
        assert steps == {1.0, 6.0}


def test_a_frequency_shift_moves_frequencies_alone() -> None:
    encoder = KeyedSumEncoder(2, 1, (1, 10, 4), Shift(dims=(0,), share=0.3))
    queries = torch.rand(1, 2, 1, 10, 4)
    queries[:, 0] = 0
    assert torch.equal(encoder(queries)[0, 0], queries[0, 1].roll(3, dims=1))


def test_too_few_orders_are_refused() -> None:
    with pytest.raises(ParityError, match="fewer than k r = 3 different orders"):
        KeyedSumEncoder(3, 1, (1, 1, 2), Permutation())
