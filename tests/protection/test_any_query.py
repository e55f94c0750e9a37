"""One call for queries that are not images: signals, volumes, tables, sequences of ids, and their embeddings."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import parity
from parity.black_boxes import DefaultNetworks
from parity.data import TokensDataModule
from parity.errors import ParityError
from parity.evaluation.costs import parity_model_costs
from parity.models import TextTransformer
from parity.protection.codes import choose, coded_model
from parity.protection.protectable import Protectable

QUIET = dict(progress=False, accelerator="cpu", augmentation=None, max_epochs=1)


def signals(*shape: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(64, *shape), torch.arange(64) % 3


def sentences() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    ids = torch.randint(1, 30, (64, 12))
    ids[::2, 8:] = 0
    return ids, torch.arange(64) % 3


def text() -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer((12,), (3,), vocabulary=30, width=16, blocks=1)


def convolutions(dimensions: int) -> nn.Module:
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dimensions - 1]
    return nn.Sequential(convolution(1, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("network", "shape", "cell"),
    [(convolutions(1), (1, 24), "(1, 6)"), (convolutions(3), (1, 4, 8, 8), "(1, 4, 4, 4)")],
)
def test_signals_and_volumes_are_protected_by_cells(network: nn.Module, shape: tuple[int, ...], cell: str) -> None:
    result = parity.protect(network, signals(*shape), k=4, **QUIET)
    assert result.code == "cells"
    assert f"predicts cells of {cell}" in result.why


def perceptron(*shape: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 32), nn.ReLU(), nn.Linear(32, 3)).eval()


def fixed_convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 3)).eval()


@torch.no_grad()
def protectable(network: nn.Module, *shape: int, k: int = 4) -> Protectable:
    queries = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return Protectable(network, queries, network(queries), k, 1, default=DefaultNetworks(network, queries))


@pytest.mark.parametrize(("code", "asked"), [("packed", (4, 40)), ("projection", (40,))])
def test_tables_are_protected_at_the_cost_of_the_network(code: str, asked: tuple[int, ...]) -> None:
    of = protectable(perceptron(40), 40)
    choice = choose(code, of)
    model = coded_model(choice, of)
    assert model.encoder.parity_query_shape == asked
    assert 0.8 < parity_model_costs(model, of.queries[:1]).multiply_adds <= 1
    assert choose("auto", of).name == "packed"  # by what was measured: docs/codes.md


def test_rows_packed_whole_do_not_disturb_each_other() -> None:
    of = protectable(perceptron(40), 40)
    (parity_model,) = coded_model(choose("auto", of), of).eval().parity_models
    queries = torch.randn(1, 4, 40)
    changed = queries.clone()
    changed[:, 2] = 0
    differs = (parity_model(queries) != parity_model(changed)).any(-1)[0]
    assert differs.tolist() == [False, False, True, False]


def test_tables_are_protected_in_one_call() -> None:
    result = parity.protect(perceptron(40), signals(40), k=4, **QUIET)
    assert result.code == "packed"
    assert "a narrow network predicts for each of k whole queries" in result.why
    assert result.evaluate(signals(40), unavailable=(), timed=False).results["codes"][0]["multiply_adds"] <= 1


def test_stacked_rows_go_into_a_copy_with_a_wider_first_layer() -> None:
    of = protectable(perceptron(10), 10, k=2)
    (parity_model,) = coded_model(choose("stack", of), of).parity_models
    alike = of.queries[:1].repeat(1, 2)  # twice the same query: what a copy predicts is the network's own prediction
    torch.testing.assert_close(parity_model(alike), of.predictions[:1].unsqueeze(1).expand(-1, 2, -1))


@pytest.mark.parametrize(
    ("network", "shape", "kind"),
    [
        (perceptron(1, 8, 8), (1, 8, 8), nn.Linear),
        (fixed_convolutions(), (1, 24), nn.Conv1d),
        (nn.Sequential(nn.Unflatten(1, (1, 24)), fixed_convolutions()), (24,), nn.Conv1d),  # a signal, not a row
        (nn.Sequential(nn.Conv1d(1, 3, 24), nn.Flatten()), (1, 24), nn.Linear),  # convolutions would cost more
    ],
)
def test_networks_of_one_size_get_a_default_network_for_cells(
    network: nn.Module, shape: tuple[int, ...], kind: type[nn.Module]
) -> None:
    of = protectable(network.eval(), *shape, k=2)
    choice = choose("auto", of)  # by what was measured: docs/choosing.md
    assert choice.name == "cells"
    assert "a default network of no higher cost predicts cells" in choice.why
    assert "the network cannot take cells of" in choice.why  # what was tried before is stated
    model = coded_model(choice, of)
    first = next(module for module in model.parity_models[0].modules() if [*module.parameters(recurse=False)])
    assert isinstance(first, kind)
    assert parity_model_costs(model, of.queries[:1]).multiply_adds <= 1


def test_what_costs_too_little_for_a_default_network_is_added_up() -> None:
    network = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 1, 4), nn.Flatten()).eval()
    choice = choose("auto", protectable(network, 4, k=2))
    assert choice.name == "add"
    assert "which no default parity model does with" in choice.why


def test_a_projection_is_not_one_of_images() -> None:
    with pytest.raises(ParityError, match=r"a projection is one of rows of features, \(L,\)"):
        choose("projection", protectable(perceptron(1, 8, 8), 1, 8, 8))


def test_packed_queries_are_not_for_a_factory() -> None:
    of = replace(protectable(perceptron(40), 40), factory=lambda query, prediction: perceptron(40))
    with pytest.raises(ParityError, match="are not made by a factory"):
        choose("packed", of)


def test_sequences_of_ids_are_protected_by_shorter_ones() -> None:
    data = sentences()
    result = parity.protect(text(), data, k=2, **QUIET)
    assert result.code == "tokens"
    model, queries = result.coded_model, data[0][:4].unflatten(0, (2, 2))
    available = torch.tensor([[True, False, True], [False, False, True]])
    with torch.no_grad():
        assert model(queries, available).isfinite().all()
        assert torch.equal(model(queries, available)[0, 0], model.base_outputs(queries)[0, 0])
    frame = result.evaluate(data, baselines=True).frame
    assert set(frame["name"]) == {"tokens", "no redundancy", "replication x2"}  # the others compute with queries


def test_ids_never_leave_the_vocabulary() -> None:
    ids, classes = sentences()
    result, beyond = parity.protect(text(), (ids, classes), k=2, **QUIET), ids.clone()
    beyond[40, 3] = 30
    refused = pytest.raises(ParityError, match=r"data: ids of tokens are whole numbers from 0 to 29, and .* to 30")
    for data in ((beyond, classes), beyond, TensorDataset(beyond, classes)):
        with refused:
            parity.protect(text(), data, k=2, **QUIET)
        with refused:
            result.evaluate(data)
        with refused:
            parity.evaluate(result.coded_model, data)


def test_a_datamodules_vocabulary_is_compared_with_the_networks() -> None:
    class _Sentences(TokensDataModule):
        QUERY_SHAPE, NUM_CLASSES, NUM_VALIDATION, VOCABULARY = (12,), 3, 8, 40

        def load(self, train: bool) -> tuple[Tensor, Tensor]:
            ids, classes = sentences()
            return ids + (0 if train else 1), classes

    result = parity.protect(text(), _Sentences(k=2), k=2, **QUIET)  # no id above 29, whatever it declares
    with pytest.raises(
        ParityError, match=r"the test data of .*Sentences: ids of tokens are whole numbers from 0 to 29"
    ):
        result.evaluate()


@pytest.mark.parametrize("code", ["auto", "keyed", "add"])
def test_embeddings_are_encoded_where_the_network_is_split(code: str) -> None:
    data = sentences()
    result = parity.protect(text(), data, k=2, code=code, encode_after="embedding", **QUIET)
    assert result.code == {"auto": "cells"}.get(code, code)
    assert "after 'embedding', in embeddings of (12, 16)" in result.why
    model = result.coded_model
    assert model.encoder(data[0][:4].unflatten(0, (2, 2))).shape == (2, 1, 12, 16)
    base = model.base_model.state_dict()["embedding.weight"]
    assert torch.equal(model.encoder.embed.weight, base)  # which is not trained


@pytest.mark.parametrize("code", ["add", "keyed", "cells", "grid", "concat", "stack"])
def test_ids_are_not_added_up(code: str) -> None:
    with pytest.raises(ParityError, match="cannot be added up or resampled: take code='tokens'"):
        parity.protect(text(), sentences(), k=2, code=code, **QUIET)


def test_tokens_are_not_a_code_for_numbers() -> None:
    network = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(ParityError, match="one for ids of tokens, integers, and queries here are float32"):
        parity.protect(network, signals(10), k=2, code="tokens", **QUIET)
    with pytest.raises(ParityError, match=r"queries\.float\(\) where int64 does not stand for ids"):
        parity.protect(network, (signals(10)[0].long(), signals(10)[1]), k=2, **QUIET)


@torch.no_grad()
def test_a_dense_output_that_a_cell_cannot_have_is_refused() -> None:
    network, queries = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(2)), torch.randn(2, 1, 8, 8)
    of = Protectable(network, queries, network(queries), k=4, r=1)
    with pytest.raises(ParityError, match=r"cannot take cells of \(1, 4, 4\) \(it returns \(2, 3, 16\)"):
        choose("cells", of)
