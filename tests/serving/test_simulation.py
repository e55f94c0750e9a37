"""Simulated services: what queueing theory and arithmetic require, and what the policies are for."""

import argparse
import logging
import math

import pytest

from parity.errors import ParityError
from parity.serving import simulate as command
from parity.serving.commands import Reason, Source
from parity.serving.policy import Policy
from parity.serving.simulation import Arm, Cluster, CountingCode, Result, simulate

UNCODED = CountingCode(1, 0)


def arguments(*options: str) -> argparse.Namespace:
    return command.get_parser().parse_args(options)


def simulated(*options: str) -> dict[str, Result]:
    """Simulate as the command line does, with fewer queries."""
    args = arguments("--queries", "4000", *options)
    cluster = Cluster(fault=args.fault)
    rate = args.load * args.workers / args.service
    return {
        name: simulate(arm, cluster, rate, args.queries)
        for name, arm in command.chosen(args.policies, command.arms(args)).items()
    }


def test_a_worker_that_is_never_waited_for_takes_its_service_time() -> None:
    arm = Arm(Policy(deadline=math.inf), UNCODED, (1000,))
    result = simulate(arm, Cluster(service=2.0, sigma=0), rate=1, queries=500)
    assert result.latencies == pytest.approx([2.0] * 500)
    assert result.work_per_query == pytest.approx(1)
    assert result.share(Source.OWN) == 1


def test_one_worker_with_constant_service_waits_as_long_as_pollaczek_and_khinchine_have_it() -> None:
    """M/D/1 at load 0.5: the mean wait is rho / (2 (1 - rho)) = 0.5 service times."""
    arm = Arm(Policy(deadline=math.inf, most_waiting=10**6), UNCODED, (1,))
    result = simulate(arm, Cluster(service=1.0, sigma=0), rate=0.5, queries=40_000)
    assert sum(result.latencies) / len(result.latencies) == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize("fault", ["slow", "frozen"])
def test_with_as_many_workers_coded_service_beats_hedging_and_no_redundancy_when_one_worker_is_late(fault: str) -> None:
    results = simulated("--fault", fault, "--policies", "equal", "hedged", "coded")
    p99 = {name: result.percentile(99) for name, result in results.items()}
    assert p99["coded"] < 0.85 * p99["hedged"] < p99["hedged"] < p99["equal"]
    assert results["coded"].percentile(99) <= 2 * results["coded"].percentile(50)


def test_without_faults_patience_leaves_almost_nothing_to_be_rebuilt_and_no_patience_much() -> None:
    patient = simulated("--policies", "coded")["coded"]
    hasty = simulated("--policies", "coded", "--patience", "0")["coded"]
    assert patient.share(Source.REBUILT) < 0.01
    assert hasty.share(Source.REBUILT) > 0.1


def test_work_per_query_is_what_redundancy_costs() -> None:
    results = simulated("--group_timeout", "100", "--k", "4")
    work = {name: round(result.work_per_query, 2) for name, result in results.items()}
    assert work["none"] == work["equal"] == 1
    assert work["coded"] == work["nonsystematic"] == work["backup"] == 1.25
    assert 1.9 <= work["replicated"] <= 2  # a copy is taken out of the queue when the other is answered
    assert work["hedged"] <= 1.1


def test_every_query_is_counted_once() -> None:
    for result in simulated("--fault", "frozen", "--deadline", "0.15", "--most_waiting", "9", "--load", "0.9").values():
        assert result.sources.total() + result.failures.total() == result.queries
        assert len(result.latencies) == result.sources.total()
        assert max(result.latencies) <= 0.15 + 1e-9
        assert set(result.failures) <= {Reason.LATE, Reason.REFUSED}


def test_overload_is_refused_and_what_is_accepted_stays_fast() -> None:
    result = simulated("--load", "2", "--most_waiting", "16", "--policies", "none")["none"]
    assert result.failures[Reason.REFUSED] / result.queries == pytest.approx(0.5, abs=0.05)
    assert result.percentile(99) < 0.3


def test_all_policies_meet_the_same_queries_and_a_seed_repeats_them() -> None:
    first, second = (simulated("--fault", "slow", "--policies", "coded")["coded"] for _ in range(2))
    assert first == second
    light = {name: simulate(arm, Cluster(sigma=0), 0.1, 50) for name, arm in command.arms(arguments()).items()}
    assert light["none"].latencies == pytest.approx(light["equal"].latencies)


def test_all_policies_but_none_have_the_same_number_of_workers() -> None:
    arms = command.arms(arguments("--workers", "12", "--k", "4", "--r", "2"))
    assert {name: sum(arm.workers) for name, arm in arms.items()} == dict.fromkeys(arms, 18) | {"none": 12}


def test_the_command_line_prints_a_line_for_each_policy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parity")
    command.main(arguments("--queries", "200", "--policies", "none", "coded"))
    assert [message.split()[0] for message in caplog.messages] == ["policy", "none", "coded"]
    assert len({len(message) for message in caplog.messages}) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--k", "3"], "k must divide"),
        (["--policies", "codde"], "did you mean 'coded'"),
        (["--queries", "0"], "queries and a rate above 0"),
        (["--load", "0"], "rate above 0"),
        (["--service", "0"], "service must be"),
        (["--hedge_delay", "-1"], "hedge_delay must be"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(options: list[str], problem: str) -> None:
    with pytest.raises(ParityError, match=problem):
        command.main(arguments(*options))
