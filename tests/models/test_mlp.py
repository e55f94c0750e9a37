import pytest
import torch
from torch import nn

from parity.models import MLP, load_into


def test_linear_layers_with_relu_between_and_none_after_the_last() -> None:
    network = MLP((2,), (1,), hidden=(2,))
    network.load_state_dict(
        {
            "layers.0.weight": torch.tensor([[1.0, 2.0], [3.0, -1.0]]),
            "layers.0.bias": torch.tensor([0.5, 0.0]),
            "layers.2.weight": torch.tensor([[1.0, -2.0]]),
            "layers.2.bias": torch.tensor([0.25]),
        }
    )
    # (1, 0): hidden 1.5 and 3, so 1.5 - 6 + 0.25. (-1, 0): hidden 0 (cut off from -0.5) and 0 (from -3).
    assert network(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [[-4.25], [0.25]]


@pytest.mark.parametrize("query_shape", [(6,), (1, 2, 3), (3, 2, 1)])
@pytest.mark.parametrize("prediction_shape", [(10,), (2, 4)])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4, 3)])
def test_shapes(query_shape: tuple[int, ...], prediction_shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    network = MLP(query_shape, prediction_shape, hidden)
    assert network(torch.rand(7, *query_shape)).shape == (7, *prediction_shape)
    widths = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert widths[:-1] == list(hidden)


def test_images_are_flattened_in_order() -> None:
    network = MLP((1, 2, 3), (4,))
    images = torch.rand(5, 1, 2, 3)
    same = MLP((6,), (4,))
    same.load_state_dict(network.state_dict())
    assert torch.equal(network(images), same(images.reshape(5, 6)))


def test_the_originals_size_is_the_default() -> None:
    parameters = sum(parameter.numel() for parameter in MLP((1, 28, 28), (10,)).parameters())
    assert parameters == 178_110 == (784 * 200 + 200) + (200 * 100 + 100) + (100 * 10 + 10)


@pytest.mark.parametrize("prefix", ["nn", "module.nn", "_orig_mod.nn", "layers"])
def test_the_originals_names_are_understood(prefix: str) -> None:
    source, target, queries = MLP((6,), (4,)), MLP((6,), (4,)), torch.rand(5, 6)
    assert not torch.equal(target(queries), source(queries))
    load_into(target, {f"{prefix}.{name}": value for name, value in source.layers.state_dict().items()}, "model.t7")
    assert torch.equal(target(queries), source(queries))
