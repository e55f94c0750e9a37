import pytest
import torch
from torch.nn import functional

from parity.coders import (
    ConcatenationEncoder,
    Encoder,
    GridEncoder,
    KeyedSumEncoder,
    Learned,
    LearnedGridEncoder,
    Orthogonal,
)
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
    assert "rows" not in encoder.state_dict()
    encoder(torch.rand(3, 2, 1, 28, 28)).square().sum().backward()
    assert encoder.columns.grad is not None
    assert encoder.columns.grad.flatten(1).any(1).all()
    # in the order that the optimiser's state of older checkpoints has them in
    assert [name for name, _ in LearnedGridEncoder(4, 1, (1, 28, 28)).named_parameters()] == ["rows", "columns"]


@pytest.mark.parametrize(("k", "r"), [(2, 1), (4, 2), (8, 1)])
def test_images_are_resampled_as_ever_to_the_last_bit(k: int, r: int) -> None:
    queries, encoder = torch.randn(3, k, 2, 28, 30), GridEncoder(k, r, (2, 28, 30))
    _, height, width = encoder.grid.cell_shape
    shifts = [(j + 0.5) / r - 0.5 for j in range(r)]
    expected = queries.unsqueeze(1) @ torch.stack([resampling(width, 30, shift) for shift in shifts])[:, None, None].mT
    if height < 28:
        expected = torch.stack([resampling(height, 28, shift) for shift in shifts])[:, None, None] @ expected
    assert torch.equal(encoder.grid.split(encoder(queries)), expected)


@pytest.mark.parametrize("shape", [(30,), (2, 40), (2, 4, 8, 12)])
@pytest.mark.parametrize("r", [1, 2])
def test_queries_of_any_rank_are_resampled_along_each_axis(shape: tuple[int, ...], r: int) -> None:
    encoder = GridEncoder(8, r, shape)
    queries = torch.rand(3, 8, *shape)
    cells = encoder.grid.split(encoder(queries))
    for j in range(r):
        expected = queries
        for axis in encoder.grid.axes:
            matrix = resampling(encoder.grid.cell_shape[axis], shape[axis], (j + 0.5) / r - 0.5)
            expected = torch.tensordot(expected, matrix, dims=([2 + axis], [1])).movedim(-1, 2 + axis)
        assert torch.allclose(cells[:, j], expected, atol=1e-5)


def test_cells_may_lie_along_one_axis_of_an_image() -> None:
    encoder = LearnedGridEncoder(4, 1, (1, 8, 12), axes=(2,))
    assert encoder.grid.cell_shape == (1, 8, 3)
    assert [name for name, _ in encoder.named_parameters()] == ["columns"]


def test_a_random_projection_keeps_lengths_as_well_as_it_can() -> None:
    first, second = GridEncoder(2, 2, (30,), resampling=Orthogonal()).columns
    assert torch.allclose(first @ first.T, torch.eye(15), atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-2)
    again = GridEncoder(2, 2, (30,), resampling=Learned(Orthogonal()))
    assert torch.equal(dict(again.named_parameters())["columns"].detach(), torch.stack([first, second]))


@pytest.mark.parametrize("encoder", [GridEncoder, KeyedSumEncoder])
def test_no_parity_query_is_no_code(encoder: type[Encoder]) -> None:
    with pytest.raises(ParityError, match="r of at least 1"):
        encoder(2, 0, (1, 8, 8))
