"""What workers do in measurements: they predict, and take the time that they should."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from parity.errors import ParityError
from parity.serving.load import linear_networks
from parity.serving.measuring import workers
from parity.serving.measuring.services import Networks, service
from parity.serving.measuring.workers import Computing, Sleeping
from parity.serving.simulation import Setting, arms


def test_a_sleeping_worker_predicts_and_sleeps_for_a_lognormal_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(workers.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(workers.time, "sleep", slept.append)
    network = nn.Linear(3, 2)
    sleeping = Sleeping(network, service=0.1, sigma=0.05, seed=0)
    queries = torch.randn(4, 3)
    for _ in range(2000):
        torch.testing.assert_close(sleeping(queries), network(queries))
    assert np.mean(slept) == pytest.approx(0.1, rel=0.01)
    assert np.std(np.log(slept)) == pytest.approx(0.05, rel=0.1)


def test_a_sleeping_worker_can_be_sent_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(Sleeping(nn.Linear(3, 2), service=1e-6)))
    assert copy(torch.zeros(1, 3)).shape == (1, 2)


def test_computing_does_not_change_the_prediction() -> None:
    network = nn.Linear(3, 2)
    queries = torch.randn(4, 3)
    torch.testing.assert_close(Computing(network, width=16, layers=2)(queries), network(queries))


def test_times_out_of_range_are_refused() -> None:
    with pytest.raises(ParityError, match="service must be more than 0"):
        Sleeping(nn.Identity(), service=0.0)


@pytest.mark.parametrize("name", list(arms(Setting())))
def test_every_arm_has_the_workers_of_the_simulated_one(name: str) -> None:
    arm = arms(Setting(workers=4, k=2))[name]
    costs: list[float] = []

    def wrap(network: nn.Module, cost: float) -> nn.Module:
        costs.append(cost)
        return network

    model, pool = service("threads", name, arm, Networks(linear_networks(2, 1)), wrap)
    assert [worker.pool for worker in pool.health()].count(0) == arm.workers[0]
    assert len(pool.health()) == sum(arm.workers)
    assert (model.k, model.n, model.encoder.systematic) == (arm.code.k, arm.code.n, arm.code.systematic)
    assert costs == [arm.cost(index) for index in range(len(arm.workers))]


def test_a_code_of_another_size_is_refused() -> None:
    with pytest.raises(ParityError, match="k = 2 and n = 3"):
        Networks(linear_networks(2, 1)).of("coded", arms(Setting(workers=4, k=4))["coded"])
