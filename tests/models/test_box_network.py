import pytest
import torch

from parity.errors import ParityError
from parity.models.box_network import BoxNetwork


def test_parameter_count() -> None:
    network = BoxNetwork((1, 48, 48), (4,), widths=(16, 32, 64), hidden=128)
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64)
    linear = (64 * 6 * 6 + 1) * 128 + (128 + 1) * 4
    assert sum(parameter.numel() for parameter in network.parameters()) == convolutions + linear


@pytest.mark.parametrize("query_shape", [(1, 48, 48), (3, 33, 17), (1, 1, 1)])
@pytest.mark.parametrize("prediction_shape", [(4,), (2, 4)])
@pytest.mark.parametrize("widths", [(4,), (4, 6, 6, 8)])
def test_shapes(query_shape: tuple[int, ...], prediction_shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    network = BoxNetwork(query_shape, prediction_shape, widths, hidden=5).eval()
    assert network(torch.rand(3, *query_shape)).shape == (3, *prediction_shape)


def test_it_sees_where_things_are() -> None:
    network = BoxNetwork((1, 32, 32), (4,), widths=(4, 4), hidden=8).eval()
    images = torch.zeros(2, 1, 32, 32)
    images[0, :, 4:8, 4:8] = images[1, :, 20:24, 20:24] = 1.0  # a mean over positions could not tell them apart
    first, second = network(images)
    assert (first - second).abs().max() > 1e-4


def test_what_makes_no_network_is_refused() -> None:
    with pytest.raises(ParityError, match=r"images \(C, H, W\), not queries of shape \(784,\)"):
        BoxNetwork((784,), (4,))
    with pytest.raises(ParityError, match="1 stage or more"):
        BoxNetwork((1, 8, 8), (4,), widths=())
