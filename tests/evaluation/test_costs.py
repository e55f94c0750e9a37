import torch

from parity.coded_model import CodedModel
from parity.coders import GridEncoder, PositionalDecoder
from parity.evaluation.costs import multiply_adds, parity_model_costs
from parity.models import MLP, PerCell, ResNet


def test_a_parity_model_costs_what_its_layers_multiply_beside_the_base_model() -> None:
    base = MLP((1, 28, 28), (10,))
    parity_models = [PerCell((1, 28, 28), (4, 10), MLP, hidden=(hidden,)) for hidden in (20, 30)]
    model = CodedModel(base, GridEncoder(4, 2, (1, 28, 28)), parity_models, PositionalDecoder(4, 2, (10,)))
    adds, parameters, _ = parity_model_costs(model, torch.zeros(1, 1, 28, 28))
    assert adds == 4 * (196 * 30 + 30 * 10) / (784 * 200 + 200 * 100 + 100 * 10)
    assert parameters == (196 * 30 + 30 + 30 * 10 + 10) / 178_110


def test_encoding_costs_what_resampling_multiplies() -> None:
    base, query = MLP((1, 28, 28), (10,)), (1, 28, 28)
    parity_models = [PerCell(query, (4, 10), MLP, hidden=(20,))] * 2
    model = CodedModel(base, GridEncoder(4, 2, query), parity_models, PositionalDecoder(4, 2, (10,)))
    resampling = 4 * (28 * 28 * 14 + 14 * 28 * 14)
    assert parity_model_costs(model, torch.zeros(1, *query)).encoding == resampling / (784 * 200 + 200 * 100 + 100 * 10)


def test_counting_leaves_a_network_as_it_is() -> None:
    network = ResNet((3, 8, 8), (4,), blocks=(1,), widths=(4,)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    convolutions = 64 * 9 * (3 * 4 + 2 * 4 * 4)
    assert multiply_adds(network, torch.ones(1, 3, 8, 8)) == convolutions + 4 * 4
    assert network.training
    assert network.bn1.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
