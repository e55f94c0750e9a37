"""Services beside each other: same queries, same faults, and what users got is judged by true labels."""

import asyncio

import pytest
import torch
from torch import Tensor

from parity.serving import Source
from parity.serving.disturbances import Frozen
from parity.serving.load import linear_networks
from parity.serving.measuring.contest import Contender, Load, Outcome, apart, at_once, in_turn
from parity.serving.measuring.services import Networks, service
from parity.serving.measuring.workers import Sleeping
from parity.serving.simulation import Setting, arms

SETTING = Setting(workers=2, k=2, service=0.002, patience=25.0, group_timeout=5.0)


def contenders(networks: Networks, *names: str) -> dict[str, Contender]:
    found = {}
    for name in names:
        arm = arms(SETTING)[name]
        model, pool = service("threads", name, arm, networks, lambda network, cost: Sleeping(network, 0.002 * cost))
        found[name] = Contender(model, arm.policy, pool, arm.costs)
    return found


def queries_and_labels(networks: Networks) -> tuple[Tensor, Tensor]:
    queries = torch.randn(20, *networks.coded.encoder.query_shape)
    return queries, networks.coded.base_model(queries).argmax(1)


@pytest.mark.parametrize("run", [at_once, in_turn])
def test_every_contender_answers_every_query_rightly(run: object) -> None:
    networks = Networks(linear_networks(2, 1))
    queries, labels = queries_and_labels(networks)
    services = contenders(networks, "none", "coded")
    outcomes = {name: Outcome() for name in services}
    assert callable(run)
    asyncio.run(run(services, Load(queries, [i / 200 for i in range(40)], labels), outcomes))
    for outcome in outcomes.values():
        assert outcome.record.all.count == 40
        assert outcome.summary()["accuracy"] == 1.0
    assert outcomes["none"].work == pytest.approx(1.0)
    assert outcomes["coded"].work == pytest.approx(1.5, abs=0.2)


def test_a_wrong_prediction_counts_as_wrong() -> None:
    networks = Networks(linear_networks(2, 1))
    queries, labels = queries_and_labels(networks)
    services, outcomes = contenders(networks, "none"), {"none": Outcome()}
    wrong = labels.clone()
    wrong[:5] = 1 - wrong[:5]
    asyncio.run(at_once(services, Load(queries, [0.0] * 20, wrong), outcomes))
    assert outcomes["none"].summary()["accuracy"] == 0.75
    assert outcomes["none"].right[Source.OWN] == 15


def test_a_frozen_workers_queries_are_rebuilt_where_the_service_is_coded() -> None:
    networks = Networks(linear_networks(2, 1))
    queries, _ = queries_and_labels(networks)
    services = contenders(networks, "coded")
    outcomes = {"coded": Outcome()}
    frozen = Frozen(faulty=1, every=10.0, freeze=10.0)  # with this seed, a worker of the base pool
    asyncio.run(at_once(services, Load(queries, [i / 100 for i in range(30)], None, frozen, seed=1), outcomes))
    assert outcomes["coded"].record.share(Source.REBUILT) > 0
    assert outcomes["coded"].record.all.max < 5


def contender(name: str) -> Contender:
    """Make a contender, in whichever process."""
    return contenders(Networks(linear_networks(2, 1)), name)[name]


def test_contenders_in_processes_of_their_own_are_asked_the_same() -> None:
    queries = torch.randn(20, *linear_networks(2, 1).encoder.query_shape)
    outcomes = apart(contender, ["none", "coded"], Load(queries, [i / 200 for i in range(40)]))
    assert {name: outcome.record.all.count for name, outcome in outcomes.items()} == {"none": 40, "coded": 40}


def test_one_that_cannot_be_made_ends_the_contest_with_its_error() -> None:
    with pytest.raises(KeyError, match="codde"):
        apart(contender, ["none", "codde"], Load(torch.zeros(1, 8), [0.0]))
