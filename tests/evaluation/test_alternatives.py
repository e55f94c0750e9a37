"""Codes that need no training, evaluated; their accuracies counted again, query by query."""

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    BerrutDecoder,
    BerrutEncoder,
    NeRCCDecoder,
    NeRCCEncoder,
    ReplicationDecoder,
    ReplicationEncoder,
)
from parity.data import GroupSampler, TensorLoader
from parity.data.digits import DigitsDataModule
from parity.data.loaders import Scaling
from parity.errors import ParityError
from parity.evaluation import CodeEvaluation, evaluate_code
from parity.models import MLP
from parity.tasks import Classification

DEFAULT, QUERIES = 3, 101
TASK, DEFAULT_PREDICTION = Classification(10), torch.eye(10)[DEFAULT]
FREQUENCIES = (0.0, 0.1, 0.5, 1.0)
Q, P = (1, 8, 8), (10,)


class Counting(nn.Module):
    """A base model that counts the queries it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.answered = network, 0

    def forward(self, queries: Tensor) -> Tensor:
        self.answered += len(queries)
        return self.network(queries)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    return DigitsDataModule().load(train=False)


def trained(digits: tuple[Tensor, Tensor], hidden: int) -> nn.Module:
    """A network whose last layer is fitted by ridge regression, with more errors the fewer features it has."""
    network = MLP(Q, P, hidden=(hidden,))
    with torch.no_grad():
        features = nn.functional.pad(network.layers[:-1]((digits[0] / 16).flatten(1)), (0, 1), value=1.0)
        labels = nn.functional.one_hot(digits[1], 10).float()
        solution = torch.linalg.solve(features.T @ features + torch.eye(hidden + 1), features.T @ labels)
    network.layers[-1].load_state_dict({"weight": solution[:-1].T, "bias": solution[-1]})
    return network


@pytest.fixture(scope="module")
def networks(digits: tuple[Tensor, Tensor]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return trained(digits, 60), trained(digits, 20)


def loader(digits: tuple[Tensor, Tensor], k: int, batch_size: int = 7) -> TensorLoader:
    sampler = GroupSampler(torch.arange(QUERIES), k, batch_size, seed=0, shuffle=False)
    return TensorLoader(*digits, sampler, Scaling(16.0), "test")


class Evaluated(NamedTuple):
    evaluation: CodeEvaluation
    labels: Tensor  # (G, k)
    said: Tensor  # (G, k), of the base model
    by_backup: Tensor  # (G, k), of the smaller one
    asked: int  # queries that the base model answered


def evaluated(
    digits: tuple[Tensor, Tensor], networks: tuple[nn.Module, nn.Module], code: str, k: int, r: int
) -> Evaluated:
    base, smaller = Counting(networks[0]), networks[1]
    if code == "replication":
        model = CodedModel(base, ReplicationEncoder(k, r, Q), [], ReplicationDecoder(k, r, P))
    elif code == "backup":
        model = CodedModel(base, BackupEncoder(k, r, Q), [smaller] * k, BackupDecoder(k, r, P))
    elif code == "berrut":
        model = CodedModel(base, BerrutEncoder(k, r, Q), [], BerrutDecoder(k, r, P))
    else:
        model = CodedModel(base, NeRCCEncoder(k, r, Q), [], NeRCCDecoder(k, r, P))
    source = loader(digits, k)
    evaluation = evaluate_code(model, source, TASK, DEFAULT_PREDICTION)
    asked = base.answered
    indices = source.sampler.groups()
    queries = source.queries[indices].flatten(0, 1) / 16
    with torch.no_grad():
        said, by_backup = (network(queries).argmax(1).view(-1, k) for network in networks)
    return Evaluated(evaluation, source.targets[indices], said, by_backup, asked)


def expected_overall(case: Evaluated, k: int, n: int, f: float, told: Tensor) -> float:
    """A_o(f), by going through all patterns; ``told`` (G, k) is what stands in for a first output that is missing."""
    expected = 0.0
    for row in itertools.product((True, False), repeat=n):
        likelihood = f ** row.count(False) * (1 - f) ** row.count(True)
        for i in range(k):
            if row[i]:
                answers = case.said[:, i]
            elif any(row[i::k]):
                answers = told[:, i]
            else:
                answers = torch.full_like(case.said[:, i], DEFAULT)
            expected += likelihood * float((answers == case.labels[:, i]).double().mean()) / k
    return expected


@pytest.mark.parametrize(("k", "r"), [(1, 0), (3, 0), (1, 1), (3, 3), (2, 4), (5, 5)])
def test_replication_delivers_every_query_that_has_a_copy(
    digits: tuple, networks: tuple[nn.Module, nn.Module], k: int, r: int
) -> None:
    case = evaluated(digits, networks, "replication", k, r)
    evaluation, copies = case.evaluation, 1 + r // k
    assert 0.3 < evaluation.a_a < 1
    for f in FREQUENCIES:
        assert evaluation.overall_accuracy(f) == pytest.approx(expected_overall(case, k, k + r, f, case.said))
        formula = (1 - f**copies) * evaluation.a_a + f**copies * evaluation.floor
        assert evaluation.overall_accuracy(f) == pytest.approx(formula)


@pytest.mark.parametrize(("k", "r"), [(3, 3), (2, 4)])
def test_replication_loses_nothing_while_there_is_a_copy_of_each(
    digits: tuple, networks: tuple[nn.Module, nn.Module], k: int, r: int
) -> None:
    evaluation = evaluated(digits, networks, "replication", k, r).evaluation
    for erased in range(1, r // k + 1):
        assert evaluation.degraded(erased) == pytest.approx(evaluation.a_a)
        assert evaluation.degraded(erased, against="reconstruction") == 1
    with pytest.raises(ParityError, match=f"cannot rebuild every pattern of {1 + r // k} unavailable outputs"):
        evaluation.degraded(1 + r // k)
    assert list(evaluation.summary()["A_d"]) == [str(erased) for erased in range(1, r // k + 1)]


@pytest.mark.parametrize("copies", [2, 3])
def test_which_copy_counts_as_the_first_does_not_matter(
    digits: tuple, networks: tuple[nn.Module, nn.Module], copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    k, r = 2, 2 * (copies - 1)
    plain = evaluated(digits, networks, "replication", k, r).evaluation
    for hit in (
        lambda _, available: ~available[:, -k:],
        lambda _, available: ~available.unflatten(1, (copies, k)).all(1),
    ):
        monkeypatch.setattr(ReplicationDecoder, "rebuilt", hit)
        other = evaluated(digits, networks, "replication", k, r).evaluation
        for erased in range(1, copies):
            assert other.degraded(erased) == pytest.approx(plain.degraded(erased))
        for f in FREQUENCIES:
            assert other.overall_accuracy(f) == pytest.approx(plain.overall_accuracy(f))


def test_replication_beyond_what_all_patterns_can_be_gone_through(
    digits: tuple, networks: tuple[nn.Module, nn.Module]
) -> None:
    evaluation = evaluated(digits, networks, "replication", 8, 8).evaluation
    assert len(evaluation.patterns) < 2**14
    sampled, error = evaluation.overall_accuracy_with_error(0.2)
    assert 0 < error < 0.01
    assert sampled == pytest.approx(0.96 * evaluation.a_a + 0.04 * evaluation.floor, abs=4 * error)


def test_without_redundancy_there_is_no_degraded_mode(digits: tuple, networks: tuple[nn.Module, nn.Module]) -> None:
    evaluation = evaluated(digits, networks, "replication", 3, 0).evaluation
    summary = evaluation.summary((0.2,))
    assert (summary["r"], summary["A_d"]) == (0, {})
    assert summary["A_o"]["0.2"] == pytest.approx(0.8 * evaluation.a_a + 0.2 * evaluation.floor)
    with pytest.raises(ParityError, match="cannot rebuild every pattern of 1 unavailable outputs"):
        evaluation.degraded(1)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_backup_answers_as_well_as_the_smaller_network(
    digits: tuple, networks: tuple[nn.Module, nn.Module], k: int
) -> None:
    case = evaluated(digits, networks, "backup", k, k)
    right = float((case.by_backup == case.labels).double().mean())
    assert 0.2 < right < case.evaluation.a_a - 0.05
    assert case.evaluation.degraded(1) == pytest.approx(right)
    agreed = float((case.by_backup == case.said).double().mean())
    assert case.evaluation.degraded(1, against="reconstruction") == pytest.approx(agreed)
    for f in FREQUENCIES:
        expected = expected_overall(case, k, 2 * k, f, case.by_backup)
        assert case.evaluation.overall_accuracy(f) == pytest.approx(expected)
    assert list(case.evaluation.summary()["A_d"]) == ["1"]


@pytest.mark.parametrize("code", ["berrut", "nercc"])
@pytest.mark.parametrize(("k", "r"), [(2, 1), (3, 2)])
def test_interpolation_is_counted_over_all_k_predictions(
    digits: tuple, networks: tuple[nn.Module, nn.Module], code: str, k: int, r: int
) -> None:
    case = evaluated(digits, networks, code, k, r)
    evaluation, n = case.evaluation, k + r
    encoder = {"berrut": BerrutEncoder, "nercc": NeRCCEncoder}[code](k, r, Q)
    decoder = {"berrut": BerrutDecoder, "nercc": NeRCCDecoder}[code](k, r, P)
    source = loader(digits, k)
    queries = source.queries[source.sampler.groups()] / 16
    with torch.no_grad():
        outputs = torch.stack([networks[0](coded) for coded in encoder(queries).unbind(1)], 1)

    def right(row: Tensor, truth: Tensor) -> float:
        rebuilt = torch.einsum("ki,gip->gkp", decoder.matrices(row[None])[0], outputs)
        return float((rebuilt.argmax(-1) == truth).double().mean())

    rows = torch.tensor(list(itertools.product((True, False), repeat=n)))
    for erased in range(1, r + 1):
        chosen = rows[(~rows).sum(1) == erased]
        for against, truth in (("overall", case.labels), ("reconstruction", case.said)):
            expected = sum(right(row, truth) for row in chosen) / len(chosen)
            assert evaluation.degraded(erased, against=against) == pytest.approx(expected)
    for f in FREQUENCIES:
        expected = sum(
            f ** int((~row).sum())
            * (1 - f) ** int(row.sum())
            * (right(row, case.labels) if int(row.sum()) >= k else evaluation.floor)
            for row in rows
        )
        assert evaluation.overall_accuracy(f) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("code", "k", "r", "queries"),
    [("replication", 3, 0, 3), ("replication", 3, 6, 3), ("backup", 3, 3, 3), ("berrut", 3, 2, 3 + 5)],
)
def test_the_base_model_answers_each_query_of_a_group_once(
    digits: tuple, networks: tuple[nn.Module, nn.Module], code: str, k: int, r: int, queries: int
) -> None:
    case = evaluated(digits, networks, code, k, r)
    assert case.asked == queries * case.evaluation.groups
