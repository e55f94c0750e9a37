"""Cells of token ids: what is kept, what padding and masks become, and what is refused."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from parity.coders import GridEncoder, Head, Important, LinearEncoder, Strided, Tail, TokenCellsEncoder
from parity.errors import ParityError
from parity.models import Embedding, PerCell

VOCABULARY = 20
SHORTENINGS: list[Callable[[int], nn.Module]] = [Head, Tail, Strided, partial(Important, vocabulary=VOCABULARY)]


def cells(encoder: TokenCellsEncoder, queries: Tensor) -> Tensor:
    """Return the cells of the first parity query: (G, k, *cell)."""
    return encoder.grid.split(encoder(queries)[:, 0])


@st.composite
def groups(draw: st.DrawFn) -> tuple[Tensor, int, bool]:
    """Draw groups of padded sequences, the id of padding, and whether it is on the left."""
    k, length = draw(st.integers(1, 4)), draw(st.integers(4, 17))
    padding, left = draw(st.sampled_from([0, 7])), draw(st.booleans())
    ids = st.integers(0, VOCABULARY - 1).filter(lambda token: token != padding)
    rows = []
    for _ in range(2 * k):
        tokens = draw(st.lists(ids, max_size=length))
        filler = [padding] * (length - len(tokens))
        rows.append(filler + tokens if left else tokens + filler)
    return torch.tensor(rows).view(2, k, length), padding, left


@given(drawn=groups(), shortening=st.sampled_from(SHORTENINGS), r=st.integers(1, 2), masked=st.booleans())
@settings(max_examples=60, deadline=None)
def test_cells_hold_tokens_of_their_own_query_in_order_and_padding_on_its_side(
    drawn: tuple[Tensor, int, bool], shortening: Callable[[int], nn.Module], r: int, masked: bool
) -> None:
    ids, padding, left = drawn
    queries = torch.stack([ids, (ids != padding).long()], dim=2) if masked else ids
    encoder = TokenCellsEncoder(ids.shape[1], r, queries.shape[2:], shortening, padding).eval()
    parity_queries = encoder(queries)
    assert parity_queries.dtype == torch.int64
    assert parity_queries.shape == (2, r, *queries.shape[2:])
    assert torch.equal(parity_queries[:, :1].expand_as(parity_queries), parity_queries)
    parity_ids = parity_queries[:, :, 0] if masked else parity_queries
    assert set(parity_ids.flatten().tolist()) <= {*ids.flatten().tolist(), padding}
    kept = cells(encoder, queries)
    for query, cell in zip(ids.flatten(0, 1), kept.flatten(0, 1), strict=True):
        of_cell = cell[0] if masked else cell
        if masked:
            assert torch.equal(cell[1], (of_cell != padding).long())  # the mask goes with its tokens
        real, kept_real = query[query != padding].tolist(), of_cell[of_cell != padding].tolist()
        assert len(kept_real) == min(len(real), encoder.kept)
        rest = iter(real)
        assert all(token in rest for token in kept_real)  # the same order
        if len(real) <= encoder.kept:  # all of a sequence that fits, bit for bit
            filler = [padding] * (encoder.kept - len(real))
            assert of_cell.tolist() == (filler + real if left else real + filler)


@given(drawn=groups(), shortening=st.sampled_from(SHORTENINGS))
@settings(max_examples=30, deadline=None)
def test_a_sequence_shorter_than_trained_is_padded_at_its_end(
    drawn: tuple[Tensor, int, bool], shortening: Callable[[int], nn.Module]
) -> None:
    ids, padding, _ = drawn
    encoder = TokenCellsEncoder(ids.shape[1], 1, (ids.shape[2] + 3,), shortening, padding).eval()
    whole = torch.cat([ids, torch.full((*ids.shape[:2], 3), padding)], dim=-1)
    base_queries, parity_queries = encoder.dispatch(ids)
    assert torch.equal(base_queries, ids)  # the base model gets it as it is
    assert torch.equal(parity_queries, encoder(whole))


@pytest.mark.parametrize(
    ("shortening", "kept"),
    [(Head, [1, 2, 3]), (Tail, [7, 8, 9]), (Strided, [3, 6, 9])],
)
def test_which_tokens_are_kept(shortening: Callable[[int], nn.Module], kept: list[int]) -> None:
    query = torch.tensor([*range(1, 10), 0, 0, 0])
    found = cells(TokenCellsEncoder(4, 1, (12,), shortening), query.expand(1, 4, 12))
    assert found.tolist() == [[kept] * 4]


def test_first_tokens_can_be_kept_always() -> None:
    query = torch.tensor([[[5, 1, 2, 3, 4, 0], [5, 9, 8, 7, 6, 1]]])
    assert cells(TokenCellsEncoder(2, 1, (6,), Tail, keep=1), query).tolist() == [[[5, 3, 4], [5, 6, 1]]]
    with pytest.raises(ParityError, match="no room for keep = 4"):
        TokenCellsEncoder(2, 1, (6,), keep=4)


def test_what_is_worth_keeping_is_learned_through_the_parity_model() -> None:
    """Of each sequence one token alone decides on the class: the learned choice finds it, wherever it is."""
    torch.manual_seed(0)
    encoder = TokenCellsEncoder(2, 1, (12,), partial(Important, vocabulary=VOCABULARY))
    network = nn.Sequential(Embedding(VOCABULARY, 8), _Mean(), nn.Linear(8, 2))
    parity_model = PerCell((12,), (2, 2), lambda *_: network)
    optimizer = torch.optim.Adam([*encoder.parameters(), *parity_model.parameters()], lr=0.05)
    for _ in range(150):
        queries, classes = torch.randint(3, VOCABULARY, (32, 2, 12)), torch.randint(2, (32, 2))
        queries.scatter_(2, torch.randint(12, (32, 2, 1)), 1 + classes.unsqueeze(2))
        loss = nn.functional.cross_entropy(parity_model(encoder(queries)[:, 0]).flatten(0, 1), classes.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    kept = cells(encoder, queries)
    share = (kept.eq(1) | kept.eq(2)).any(-1).float().mean()
    assert share > 0.95  # half of them by chance


class _Mean(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.mean(1)


def test_ids_in_training_are_floats_that_hold_the_same_ids() -> None:
    encoder = TokenCellsEncoder(2, 1, (8,), partial(Important, vocabulary=VOCABULARY, noise=0.0))
    queries = torch.randint(1, VOCABULARY, (3, 2, 8))
    trained = encoder(queries)
    assert trained.requires_grad
    assert torch.equal(trained.long(), encoder.eval()(queries))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TokenCellsEncoder(2, 1, (3, 8)), "takes sequences of ids"),
        (lambda: TokenCellsEncoder(9, 1, (8,)), "9 numbers or more along axis 0"),
        (lambda: TokenCellsEncoder(2, 1, (8,)).dispatch(torch.ones(1, 2, 9).long()), "9 tokens are longer than the 8"),
        (lambda: TokenCellsEncoder(2, 1, (8,)).dispatch(torch.ones(1, 2, 8)), "takes ids, integers"),
        (lambda: TokenCellsEncoder(2, 1, (8,)).dispatch(torch.ones(1, 3, 8).long()), "groups of k = 2"),
        (
            lambda: LinearEncoder(2, 1, (8,)).dispatch(torch.ones(1, 2, 8).long()),
            "LinearEncoder must be floating",
        ),
        (lambda: GridEncoder(2, 1, (8,)).dispatch(torch.ones(1, 2, 8).long()), "with TokenCellsEncoder"),
    ],
)
def test_what_cannot_be_encoded_is_refused_in_a_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ParityError, match=sentence):
        make()
