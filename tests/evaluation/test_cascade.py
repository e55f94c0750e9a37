"""A smaller network that answers first: what it costs, and what users get, counted again one query at a time."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parity import evaluate
from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder
from parity.data import GroupSampler, TensorLoader
from parity.data.digits import DigitsDataModule
from parity.data.loaders import Scaling
from parity.evaluation.cascade import LOST, Answers
from parity.evaluation.costs import multiply_adds
from parity.models import MLP
from parity.tasks import Classification

Q, P = (1, 8, 8), (10,)
FREQUENCIES = (0.0, 0.05, 0.3)
DEFAULT = 3


def fitted(queries: Tensor, targets: Tensor, hidden: int) -> nn.Module:
    """A network whose last layer is fitted by ridge regression; its logits are made large, so that it may be sure."""
    network = MLP(Q, P, hidden=(hidden,))
    with torch.no_grad():
        features = nn.functional.pad(network.layers[:-1](queries.flatten(1)), (0, 1), value=1.0)
        labels = nn.functional.one_hot(targets, 10).float()
        solution = 8 * torch.linalg.solve(features.T @ features + torch.eye(hidden + 1), features.T @ labels)
    network.layers[-1].load_state_dict({"weight": solution[:-1].T, "bias": solution[-1]})
    return network.eval()


def coded(base: nn.Module) -> CodedModel:
    return CodedModel(base, BerrutEncoder(2, 1, Q), [], BerrutDecoder(2, 1, P))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Two networks, data in three parts, and the rows of a comparison."""
    torch.manual_seed(0)
    queries, targets = DigitsDataModule().load(train=True)
    queries = queries / 16
    base, smaller = (fitted(queries[:600], targets[:600], hidden) for hidden in (200, 60))
    validation, test = (queries[600:1001], targets[600:1001]), (queries[1001:], targets[1001:])
    compared = evaluate(
        coded(base), test, val_data=validation, backup=smaller, ks=(2, 4), unavailable=FREQUENCIES, timed=False,
        default_class=DEFAULT,
    ).results  # fmt: skip
    rows = {(code["name"], code["k"]): code for code in compared["codes"]}
    return {"base": base, "smaller": smaller, "validation": validation, "test": test, "rows": rows}


