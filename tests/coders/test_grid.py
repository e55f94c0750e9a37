import pytest
import torch
from torch.nn import functional

from parity.coders import ConcatenationEncoder, Encoder, GridEncoder, KeyedSumEncoder, LearnedGridEncoder
from parity.coders.grid import resampling
from parity.errors import ParityError


@pytest.mark.parametrize(("length", "of"), [(14, 28), (9, 28), (5, 7), (8, 8), (1, 6)])
def test_resampling_without_a_shift_is_antialiased_bilinear_interpolation(length: int, of: int) -> None:
    image = torch.rand(1, 1, 3, of)
    expected = functional.interpolate(image, (3, length), mode="bilinear", antialias=True)
    assert torch.allclose(image @ resampling(length, of).T, expected, atol=1e-6)


@pytest.mark.parametrize("shift", [-0.45, -0.25, 0.25, 0.45])
def test_a_shift_moves_what_is_looked_at(shift: float) -> None:
    matrix = resampling(7, 28, shift)
    assert torch.allclose(matrix.sum(1), torch.ones(7))
    middle = (matrix @ (torch.arange(28) + 0.5))[1:-1]  # away from the edges
    assert torch.allclose(middle, (torch.arange(1, 6) + 0.5 + shift) * 4, atol=1e-5)


@pytest.mark.parametrize("k", [2, 4])
def test_it_is_the_papers_concatenation_where_that_is_defined(k: int) -> None:
    queries = torch.rand(3, k, 3, 8, 12)
    expected = ConcatenationEncoder(k, 1, (3, 8, 12))(queries)
    for encoder in (GridEncoder, LearnedGridEncoder):
        assert torch.allclose(encoder(k, 1, (3, 8, 12))(queries), expected, atol=1e-6)


@pytest.mark.parametrize(("k", "r"), [(1, 1), (3, 1), (8, 1), (4, 2), (5, 3)])
def test_every_query_lies_in_a_cell_of_its_own_in_every_parity_query(k: int, r: int) -> None:
    encoder = GridEncoder(k, r, (1, 28, 28))
    queries = torch.rand(2, k, 1, 28, 28)
    cells = encoder.grid.split(encoder(queries))
    assert cells.shape[:3] == (2, r, k)
    changed = queries.clone()
    changed[:, k - 1] += 1
    differs = (encoder.grid.split(encoder(changed)) - cells).abs().flatten(3).amax(3) > 0.5
    assert differs[..., k - 1].all()
    assert not differs[..., : k - 1].any()


def test_parity_queries_look_between_each_others_pixels() -> None:
    first, second = GridEncoder(4, 2, (1, 28, 28)).columns @ (torch.arange(28) + 0.5)
    assert torch.allclose((second - first)[1:-1], torch.ones(12), atol=1e-4)  # half of two pixels


def test_what_is_learned_are_the_matrices_of_the_sides_that_get_shorter() -> None:
    encoder = LearnedGridEncoder(2, 2, (1, 28, 28))
    assert {name: tuple(value.shape) for name, value in encoder.named_parameters()} == {"columns": (2, 14, 28)}
    assert torch.equal(encoder.rows, torch.eye(28).expand(2, -1, -1))
    assert "rows" not in encoder.state_dict()
    encoder(torch.rand(3, 2, 1, 28, 28)).square().sum().backward()
    assert encoder.columns.grad is not None
    assert encoder.columns.grad.flatten(1).any(1).all()
    assert {name for name, _ in LearnedGridEncoder(4, 1, (1, 28, 28)).named_parameters()} == {"rows", "columns"}


def test_queries_that_are_no_images_are_refused() -> None:
    with pytest.raises(ParityError, match=r"images \(C, H, W\)"):
        GridEncoder(2, 1, (784,))


@pytest.mark.parametrize("encoder", [GridEncoder, KeyedSumEncoder])
def test_no_parity_query_is_no_code(encoder: type[Encoder]) -> None:
    with pytest.raises(ParityError, match="r of at least 1"):
        encoder(2, 0, (1, 8, 8))
