from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.coded_model import CodedModel
from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    EmbeddedEncoder,
    GridEncoder,
    LinearDecoder,
    LinearEncoder,
    PackedEncoder,
    PositionalDecoder,
    ReplicationDecoder,
    ReplicationEncoder,
    StackingEncoder,
)
from parity.evaluation.costs import group_costs, multiply_adds, parity_model_costs
from parity.models import MLP, PackedStudents, PerCell, ResNet, TextTransformer, split_after


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


def test_a_backup_is_charged_by_what_it_computes_and_replication_in_full() -> None:
    base, small, query = MLP((16,), (10,), hidden=(20,)), MLP((16,), (10,), hidden=(5,)), torch.zeros(1, 16)
    backup = CodedModel(base, BackupEncoder(2, 2, (16,)), [small] * 2, BackupDecoder(2, 2, (10,)))
    replication = CodedModel(base, ReplicationEncoder(2, 2, (16,)), [], ReplicationDecoder(2, 2, (10,)))
    assert group_costs(backup, query) == (multiply_adds(small, query) / multiply_adds(base, query), 0, 1, 1)
    assert group_costs(replication, query) == (1, 0, 1, 1)


def test_encoding_and_decoding_are_part_of_what_a_group_costs() -> None:
    base, query = MLP((1, 28, 28), (10,)), (1, 28, 28)
    addition = CodedModel(base, LinearEncoder(2, 1, query), [MLP(query, (10,))], LinearDecoder(2, 1, (10,)))
    found, adds = group_costs(addition, torch.zeros(1, *query)), 2 * (784 * 200 + 200 * 100 + 100 * 10)
    encoding, decoding = 2 * 784, 2 * 3 * 10
    assert found.coding == (encoding + decoding) / adds
    assert found.extra_multiply_adds == 0.5 + found.coding
    assert (found.extra_bytes_up, found.extra_bytes_down) == (0.5, 0.5)


def test_embeddings_in_place_of_ids_are_charged_by_their_bytes() -> None:
    base, ids = TextTransformer((16,), (3,), vocabulary=50, width=16, blocks=1), torch.randint(1, 50, (1, 16))
    first, second = split_after(base.eval(), "embedding", ids)
    encoder = EmbeddedEncoder(2, 1, (16,), first, (16, 16), partial(GridEncoder, axes=(0,)))
    parity_model = PerCell((16, 16), (2, 3), lambda query, prediction: second, axes=(0,))
    found = group_costs(CodedModel(base, encoder, [parity_model], PositionalDecoder(2, 1, (3,))).eval(), ids)
    assert found.extra_bytes_up == (16 * 16 * 4) / (2 * 16 * 8)  # float32 beside int64
    assert found.extra_bytes_down == 1


@settings(max_examples=25, deadline=None)
@given(k=st.integers(2, 4), length=st.integers(8, 24), hidden=st.integers(1, 9), student=st.integers(1, 9))
def test_costs_of_a_group_are_those_counted_by_hand(k: int, length: int, hidden: int, student: int) -> None:
    """Packed students, one stacked network, cells: multiply-adds, the share of coding, bytes up and down."""
    base, query = MLP((length,), (5,), hidden=(hidden,)), torch.zeros(1, length)
    of_base, decoder = k * (length * hidden + hidden * 5), PositionalDecoder(k, 1, (5,))

    packed = PackedStudents((k, length), (k, 5), MLP, hidden=(student,))
    found = group_costs(CodedModel(base, PackedEncoder(k, 1, (length,)), [packed], decoder), query)
    assert found == pytest.approx((k * (length * student + student * 5) / of_base, 0, 1, 1))

    stacked = MLP((k * length,), (k, 5), hidden=(student,))
    found = group_costs(CodedModel(base, StackingEncoder(k, 1, (length,)), [stacked], decoder), query)
    assert found == pytest.approx(((k * length * student + student * k * 5) / of_base, 0, 1, 1))

    cell = length // k
    cells = PerCell((length,), (k, 5), MLP, hidden=(student,))
    found = group_costs(CodedModel(base, GridEncoder(k, 1, (length,)), [cells], decoder), query)
    resampling, predicting = k * length * cell, k * (cell * student + student * 5)
    assert found == pytest.approx(((resampling + predicting) / of_base, resampling / of_base, 1 / k, 1))
