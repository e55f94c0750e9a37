"""k whole queries at one worker: what its networks promise."""

import pytest
import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import HadamardSumEncoder, PackedEncoder, PositionalDecoder, StackingEncoder
from parity.errors import ParityError
from parity.evaluation.costs import group_costs, multiply_adds
from parity.models import MLP, Demultiplexed, FromBaseModel, MIMONet, PackedStudents, ResNet
from parity.models.packed import convolution, linear

QUERY = (1, 6, 6)


def test_a_packed_parity_query_is_the_queries_themselves() -> None:
    encoder, queries = PackedEncoder(3, 2, QUERY), torch.randn(4, 3, *QUERY)
    assert encoder.parity_query_shape == (3, *QUERY)
    assert all(torch.equal(parity, queries) for parity in encoder(queries).unbind(1))
    with pytest.raises(ParityError, match="r of at least 1"):
        PackedEncoder(3, 0, QUERY)


def test_no_query_disturbs_anothers_student() -> None:
    network = PackedStudents((3, *QUERY), (3, 10), MLP, hidden=(8,))
    queries = torch.randn(2, 3, *QUERY)
    changed = queries.clone()
    changed[:, 1] = torch.randn(2, *QUERY)
    before, after = network(queries), network(changed)
    assert before.shape == (2, 3, 10)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])
    assert torch.allclose(before[:, 2], network.network(queries[:, 2]), atol=1e-6)


def test_a_student_of_the_base_models_shape_starts_from_its_weights() -> None:
    base, network = MLP(QUERY, (10,), hidden=(8,)), PackedStudents((2, *QUERY), (2, 10), MLP, hidden=(8,))
    FromBaseModel()(network, base)
    queries = torch.randn(2, 2, *QUERY)
    assert torch.allclose(network(queries)[:, 1], base(queries[:, 1]), atol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Flatten(1, 2), ResNet((3, *QUERY[1:]), (3, 10), blocks=(1,), widths=(4,))),
        nn.Sequential(nn.Flatten(1, 2), MLP((3, *QUERY[1:]), (3, 10), hidden=(8,))),
        MIMONet((3, *QUERY), (3, 10), convolution, 6, ResNet, 7, blocks=(1,), widths=(4,)),
        MIMONet((3, *QUERY), (3, 10), linear, 6, MLP, 8, hidden=(9,)),
    ],
    ids=["MIMO, images", "MIMO, flat", "MIMONet, convolution", "MIMONet, linear"],
)
def test_one_network_predicts_for_all_queries(network: nn.Module) -> None:
    queries = torch.randn(2, 3, *QUERY)
    network.eval()
    assert network(queries).shape == (2, 3, 10)
    network(queries).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_unbinding_undoes_binding() -> None:
    network = MIMONet((2, 16), (2, 16), linear, 16, lambda query, features: nn.Identity(), 16)
    one = torch.randn(5, 16)
    for position in range(2):
        bound = one @ network.keys[position].mT
        unbound = bound @ bindings_of(network, position)
        assert torch.allclose(unbound, one, atol=1e-5)


def bindings_of(network: MIMONet, position: int) -> torch.Tensor:
    """What undoes this position's key."""
    return network.keys[position]  # orthogonal: its transpose, applied to rows


def test_bindings_are_orthogonal_circular_convolutions_and_the_keys_lie_in_the_state_dict() -> None:
    network = MIMONet((3, 16), (3, 4), linear, 8, MLP, 7, hidden=(5,))
    for matrices in (network.keys, network.unbinding):
        assert torch.allclose(matrices @ matrices.mT, torch.eye(matrices.shape[-1]).expand_as(matrices), atol=1e-6)
        assert torch.allclose(matrices, matrices.roll((1, 1), (-2, -1)), atol=1e-6)  # circulant
    assert {"keys", "unbinding"} <= network.state_dict().keys()


def test_a_hadamard_sum_weighs_every_entry_and_is_the_same_each_time() -> None:
    encoder, again = HadamardSumEncoder(2, 1, QUERY), HadamardSumEncoder(2, 1, QUERY)
    queries = torch.randn(3, 2, *QUERY)
    expected = (queries[:, 0] * encoder.weights[0, 0] + queries[:, 1] * encoder.weights[0, 1]).unsqueeze(1)
    assert torch.allclose(encoder(queries), expected)
    assert torch.equal(encoder(queries), again(queries))
    network = Demultiplexed(QUERY, (2, 10), MLP, 9, 5, hidden=(8,))
    assert network(encoder(queries)[:, 0]).shape == (3, 2, 10)


def test_a_network_of_whole_queries_behind_another_encoder_is_refused() -> None:
    for make in (
        lambda shape, predictions: PackedStudents(shape, predictions, MLP),
        lambda shape, predictions: MIMONet(shape, predictions, linear, 4, MLP, 4),
    ):
        with pytest.raises(ParityError, match="give the code a PackedEncoder"):
            make(QUERY, (3, 10))
        with pytest.raises(ParityError, match="give the code a PositionalDecoder"):
            make((3, *QUERY), (10,))
    with pytest.raises(ParityError, match="give the code a PositionalDecoder"):
        Demultiplexed(QUERY, (10,), MLP, 4, 4)


def test_costs_of_a_group_are_those_counted_by_hand() -> None:
    base = MLP((16,), (10,), hidden=(20,))
    base_adds = 2 * (16 * 20 + 20 * 10)
    student = PackedStudents((2, 16), (2, 10), MLP, hidden=(6,))
    model = CodedModel(base, PackedEncoder(2, 1, (16,)), [student], PositionalDecoder(2, 1, (10,)))
    found = group_costs(model, torch.zeros(1, 16))
    assert found == (2 * (16 * 6 + 6 * 10) / base_adds, 0, 1.0, 1.0)
    joint = MLP((32,), (2, 10), hidden=(6,))
    stacked = CodedModel(base, StackingEncoder(2, 1, (16,)), [joint], PositionalDecoder(2, 1, (10,)))
    assert multiply_adds(joint, torch.zeros(1, 32)) == 32 * 6 + 6 * 20
    assert group_costs(stacked, torch.zeros(1, 16)) == ((32 * 6 + 6 * 20) / base_adds, 0, 1.0, 1.0)


def test_a_coded_model_rebuilds_what_its_students_predict() -> None:
    base, student = MLP(QUERY, (10,)), PackedStudents((2, *QUERY), (2, 10), MLP, hidden=(8,))
    model = CodedModel(base, PackedEncoder(2, 1, QUERY), [student], PositionalDecoder(2, 1, (10,))).eval()
    queries = torch.randn(3, 2, *QUERY)
    rebuilt = model(queries, torch.tensor([[False, True, True]] * 3))
    assert torch.allclose(rebuilt[:, 0], student.network(queries[:, 0]), atol=1e-6)
    assert torch.equal(rebuilt[:, 1], model(queries, torch.ones(3, 3, dtype=torch.bool))[:, 1])
