import pytest
import torch

from parity.errors import ParityError
from parity.models import Embedding, TextTransformer


def network(padding: int = 0, shape: tuple[int, ...] = (12,)) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(shape, (3,), vocabulary=30, width=16, padding=padding).eval()


@pytest.mark.parametrize("padding", [0, 5])
def test_padding_changes_nothing(padding: int) -> None:
    ids = torch.randint(6, 30, (4, 7))
    padded = torch.cat([ids, torch.full((4, 5), padding)], dim=1)
    assert torch.allclose(network(padding)(ids), network(padding)(padded), atol=1e-5)


def test_a_mask_does_what_padding_does() -> None:
    ids = torch.randint(1, 30, (4, 12))
    mask = (torch.arange(12) < 7).long().expand(4, 12)
    expected = network()(ids[:, :7])
    assert torch.allclose(network(shape=(2, 12))(torch.stack([ids, mask], dim=1)), expected, atol=1e-5)


def test_nothing_but_padding_has_a_finite_prediction() -> None:
    assert network()(torch.zeros(2, 12, dtype=torch.long)).isfinite().all()


def test_it_is_small_enough() -> None:
    made = TextTransformer((64,), (5,), vocabulary=8000)
    assert sum(parameter.numel() for parameter in made.parameters()) < 2_000_000


def test_an_embedding_of_float_ids_is_that_of_ids_and_has_a_gradient() -> None:
    embedding, ids = Embedding(10, 4), torch.tensor([[3, 7]])
    floats = ids.float().requires_grad_()
    assert torch.equal(embedding(floats), embedding(ids))
    embedding(floats).sum().backward()
    assert torch.allclose(floats.grad, embedding.weight[ids].sum(-1))


def test_other_queries_are_refused() -> None:
    with pytest.raises(ParityError, match="takes ids"):
        TextTransformer((1, 8, 8), (3,), vocabulary=30)
    with pytest.raises(ParityError, match="even number for each of 4 heads"):
        TextTransformer((8,), (3,), vocabulary=30, width=20)