def predictions(network: nn.Module, queries: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits = network(queries).double()
    return logits.argmax(1), logits.softmax(1).amax(1)


def threshold(found: dict[str, Any]) -> float:
    """The lowest one that loses at most 0.1 points on validation data, by trying all."""
    queries, targets = found["validation"]
    by_base = predictions(found["base"], queries)[0] == targets
    by_smaller, sure = predictions(found["smaller"], queries)
    fits = []
    for least in sure.unique():
        right = torch.where(sure >= least, by_smaller == targets, by_base)
        if by_base.double().mean() - right.double().mean() <= LOST + 1e-12:
            fits.append(float(least))
    return min(fits)


def test_a_cascade_answers_most_alone_for_little(found: dict[str, Any]) -> None:
    row, least = found["rows"]["cascade", 2], threshold(found)
    queries, targets = found["test"]
    sure = predictions(found["smaller"], queries)[1]
    share = float((sure >= least).double().mean())
    assert 0.3 < share < 1
    assert row["answers_first"] == pytest.approx(share)
    cost = multiply_adds(found["smaller"], queries[:1]) / multiply_adds(found["base"], queries[:1])
    assert row["extra_multiply_adds"] == pytest.approx(cost + (1 - share) - 1)
    assert row["extra_workers"] == row["extra_bytes_up"] == row["extra_bytes_down"] == pytest.approx(1 - share)
    by_base, by_smaller = (predictions(found[name], queries)[0] for name in ("base", "smaller"))
    users = torch.where(sure >= least, by_smaller, by_base)
    lost = float((by_base == targets).double().mean() - (users == targets).double().mean())
    assert row["without_faults"]["value"] == pytest.approx(lost)
    assert row["without_faults"]["low"] <= lost <= row["without_faults"]["high"]
    assert f"{share:.0%} of queries alone" in row["about"]


@pytest.mark.parametrize("k", [2, 4])
def test_what_users_get_counted_pattern_by_pattern(found: dict[str, Any], k: int) -> None:
    row, least = found["rows"]["cascade", k], threshold(found)
    queries, targets = found["test"]
    by_base = predictions(found["base"], queries)[0]
    by_smaller, sure = predictions(found["smaller"], queries)
    for f in FREQUENCIES:
        expected = 0.0
        for base_is_there, smaller_is_there in itertools.product((True, False), repeat=2):
            weight = math.prod(1 - f if there else f for there in (base_is_there, smaller_is_there))
            users = torch.full_like(targets, DEFAULT)
            if smaller_is_there:
                users = by_smaller
            if base_is_there:
                users = torch.where(sure >= least, by_smaller, by_base) if smaller_is_there else by_base
            expected += weight * float((users == targets).double().mean())
        assert row["A_o"][f"{f:g}"]["value"] == pytest.approx(expected)
    backup = found["rows"]["cheaper backup", k]
    assert (row["A_d"], row["loss"]) == (backup["A_d"], backup["loss"])
    assert row["extra_multiply_adds"] < backup["extra_multiply_adds"]
    for f in FREQUENCIES[1:]:
        users = row["A_o"][f"{f:g}"]
        assert max(users["slow"], users["together"]) < users["value"]


def test_without_validation_data_there_is_no_cascade(found: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    queries, targets = found["test"]
    compared = evaluate(coded(found["base"]), (queries, targets), backup=found["smaller"], timed=False).results
    assert [code["name"] for code in compared["codes"]][1:] == ["cheaper backup"]
    assert "the cascade is left out: its threshold is chosen on validation data" in caplog.text


def test_measured_on_validation_data_there_is_no_cascade(
    found: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = DigitsDataModule(num_validation=300)
    compared = evaluate(coded(found["base"]), data, backup=found["smaller"], split="val", timed=False).results
    assert [code["name"] for code in compared["codes"]][1:] == ["cheaper backup"]
    compared = evaluate(
        coded(found["base"]), DigitsDataModule(num_validation=0), backup=found["smaller"], timed=False
    ).results
    assert [code["name"] for code in compared["codes"]][1:] == ["cheaper backup"]
    assert caplog.text.count("the cascade is left out") == 2


def test_what_is_nan_is_never_answered_first() -> None:
    class Sometimes(nn.Module):
        def forward(self, queries: Tensor) -> Tensor:
            logits = 9 * nn.functional.one_hot(queries[:, 0].long(), 3).float()
            return logits.masked_fill((queries[:, :1] == 0), torch.nan)

    class Right(nn.Module):
        def forward(self, queries: Tensor) -> Tensor:
            return nn.functional.one_hot(queries[:, 0].long(), 3).float()

    queries = torch.arange(30.0).remainder(3)[:, None]
    sampler = GroupSampler(torch.arange(30), 1, 8, seed=0, shuffle=False)
    loader = TensorLoader(queries, queries[:, 0].long(), sampler, Scaling(1.0), "val")
    answers = Answers.of(Sometimes().eval(), Right().eval(), loader, Classification(3), torch.eye(3)[1])
    lost = answers.sure < 0
    assert lost.sum() == 10
    assert torch.equal(answers.first, (~lost).double())
    assert answers.base.sum() == 30
    assert torch.equal(answers.sure >= answers.threshold(), ~lost)


def test_one_that_is_never_right_answers_nothing() -> None:
    sure, wrong = torch.rand(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    assert Answers(sure, wrong, 1 - wrong, wrong).threshold() == math.inf


def test_queries_that_it_is_equally_sure_of_are_answered_together() -> None:
    sure = torch.tensor([0.9, 0.9, 0.5, 0.5], dtype=torch.float64)
    first = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert Answers(sure, first, torch.ones(4, dtype=torch.float64), 0 * sure).threshold() == 0.9
