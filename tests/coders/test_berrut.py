import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder
from parity.coders.berrut import berrut_matrix
from parity.coders.interpolation import dct_nodes, message_nodes, worker_nodes
from parity.data import get_datamodule_class
from parity.evaluation import evaluate_code
from parity.experiments import Experiment
from parity.models import load_into, read_weights


def coincidences(k: int, n: int) -> list[tuple[int, int]]:
    """(j, i) with alpha_j = beta_i, in whole numbers: (2j + 1) / 2k = i / (n - 1)."""
    return [(j, i) for j in range(k) for i in range(n) if Fraction(2 * j + 1, 2 * k) == Fraction(i, n - 1)]


@pytest.mark.parametrize(("k", "r", "expected"), [(3, 2, [(1, 2)]), (2, 3, [(0, 1), (1, 3)]), (5, 2, [(2, 3)])])
def test_the_examples_coincide(k: int, r: int, expected: list[tuple[int, int]]) -> None:
    assert coincidences(k, k + r) == expected


@given(k=st.integers(1, 40), r=st.integers(1, 40))
def test_where_nodes_coincide_the_value_is_the_nodes_own(k: int, r: int) -> None:
    n = k + r
    encoder, decoder = BerrutEncoder(k, r, ()), BerrutDecoder(k, r, ())
    matrix = decoder.matrices(torch.ones(1, n, dtype=torch.bool))[0]
    assert encoder.matrix.isfinite().all()
    assert matrix.isfinite().all()
    exact = coincidences(k, n)
    if k > 1:
        assert ((encoder.matrix != 0).sum(1) == 1).sum() == len(exact), "and nowhere else"
    for j, i in exact:
        assert encoder.matrix[i].tolist() == [float(column == j) for column in range(k)]
        assert matrix[j].tolist() == [float(column == i) for column in range(n)]


@pytest.mark.parametrize(("k", "r"), [(3, 2), (2, 3), (7, 2)])
def test_the_base_models_own_prediction_comes_back_where_nodes_coincide(k: int, r: int) -> None:
    base = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2))
    model = CodedModel(base, BerrutEncoder(k, r, (3,)), [], BerrutDecoder(k, r, (2,)))
    queries = torch.randn(6, k, 3)
    predictions = model.base_outputs(queries)
    for pattern in torch.cat([erasures.patterns(k + r, erased) for erased in range(r + 1)]):
        answers = model(queries, pattern.expand(6, -1))
        assert answers.isfinite().all()
        for j, i in coincidences(k, k + r):
            assert torch.allclose(answers[:, j], predictions[:, j], atol=1e-5) == bool(pattern[i])


def test_the_formula() -> None:
    nodes, at = worker_nodes(4)[[0, 2, 3]], 0.3  # output 1 did not arrive: signs alternate over the others
    terms = [1 / (at - nodes[0]), -1 / (at - nodes[1]), 1 / (at - nodes[2])]
    expected = torch.stack(terms) / sum(terms)
    assert torch.allclose(berrut_matrix(nodes, torch.tensor([at], dtype=torch.float64))[0], expected)


@given(n=st.integers(2, 30), data=st.data())
def test_there_is_no_pole_whichever_outputs_arrive(n: int, data: st.DataObject) -> None:
    arrived = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True).map(sorted))
    dense = torch.linspace(-1, 1, 999, dtype=torch.float64)
    assert berrut_matrix(worker_nodes(n)[arrived], dense).abs().max() < 40


def test_order_of_nodes_does_not_matter() -> None:
    nodes, at = worker_nodes(6), message_nodes(4)
    assert torch.allclose(berrut_matrix(nodes.flip(0), at).flip(1), berrut_matrix(nodes, at))


@given(k=st.integers(1, 12), r=st.integers(0, 6), seed=st.integers(0, 99))
def test_with_other_nodes_a_constant_base_model_is_rebuilt_exactly(k: int, r: int, seed: int) -> None:
    """Encoder and decoder agree about the nodes, whichever outputs arrive: the curve through equal values is flat."""
    n = k + r
    nodes = dct_nodes(n)
    assert nodes.tolist() == pytest.approx([math.cos((2 * i + 1) * math.pi / (2 * n)) for i in range(n)])
    encoder, decoder = BerrutEncoder(k, r, (), nodes=dct_nodes), BerrutDecoder(k, r, (), nodes=dct_nodes)
    assert torch.allclose(encoder.matrix, berrut_matrix(message_nodes(k), nodes).float())
    available = torch.rand(n, generator=torch.Generator().manual_seed(seed)).argsort() < k
    matrix = decoder.matrices(available[None])[0]
    assert torch.allclose(matrix[:, available], berrut_matrix(nodes[available], message_nodes(k)).float(), atol=1e-5)
    assert torch.allclose(matrix.sum(1), torch.ones(k), atol=1e-4)
    assert not matrix[:, ~available].any()


# The paper's figures: any n - 1 of n outputs; and, to three digits, the docstring of parity.coders.berrut
@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(
    ("k", "reference", "one_of_one", "two_missing"),
    [
        (2, 0.855, 0.856, (0.974, 0.866)),
        (3, 0.754, 0.758, (0.941, 0.805)),
        (4, 0.725, 0.724, (0.907, 0.809)),
        (8, 0.680, 0.682, (0.884, 0.818)),
        (12, 0.675, 0.672, None),
    ],
)
def test_mnist_figures(
    published_weights: Path, k: int, reference: float, one_of_one: float, two_missing: tuple[float, float] | None
) -> None:
    network = Experiment("MNIST", "mlp_base").get_model()
    load_into(network, read_weights(published_weights), published_weights)
    datamodule = get_datamodule_class("MNIST")(k=k, batch_size=2500)

    def measured(r: int) -> list[float]:
        model = CodedModel(network, BerrutEncoder(k, r, (1, 28, 28)), [], BerrutDecoder(k, r, (10,)))
        evaluation = evaluate_code(model, datamodule.loader("test"), datamodule.task, torch.eye(10)[1])
        return [evaluation.degraded(erased) for erased in range(1, r + 1)]

    assert measured(1) == [pytest.approx(reference, abs=0.015)]
    assert measured(1) == [pytest.approx(one_of_one, abs=0.001)]
    if two_missing is not None:
        assert measured(2) == pytest.approx(two_missing, abs=0.001)
