"""A narrower network that starts from a trained one."""

import pytest
import torch
from torch import nn

from parity.errors import ParityError
from parity.models import MLP, FromPrunedBaseModel, LeNet, PackedStudents, ResNet

MADE = {
    "MLP": ((1, 4, 4), lambda shape, *widths: MLP(shape, (5,), hidden=widths or (9, 7))),
    "ResNet": ((3, 8, 8), lambda shape, *widths: ResNet(shape, (5,), blocks=(2, 1), widths=widths or (6, 8))),
    "LeNet": ((1, 18, 20), lambda shape, first=6, hidden=9: LeNet(shape, (5,), widths=(first, 3), hidden=hidden)),
}


def trained(network: nn.Module, query: tuple[int, ...]) -> nn.Module:
    """A network whose weights and statistics are all different."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) - (0 if "running" in name else 0.4))
    return network.eval()


@pytest.mark.parametrize("kind", MADE)
def test_a_full_width_prune_copies_the_network_exactly(kind: str) -> None:
    query, make = MADE[kind]
    base, student = trained(make(query), query), make(query).eval()
    FromPrunedBaseModel()(student, base)
    assert all(torch.equal(value, base.state_dict()[name]) for name, value in student.state_dict().items())
    queries = torch.randn(3, *query)
    assert torch.equal(student(queries), base(queries))


@pytest.mark.parametrize("kind", MADE)
def test_channels_without_weights_are_left_out_and_nothing_changes(kind: str) -> None:
    """Zeros are put into channels of a network in the middle of the others: a prune to the rest predicts the same."""
    query, make = MADE[kind]
    widths = (7, 4) if kind == "MLP" else (4, 5)
    base = trained(make(query), query)
    axes, state = base.channel_axes(), base.state_dict()
    sizes = {name: size for key, names in axes.items() for name, size in zip(names, state[key].shape, strict=False)}
    wanted = {
        name: size
        for key, names in axes.items()
        for name, size in zip(names, make(query, *widths).state_dict()[key].shape, strict=False)
    }
    with torch.no_grad():
        for key, names in axes.items():
            for axis, name in enumerate(names):
                if name is not None:
                    dead = list(range(1, 1 + sizes[name] - wanted[name]))
                    state[key].index_fill_(axis, torch.tensor(dead), 1.0 if key.endswith("running_var") else 0.0)
    student = PackedStudents((2, *query), (2, 5), lambda shape, _: make(shape, *widths)).eval()
    FromPrunedBaseModel()(student, base)
    queries = torch.randn(3, 2, *query)
    assert torch.allclose(student(queries)[:, 1], base(queries[:, 1]), atol=1e-5)
    assert not torch.allclose(base(queries[:, 0]), base(queries[:, 1]), atol=1e-2)


def test_every_weight_of_a_hidden_layer_has_named_axes() -> None:
    for query, make in MADE.values():
        network = make(query)
        axes = network.channel_axes()
        for name, value in network.state_dict().items():
            assert name in axes or value.dim() == 0 or name == "fc.bias"
            assert len(axes.get(name, ())) <= value.dim()


def test_what_cannot_be_pruned_is_refused_in_a_sentence() -> None:
    base = MLP((16,), (5,), hidden=(9, 7))
    with pytest.raises(ParityError, match="pruning makes hidden layers narrower and nothing else"):
        FromPrunedBaseModel()(MLP((16,), (5,), hidden=(10, 7)), base)
    with pytest.raises(ParityError, match="pruning makes hidden layers narrower and nothing else"):
        FromPrunedBaseModel()(MLP((8,), (5,), hidden=(9, 7)), base)
    with pytest.raises(ParityError, match="as many layers as the base model"):
        FromPrunedBaseModel()(MLP((16,), (5,), hidden=(9,)), base)
    with pytest.raises(ParityError, match="one with channel_axes"):
        FromPrunedBaseModel()(nn.Linear(16, 5), nn.Linear(16, 5))
