import logging

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from parity.errors import ParityError
from parity.models import (
    MLP,
    FromBaseModel,
    InOrder,
    LastBias,
    NormalLinear,
    PerCell,
    ResNet,
    XavierConvolution,
    torchvision_model,
)


def test_normal_linear_draws_weights_and_clears_biases_of_linear_layers_alone() -> None:
    network = ResNet((3, 8, 8), (400,), blocks=(1,), widths=(64,))
    convolutions = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("fc")}
    NormalLinear(std=0.02)(network)
    assert network.fc.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(network.fc.weight.mean().item()) < 1e-3
    assert not network.fc.bias.any()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in convolutions.items())


def test_xavier_draws_convolutions_alone() -> None:
    network = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Linear(5, 5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    XavierConvolution()(network)
    bound = 2**0.5 * (6 / (16 * 9 + 32 * 9)) ** 0.5  # gain * sqrt(6 / (fan in + fan out))
    assert network[0].weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert network[0].weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not network[0].bias.any()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items() if name[0] != "0")


def test_normal_linear_leaves_layers_without_bias_without_one() -> None:
    network = nn.Sequential(nn.Linear(4, 4, bias=False))
    NormalLinear()(network)
    assert network[0].bias is None


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (lambda: MLP((6,), (2, 2), hidden=(4,)), "layers.2.bias"),  # a hidden layer is as wide as the last
        (lambda: ResNet((3, 8, 8), (4,), blocks=(1,), widths=(4,)), "fc.bias"),
        (lambda: torchvision_model((3, 8, 8), (4,), resnet18), "fc.bias"),
        (lambda: torchvision_model((3, 8, 8), (2, 2), resnet18), "0.fc.bias"),
    ],
)
def test_last_bias_sets_the_last_bias_and_nothing_else(network: object, name: str) -> None:
    made = network()
    before = {own: value.clone() for own, value in made.state_dict().items()}
    LastBias((-1.1182, -1.136, 2.2128, 2.412))(made)
    assert made.state_dict()[name].tolist() == pytest.approx([-1.1182, -1.136, 2.2128, 2.412])
    assert [own for own, value in made.state_dict().items() if not torch.equal(value, before[own])] == [name]
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_last_bias_keeps_the_type() -> None:
    network = MLP((6,), (2,)).double()
    LastBias((0.1, 0.2))(network)
    assert network.layers[-1].bias.dtype == torch.float64


def test_last_bias_of_another_size_is_refused_and_nothing_is_set() -> None:
    network = MLP((6,), (3,))
    before = network.layers[-1].bias.clone()
    for value in [(1.0,), (1.0, 2.0, 3.0, 4.0), ()]:
        with pytest.raises(ParityError, match=f"the last bias of MLP has 3 values, not {len(value)}"):
            LastBias(value)(network)
    assert torch.equal(network.layers[-1].bias, before)


@pytest.mark.parametrize(
    "network", [nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4, bias=False))]
)
def test_last_bias_of_a_network_without_one_is_refused(network: nn.Module) -> None:
    with pytest.raises(ParityError, match="Sequential has no last linear layer with a bias"):
        LastBias((1.0, 2.0, 3.0, 4.0))(network)


def test_in_order_applies_one_after_another() -> None:
    first, second = MLP((6,), (2,)), MLP((6,), (2,))
    InOrder((NormalLinear(), LastBias((1.0, 2.0))))(first)
    InOrder((LastBias((1.0, 2.0)), NormalLinear()))(second)
    assert first.layers[-1].bias.tolist() == [1.0, 2.0]
    assert second.layers[-1].bias.tolist() == [0.0, 0.0]
    assert not first.layers[0].bias.any()


def test_a_parity_model_starts_from_the_base_model_where_they_have_weights_in_common() -> None:
    base = MLP((1, 4, 4), (3,), hidden=(8, 5))
    wider = MLP((1, 4, 4), (2, 3), hidden=(8, 5))
    FromBaseModel()(wider, base)
    for name, value in base.state_dict().items():
        copies = 2 if name.startswith("layers.4") else 1
        assert torch.equal(wider.state_dict()[name], torch.cat([value] * copies))
    queries = torch.rand(6, 1, 4, 4)
    assert torch.allclose(wider(queries), base(queries).unsqueeze(1).expand(-1, 2, -1))


def test_the_network_in_a_cell_starts_from_what_fits_its_smaller_queries() -> None:
    base = MLP((1, 4, 4), (3,), hidden=(8, 5))
    cells = PerCell((1, 4, 4), (2, 3), MLP, hidden=(8, 5))
    first = cells.network.layers[0].weight.detach().clone()
    FromBaseModel()(cells, base)
    assert torch.equal(cells.network.layers[0].weight, first)  # 8 x 8 here, 8 x 16 there
    for name, value in base.state_dict().items():
        if name != "layers.0.weight":
            assert torch.equal(cells.network.state_dict()[name], value)
    resnet = ResNet((3, 8, 8), (4,), blocks=(1, 1), widths=(4, 6))
    cells = PerCell((3, 8, 8), (4, 4), ResNet, blocks=(1, 1), widths=(4, 6))
    FromBaseModel()(cells, resnet)
    assert all(torch.equal(value, cells.network.state_dict()[name]) for name, value in resnet.state_dict().items())


def test_only_the_last_layer_is_repeated() -> None:
    base, wider = MLP((6,), (3,), hidden=(4, 4)), MLP((6,), (2, 3), hidden=(8, 4))
    first = {name: value.clone() for name, value in wider.state_dict().items()}
    FromBaseModel()(wider, base)
    own, start = wider.state_dict(), base.state_dict()
    for name in ("layers.0.weight", "layers.0.bias", "layers.2.weight"):  # of other shapes
        assert torch.equal(own[name], first[name])
    assert torch.equal(own["layers.2.bias"], start["layers.2.bias"])
    assert torch.equal(own["layers.4.weight"], start["layers.4.weight"].repeat(2, 1))
    alone = nn.Linear(4, 6)
    FromBaseModel()(alone, only := nn.Linear(4, 3))
    assert torch.equal(alone.weight, only.weight.repeat(2, 1))


def test_networks_with_nothing_in_common_are_told_apart() -> None:
    with pytest.raises(ParityError, match="cannot start"):
        FromBaseModel()(MLP((4,), (3,), hidden=(2,)), ResNet((3, 8, 8), (4,), blocks=(1,), widths=(4,)))


def test_weights_that_do_not_start_from_the_base_model_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parity")
    base = MLP((4,), (3,), hidden=(5, 5))
    FromBaseModel()(MLP((4,), (3,), hidden=(5, 5)), base)
    assert not caplog.messages
    FromBaseModel()(MLP((4,), (3,), hidden=(5, 7)), base)
    names = "layers.2.weight, layers.2.bias, layers.4.weight"
    assert caplog.messages == [f"MLP starts from the base model but for 3 of its 6 weights: {names}"]
