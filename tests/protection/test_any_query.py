"""One call for queries that are not images: signals, volumes, tables, sequences of ids, and their embeddings."""

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.errors import ParityError
from parity.models import TextTransformer
from parity.protection.codes import Protectable, choose

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


def test_tables_are_protected_by_stacked_rows() -> None:
    network = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
    result = parity.protect(network, signals(10), k=4, **QUIET)
    assert result.code == "stack"
    (parity_model,) = result.coded_model.parity_models
    assert parity_model(torch.rand(2, 40)).shape == (2, 4, 3)


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
