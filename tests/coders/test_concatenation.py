import pytest
import torch
from torchvision.transforms.v2 import functional

from parity.coders import ConcatenationEncoder
from parity.errors import ParityError

# k -> where each query's small image lies: rows and columns as fractions of the sides.
PLACES = {
    2: [((0, 1), (0, 0.5)), ((0, 1), (0.5, 1))],
    4: [((0, 0.5), (0, 0.5)), ((0, 0.5), (0.5, 1)), ((0.5, 1), (0, 0.5)), ((0.5, 1), (0.5, 1))],
}


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 28, 20), (1, 160, 100)])
def test_each_part_is_the_resized_query_channel_by_channel(k: int, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    queries = torch.rand(3, k, *shape, generator=torch.Generator().manual_seed(0))
    parity_queries = ConcatenationEncoder(k, 1, shape)(queries)
    assert parity_queries.shape == (3, 1, *shape)
    for group in range(3):
        for i, ((top, bottom), (left, right)) in enumerate(PLACES[k]):
            rows, columns = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
            part = parity_queries[group, 0, :, rows, columns]
            for channel in range(channels):
                image = queries[group, i, channel : channel + 1]
                expected = functional.resize(
                    image, list(part.shape[1:]), functional.InterpolationMode.BILINEAR, antialias=True
                )
                assert torch.allclose(part[channel], expected[0], atol=1e-6)


def test_images_are_made_smaller_with_antialiasing() -> None:
    # Half the width: weights 1/8, 3/8, 3/8, 1/8 of the four nearest columns; 0, 3/7, 3/7, 1/7 at the edge.
    queries = torch.zeros(1, 2, 1, 1, 8)
    queries[0, 0, 0, 0, 4] = queries[0, 1, 0, 0, 2] = 1
    row = ConcatenationEncoder(2, 1, (1, 1, 8))(queries).flatten()
    assert row.tolist() == pytest.approx([0, 1 / 8, 3 / 8, 0, 1 / 7, 3 / 8, 0, 0])


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_red_stays_in_red(k: int, channel: int) -> None:
    queries = torch.zeros(2, k, 3, 8, 12)
    queries[:, :, channel] = 1
    parity_queries = ConcatenationEncoder(k, 1, (3, 8, 12))(queries)
    assert torch.allclose(parity_queries, queries[:, :1])


def test_the_sides_need_only_fit_the_grid() -> None:
    assert ConcatenationEncoder(2, 1, (1, 7, 8))(torch.rand(2, 2, 1, 7, 8)).shape == (2, 1, 1, 7, 8)


@pytest.mark.parametrize(("k", "r"), [(1, 1), (3, 1), (5, 1), (2, 2), (4, 3), (2, 0)])
def test_other_codes_are_refused(k: int, r: int) -> None:
    with pytest.raises(ParityError, match=rf"k = 2 or 4 with r = 1, not k = {k} and r = {r}"):
        ConcatenationEncoder(k, r, (1, 8, 8))


@pytest.mark.parametrize(
    ("k", "shape"),
    [
        (2, (1, 8, 7)),
        (4, (1, 8, 7)),
        (4, (1, 7, 8)),
        (2, (1, 161, 101)),
        (4, (1, 161, 100)),
        (2, (2, 3, 8, 8)),
        (2, (784,)),
        (4, (8, 8)),
    ],
)
def test_queries_that_do_not_fit_the_grid_are_refused(k: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=rf"k = {k} needs images \(C, H, W\)") as error:
        ConcatenationEncoder(k, 1, shape)
    assert str(shape) in str(error.value)
