"""Coded models taken apart for the core: what is asked of whom, and rebuilt as ``CodedModel`` itself would."""

import pytest
import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    BerrutDecoder,
    BerrutEncoder,
    CombiningDecoder,
    GridEncoder,
    LinearDecoder,
    LinearEncoder,
    ReplicationDecoder,
    ReplicationEncoder,
)
from parity.errors import ParityError
from parity.serving.commands import BASE
from parity.serving.model_code import ModelCode, pool_sizes

QUERY, PREDICTION = (1, 4, 4), (3,)


def network(outputs: int = 3, *shape: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs), nn.Tanh(), nn.Unflatten(1, shape or (outputs,)))


def coded_models() -> dict[str, CodedModel]:
    """Return a coded model of each kind, untrained."""
    base = network()
    return {
        "linear": CodedModel(base, LinearEncoder(2, 1, QUERY), [network()], LinearDecoder(2, 1, PREDICTION)),
        "linear_r2": CodedModel(
            base, LinearEncoder(3, 2, QUERY), [network(), network()], LinearDecoder(3, 2, PREDICTION)
        ),
        "grid": CodedModel(base, GridEncoder(4, 1, QUERY), [network(12, 4, 3)], CombiningDecoder(4, 1, PREDICTION)),
        "berrut": CodedModel(base, BerrutEncoder(3, 2, QUERY), [], BerrutDecoder(3, 2, PREDICTION)),
        "replication": CodedModel(base, ReplicationEncoder(2, 2, QUERY), [], ReplicationDecoder(2, 2, PREDICTION)),
        "backup": CodedModel(base, BackupEncoder(2, 2, QUERY), [network()] * 2, BackupDecoder(2, 2, PREDICTION)),
        "uncoded": CodedModel(base, ReplicationEncoder(1, 0, QUERY), [], ReplicationDecoder(1, 0, PREDICTION)),
    }


@pytest.mark.parametrize("name", coded_models())
def test_what_is_rebuilt_is_what_the_coded_model_rebuilds(name: str) -> None:
    model = coded_models()[name].eval()
    code, work = ModelCode(model), [model.base_model, *model.parity_models]
    queries = [torch.randn(QUERY) for _ in range(code.k)]
    coded = [*(queries if code.systematic else []), *code.encode(queries)]
    assert len(coded) == code.n
    with torch.inference_mode():
        outputs = {worker: work[code.pool(worker)](asked[None])[0] for worker, asked in enumerate(coded)}
    for lost in range(code.n):
        arrived = {worker: output for worker, output in outputs.items() if worker != lost}
        if code.rebuildable(arrived.keys()) != frozenset(range(code.k)):
            continue
        available = torch.tensor([[worker != lost for worker in range(code.n)]])
        with torch.inference_mode():
            expected = model(torch.stack(queries)[None], available)[0]
        torch.testing.assert_close(torch.stack(code.decode(arrived)), expected)


def test_a_backup_rebuilds_a_query_whose_neighbour_has_lost_both_outputs() -> None:
    model = coded_models()["backup"]
    code, work = ModelCode(model), [model.base_model, *model.parity_models]
    backup = work[1](torch.randn(1, *QUERY))[0]
    assert code.rebuildable({2}) == {0}
    assert code.decode({2: backup})[0].equal(backup)


def test_parity_models_have_pools_of_their_own_and_non_systematic_codes_have_none() -> None:
    models = coded_models()
    assert [ModelCode(models["linear_r2"]).pool(worker) for worker in range(5)] == [BASE, BASE, BASE, 1, 2]
    assert {ModelCode(models["berrut"]).pool(worker) for worker in range(5)} == {BASE}


def test_parity_pools_have_a_kth_of_the_base_workers_rounded_up() -> None:
    assert pool_sizes(coded_models()["linear_r2"], 8) == [8, 3, 3]
    assert pool_sizes(coded_models()["berrut"], 8) == [8]
    with pytest.raises(ParityError, match="at least 1 worker"):
        pool_sizes(coded_models()["linear"], 0)
