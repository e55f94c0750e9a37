import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError
from parity.models import VGG11, LeNet, load_into

QUERY_SHAPE = (1, 161, 101)


def count(convolutions: list[tuple[int, int]], side: int, normalised: bool, linear: list[tuple[int, int]]) -> int:
    """Parameters of convolutions and linear layers with biases, and of batch normalisation after convolutions."""
    total = sum(side * side * a * b + b + (2 * b if normalised else 0) for a, b in convolutions)
    return total + sum(a * b + b for a, b in linear)


def test_parameter_count_of_vgg11() -> None:
    channels = [1, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = list(itertools.pairwise(channels))
    with torch.device("meta"):
        network = VGG11(QUERY_SHAPE, (30,))
    assert sum(parameter.numel() for parameter in network.parameters()) == 13_172_894
    assert count(convolutions, 3, True, [(7680, 512), (512, 30)]) == 13_172_894


def test_parameter_count_of_lenet() -> None:
    with torch.device("meta"):
        network = LeNet(QUERY_SHAPE, (30,))
    assert sum(parameter.numel() for parameter in network.parameters()) == 16_321_570
    assert count([(1, 20), (20, 20)], 5, False, [(16280, 1000), (1000, 30)]) == 16_321_570


def vgg11_by_hand(state: dict[str, Tensor], queries: Tensor) -> Tensor:
    """VGG-11 of the original, by its names: a convolution takes 3 places in ``features``, a pooling 1."""
    place = 0
    for layer in "CPCPCCPCCPCCP":
        if layer == "P":
            queries, place = functional.max_pool2d(queries, 2), place + 1
            continue
        convolution, norm = f"features.{place}.", f"features.{place + 1}."
        queries = functional.conv2d(queries, state[convolution + "weight"], state[convolution + "bias"], padding=1)
        mean, var = state[norm + "running_mean"], state[norm + "running_var"]
        queries = functional.batch_norm(queries, mean, var, state[norm + "weight"], state[norm + "bias"]).relu()
        place += 3
    hidden = functional.linear(queries.flatten(1), state["fc1.weight"], state["fc1.bias"])
    return functional.linear(hidden, state["fc2.weight"], state["fc2.bias"])


def lenet_by_hand(state: dict[str, Tensor], queries: Tensor) -> Tensor:
    """LeNet of the original, by its names."""
    for name in ("conv1", "conv2"):
        queries = functional.conv2d(queries, state[f"{name}.weight"], state[f"{name}.bias"])
        queries = functional.max_pool2d(queries, 2).relu()
    hidden = functional.linear(queries.flatten(1), state["fc1.weight"], state["fc1.bias"]).relu()
    return functional.linear(hidden, state["fc2.weight"], state["fc2.bias"])


@pytest.mark.parametrize(("network", "by_hand"), [(VGG11, vgg11_by_hand), (LeNet, lenet_by_hand)])
def test_they_compute_what_the_original_computes(network: Callable, by_hand: Callable) -> None:
    ours = network((1, 65, 41), (30,))
    queries = torch.randn(4, 1, 65, 41)
    ours(queries * 2 + 1)  # running statistics of its own
    torch.testing.assert_close(ours.eval()(queries), by_hand(ours.state_dict(), queries))


@pytest.mark.parametrize("network", [VGG11, LeNet])
@pytest.mark.parametrize("prediction_shape", [(30,), (2, 3), (2, 2, 5)])
@pytest.mark.parametrize("query_shape", [(1, 32, 32), (2, 47, 70)])
def test_shapes(network: Callable, query_shape: tuple[int, ...], prediction_shape: tuple[int, ...]) -> None:
    answers = network(query_shape, prediction_shape)(torch.rand(3, *query_shape))
    assert answers.shape == (3, *prediction_shape)
    assert (answers.flatten(1).exp().sum(dim=1) - 1).abs().min() > 1e-3, "logits, not logarithms of probabilities"


@pytest.mark.parametrize("network", [VGG11, LeNet])
def test_the_originals_spectrograms_fit(network: Callable) -> None:
    assert network(QUERY_SHAPE, (30,))(torch.rand(2, *QUERY_SHAPE)).shape == (2, 30)


def test_the_smallest_spectrograms_are_answered() -> None:
    assert VGG11((1, 32, 32), (4,)).eval()(torch.rand(1, 1, 32, 32)).shape == (1, 4)
    assert LeNet((1, 16, 16), (4,))(torch.rand(1, 1, 16, 16)).shape == (1, 4)


@pytest.mark.parametrize(("network", "smallest"), [(VGG11, 32), (LeNet, 16)])
def test_queries_that_are_no_spectrograms_are_refused(network: Callable, smallest: int) -> None:
    for query_shape in [(161 * 101,), (161, 101), (1, 1, 161, 101), (1, smallest - 1, 101), (1, 161, smallest - 1)]:
        with pytest.raises(ParityError, match=f"of {smallest} x {smallest} or larger, not queries of") as error:
            network(query_shape, (30,))
        assert str(error.value).startswith(network.__name__)
        assert str(query_shape) in str(error.value)


@pytest.mark.parametrize("network", [VGG11, LeNet])
def test_published_names_are_understood(network: Callable) -> None:
    source, target, queries = network((1, 32, 32), (3,)), network((1, 32, 32), (3,)), torch.randn(2, 1, 32, 32)
    source(torch.randn(8, 1, 32, 32))
    load_into(target, {f"module.{name}": value for name, value in source.state_dict().items()}, "published.t7")
    assert torch.equal(target.eval()(queries), source.eval()(queries))


def test_lenet_drops_nothing_unless_asked_to() -> None:
    torch.manual_seed(0)
    network, queries = LeNet((1, 20, 20), (4,)), torch.rand(5, 1, 20, 20)
    assert torch.equal(network.train()(queries), network.eval()(queries))


def test_lenet_drops_whole_channels_and_hidden_units() -> None:
    network, seen = LeNet((1, 20, 20), (4,), dropout=0.5).train(), []
    for module in (network.conv2_drop, network.fc1_drop):
        module.register_forward_hook(lambda module, asked, answer: seen.append((asked[0], answer)))
    queries = torch.rand(50, 1, 20, 20)
    network(queries)
    (_, channels), (asked, hidden) = seen
    dropped = (channels == 0).flatten(2).float().mean(dim=2)
    assert dropped.shape == (50, 20)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert 0.4 < dropped.mean() < 0.6
    assert hidden.shape == (50, 1000)
    assert 0.4 < (hidden[asked > 0] == 0).float().mean() < 0.6
    assert torch.equal(network.eval()(queries), network(queries))


@pytest.mark.parametrize("network", [VGG11, LeNet])
def test_they_learn_in_every_layer(network: Callable[..., nn.Module]) -> None:
    ours = network((1, 64, 64), (3,))
    ours(torch.randn(4, 1, 64, 64)).square().sum().backward()
    assert [name for name, parameter in ours.named_parameters() if not parameter.grad.abs().sum() > 0] == []
