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
    assert (grid.rows, grid.columns) == (rows, columns)
    assert grid.cell_shape == (1, 28 // rows, 28 // columns)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 10), (1, 161, 101)])
def test_what_is_joined_can_be_split_again(k: int, shape: tuple[int, int, int]) -> None:
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


@pytest.mark.parametrize("shape", [(64,), (1, 1, 8), (1, 8, 1)])
def test_what_has_no_room_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match="2 x 2 pixels or more"):
        Grid(4, shape)
