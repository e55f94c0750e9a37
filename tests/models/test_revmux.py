"""A frozen network between reversible adapters."""

import pytest
import torch

from parity.errors import ParityError
from parity.models import MLP, FrozenBaseModel, ResNet, RevMUX
from parity.models.revmux import Coupling, bottleneck, convolutions


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize(("shape", "adapter"), [((7,), bottleneck), ((2, 4, 3), convolutions)])
def test_a_coupling_is_undone_exactly_whatever_its_functions_are(k: int, shape: tuple[int, ...], adapter) -> None:
    coupling, parts = Coupling(k, shape, adapter, 6).double(), torch.randn(4, k, *shape, dtype=torch.float64)
    mixed = coupling(parts)
    assert torch.allclose(coupling.undo(mixed), parts)
    assert not any(torch.allclose(mixed[:, i], parts[:, i]) for i in range(k))
    assert torch.allclose(mixed[:, 1], parts[:, 1] + coupling.functions[1](mixed[:, 0]))


@pytest.mark.parametrize(
    ("base", "network", "trained"),
    [
        (
            MLP((1, 6, 6), (5,), hidden=(9, 8)),
            RevMUX((1, 6, 6), (2, 5), MLP, 8, bottleneck, 4, 3, hidden=(9,)),
            set(),
        ),
        (
            ResNet((1, 6, 6), (5,), blocks=(1,), widths=(8,)),
            RevMUX((1, 6, 6), (2, 5), ResNet, 8, convolutions, 4, 3, blocks=(1,), widths=(8,)),
            {"fc.weight", "fc.bias"},
        ),
    ],
    ids=["MLP", "ResNet"],
)
def test_the_base_models_layers_stay_as_they_are(base: torch.nn.Module, network: RevMUX, trained: set[str]) -> None:
    FrozenBaseModel()(network, base)
    own = dict(network.network.named_parameters())
    assert {name for name, value in own.items() if value.requires_grad} == trained
    assert all(torch.equal(value, base.state_dict()[name]) for name, value in own.items() if name not in trained)
    before = {name: value.clone() for name, value in own.items()}
    values = [value for value in network.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(values, lr=0.1)
    queries = torch.randn(6, 1, 6, 6)
    assert network(queries).shape == (6, 2, 5)
    network(queries).square().sum().backward()
    optimizer.step()
    assert {name for name, value in own.items() if not torch.equal(value, before[name])} <= trained
    assert all(value.grad is not None for value in values)


def test_both_predictions_depend_on_both_cells() -> None:
    network = RevMUX((1, 6, 6), (2, 5), MLP, 8, bottleneck, 4, 3, hidden=(9,)).double()
    queries = torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    for position in range(2):
        (gradient,) = torch.autograd.grad(network(queries)[0, position].sum(), queries)
        assert gradient[..., :3].abs().sum() > 0
        assert gradient[..., 3:].abs().sum() > 0


def test_what_it_cannot_be_made_of_is_refused_in_a_sentence() -> None:
    with pytest.raises(ParityError, match="give the code a PositionalDecoder"):
        RevMUX((1, 6, 6), (5,), MLP, 8, bottleneck, 4, 3)
    with pytest.raises(ParityError, match="8 are not divisible by it"):
        RevMUX((1, 6, 6), (3, 5), MLP, 8, bottleneck, 4, 3)
    with pytest.raises(ParityError, match="choose a larger k"):
        RevMUX((1, 6, 6), (1, 5), MLP, 8, bottleneck, 4, 3)
