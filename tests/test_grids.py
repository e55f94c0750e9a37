import pytest
import torch

from parity.errors import ParityError
from parity.grids import Grid


@pytest.mark.parametrize(
    ("k", "rows", "columns"),
    [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 3), (6, 2, 3), (7, 3, 3), (8, 3, 3), (9, 3, 3), (12, 3, 4)],
)
def test_rows_and_columns_are_as_equal_as_they_can_be(k: int, rows: int, columns: int) -> None:
    grid = Grid(k, (1, 28, 28))
    assert grid.counts == (rows, columns)
    assert grid.cell_shape == (1, 28 // rows, 28 // columns)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 9, 10), (1, 161, 101), (29,), (2, 17), (2, 5, 9, 10), (1, 2, 4, 5, 6)]
)
def test_what_is_joined_can_be_split_again(k: int, shape: tuple[int, ...]) -> None:
    grid = Grid(k, shape)
    cells = torch.rand(2, 5, k, *grid.cell_shape)
    image = grid.join(cells)
    assert image.shape == (2, 5, *shape)
    assert torch.equal(grid.split(image), cells)
    assert image.count_nonzero() == cells.count_nonzero()  # all else is blank


def test_positions_run_along_rows() -> None:
    cells = torch.arange(1.0, 4).view(3, 1, 1, 1).expand(3, 2, 2, 1)
    image = Grid(3, (2, 4, 3)).join(cells)
    for channel in image:
        assert channel.tolist() == [[1, 2, 0], [1, 2, 0], [3, 0, 0], [3, 0, 0]]


@pytest.mark.parametrize(
    ("k", "shape", "counts"),
    [(4, (64,), (4,)), (3, (2, 64), (3,)), (4, (1, 6, 8, 8), (1, 2, 2)), (8, (1, 6, 8, 8), (2, 2, 2))],
)
def test_cells_lie_along_all_axes_but_the_first(k: int, shape: tuple[int, ...], counts: tuple[int, ...]) -> None:
    assert Grid(k, shape).counts == counts


def test_cells_lie_along_the_axes_that_are_asked_for() -> None:
    assert Grid(4, (8, 12), axes=(-2, -1)).cell_shape == (4, 6)
    assert Grid(4, (1, 8, 12), axes=(1,)).cell_shape == (1, 2, 12)
    numbers = Grid(2, (4, 3), axes=(0,)).join(torch.arange(12).view(2, 2, 3))
    assert numbers.flatten().tolist() == list(range(12))


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 8, 1)])
def test_what_has_no_room_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match="2 x 2 numbers or more along axes"):
        Grid(4, shape)
    with pytest.raises(ParityError, match="4 numbers or more along axis 0"):
        Grid(4, (3,))


@pytest.mark.parametrize("axes", [(3,), (-4,), (1, 1), (1, -2), ()])
def test_axes_that_a_query_has_not_are_refused(axes: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match="one to three different axes"):
        Grid(2, (1, 8, 8), axes)


def test_a_query_that_is_one_number_has_no_cells() -> None:
    with pytest.raises(ParityError, match="one to three different axes"):
        Grid(2, ())
