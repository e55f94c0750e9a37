import pytest
import torch
from torch import Tensor

from parity.coders import FlattenedChannelSumEncoder, LinearDecoder, LinearEncoder
from parity.errors import ParityError


def rgb(k: int) -> Tensor:
    """Images of one pixel: query i is (R, G, B) = (10^(3i), 2 * 10^(3i), 4 * 10^(3i)), so sums show their terms."""
    scales = torch.tensor([1000.0**i for i in range(k)])
    return (scales[:, None] * torch.tensor([1.0, 2.0, 4.0])).view(1, k, 3, 1, 1)


@pytest.mark.parametrize(
    ("k", "sums"),
    [
        (1, [1, 2, 4]),
        (2, [1 + 2, 4 + 1000, 2000 + 4000]),
        (3, [1 + 2 + 4, 7000, 7000000]),
        (4, [1 + 2 + 4 + 1000, 2000 + 4000 + 1000000 + 2000000, 4000000 + 7 * 10**9]),
    ],
)
def test_runs_of_k_channels_of_the_flattened_group_are_summed(k: int, sums: list[int]) -> None:
    parity_queries = FlattenedChannelSumEncoder(k, 1, (3, 1, 1))(rgb(k).double())
    assert parity_queries.shape == (1, 1, 3, 1, 1)
    assert parity_queries.flatten().tolist() == sums


def test_three_images_become_three_grey_ones() -> None:
    queries = torch.rand(4, 3, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    parity_queries = FlattenedChannelSumEncoder(3, 1, (3, 5, 6))(queries)
    for i in range(3):
        assert torch.allclose(parity_queries[:, 0, i], queries[:, i].sum(1))


def test_two_images_mix_their_colours() -> None:
    queries = torch.rand(4, 2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    parity_queries = FlattenedChannelSumEncoder(2, 1, (3, 5, 6))(queries)
    (red_0, green_0, blue_0), (red_1, green_1, blue_1) = (queries[:, i].unbind(1) for i in range(2))
    expected = torch.stack([red_0 + green_0, blue_0 + red_1, green_1 + blue_1], dim=1)
    assert torch.equal(parity_queries, expected[:, None])


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_with_one_channel_it_is_addition_and_with_three_it_is_not(k: int) -> None:
    for channels in (1, 3):
        shape = (channels, 4, 5)
        queries = torch.rand(2, k, *shape, generator=torch.Generator().manual_seed(0))
        added = LinearEncoder(k, 1, shape)(queries)
        flattened = FlattenedChannelSumEncoder(k, 1, shape)(queries)
        assert flattened.shape == added.shape
        assert torch.allclose(flattened, added) == (channels == 1 or k == 1)


def test_the_decoder_of_addition_fits() -> None:
    encoder, decoder = FlattenedChannelSumEncoder(3, 1, (3, 4, 4)), LinearDecoder(3, 1, (10,))
    assert (encoder.k, encoder.r, encoder.parity_workers) == (decoder.k, decoder.r, 1)


@pytest.mark.parametrize("r", [0, 2])
def test_other_r_are_refused(r: int) -> None:
    with pytest.raises(ParityError, match=rf"any k with r = 1, not r = {r}"):
        FlattenedChannelSumEncoder(2, r, (3, 8, 8))


@pytest.mark.parametrize("shape", [(784,), (8, 8), (2, 3, 8, 8)])
def test_queries_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"needs images \(C, H, W\)") as error:
        FlattenedChannelSumEncoder(2, 1, shape)
    assert str(shape) in str(error.value)
