"""Simulated services: what queueing theory and arithmetic require, and what the policies are for."""

import argparse
import itertools
import logging
import math
import os
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from parity.errors import ParityError
from parity.serving import simulate as command
from parity.serving.commands import Reason, Source
from parity.serving.disturbances import Damaged, Frozen, Killed, Lost, Slow, Tenant, Transfers
from parity.serving.policy import Policy
from parity.serving.simulation import (
    Arm,
    Cluster,
    CountingCode,
    Lognormal,
    Result,
    Setting,
    Trace,
    arms,
    choice,
    simulate,
    sweep,
    tuned_hedge_delay,
)

UNCODED = CountingCode(1, 0)


def arguments(*options: str) -> argparse.Namespace:
    return command.get_parser().parse_args(options)


def simulated(*options: str) -> dict[str, Result]:
    """Simulate as the command line does, with fewer queries."""
    args = arguments("--queries", "4000", *options)
    (cell,) = command.cells(args)
    return {
        name: simulate(arm, cell.cluster, cell.rate, args.queries)
        for name, arm in arms(cell.setting).items()
        if args.policies is None or name in args.policies
    }


def test_a_worker_that_is_never_waited_for_takes_its_service_time() -> None:
    arm = Arm(Policy(deadline=math.inf), UNCODED, (1000,))
    result = simulate(arm, Cluster(Lognormal(2.0, sigma=0)), rate=1, queries=500)
    assert result.latencies == pytest.approx([2.0] * 500)
    assert result.work_per_query == pytest.approx(1)
    assert result.share(Source.OWN) == 1


def test_one_worker_with_constant_service_waits_as_long_as_pollaczek_and_khinchine_have_it() -> None:
    """M/D/1 at load 0.5: the mean wait is rho / (2 (1 - rho)) = 0.5 service times."""
    arm = Arm(Policy(deadline=math.inf, most_waiting=10**6), UNCODED, (1,))
    result = simulate(arm, Cluster(Lognormal(1.0, sigma=0)), rate=0.5, queries=40_000)
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
    for result in simulated("--fault", "frozen", "--deadline", "1.5", "--most_waiting", "9", "--load", "0.9").values():
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
    light = {name: simulate(arm, Cluster(Lognormal(sigma=0)), 0.1, 50) for name, arm in arms(Setting()).items()}
    assert light["none"].latencies == pytest.approx(light["equal"].latencies)


def test_all_policies_but_none_have_the_same_number_of_workers() -> None:
    known = arms(Setting(workers=12, k=4, r=2))
    assert {name: sum(arm.workers) for name, arm in known.items()} == dict.fromkeys(known, 18) | {"none": 12}


def test_the_command_line_prints_a_line_for_each_policy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parity")
    command.main(arguments("--queries", "200", "--policies", "none", "coded"))
    lines = caplog.messages[-3:]
    assert [line.split()[0] for line in lines] == ["policy", "none", "coded"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--k", "3"], "k must divide"),
        (["--policies", "codde"], "did you mean 'coded'"),
        (["--queries", "0"], "queries and a rate above 0"),
        (["--load", "0"], "rate above 0"),
        (["--service", "0"], "service must be"),
        (["--hedge_delay", "-1"], "hedge_delay must be"),
        (["--fault", "slow", "--every", "0"], "every must be more than 0"),
        (["--seeds", "0"], "seeds and jobs must be at least 1"),
        (["--trace", "none.json"], "there is no trace none.json"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(options: list[str], problem: str) -> None:
    with pytest.raises(ParityError, match=problem):
        command.main(arguments(*options))


def test_a_file_that_is_not_a_trace_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_text('{"seconds": [[1, ' + "9" * 400 + "]]}")
    (tmp_path / "flat").write_text('{"seconds": [1, 2]}')
    (tmp_path / "deep").write_text("[" * 200_000)
    for name, problem in (
        ("pipe", "it is not a file"),
        ("huge", "'seconds'"),
        ("flat", "'seconds'"),
        ("deep", "damaged"),
    ):
        with pytest.raises(ParityError, match=problem):
            command.main(arguments("--trace", str(tmp_path / name)))


def test_each_cell_of_a_sweep_is_simulated_with_each_seed_and_saved_with_figures_and_the_table(tmp_path: Path) -> None:
    short = ("--queries", "300", "--policies", "coded", "hedged", "--hedge_delay", "1.1", "--seeds", "2")
    command.main(arguments(*short, "--load", "0.3", "0.6", "--k", "2", "4", "--fault", "slow", "--save", str(tmp_path)))
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert len(rows) == len(rows[[*sweep.CELL, "policy", "seed"]].drop_duplicates()) == 16
    assert {path.suffix for path in tmp_path.glob("m8_k4_r1_slow_1.*")} == {".png", ".svg"}
    table = (tmp_path / "choice.md").read_text()
    assert table.count("| m = 8, k = 2, r = 1, slow (1) |") == 2
    assert "k = 4, r = 1, slow (1): lower p99.9 with every seed: " in table


def test_processes_simulate_what_one_does() -> None:
    plan = sweep.Sweep(("coded",), 200, (0, 1))
    grid = command.cells(arguments("--load", "0.4", "0.6"))
    assert sweep.run(plan, grid, jobs=2) == sweep.run(plan, grid)


def test_the_rule_names_the_loads_at_which_every_seed_agrees() -> None:
    latencies = {("coded", 0.5): (1, 2), ("hedged", 0.5): (3, 3), ("coded", 0.7): (1, 4), ("hedged", 0.7): (2, 2)}
    rows = [
        dict(workers=8, k=2, r=1, fault="slow", faulty=1, load=load, policy=policy, seed=seed, p99=p99)
        for (policy, load), values in latencies.items()
        for seed, p99 in enumerate(values)
    ]
    sentence = "m = 8, k = 2, r = 1, slow (1): lower p99 with every seed: coded at 50%; undecided at 70% load."
    assert list(choice.rule(sweep.table(rows), "p99")) == [sentence]


def test_a_tuned_hedge_delay_is_the_candidate_with_the_lowest_latency_on_other_seeds() -> None:
    setting, cluster = Setting(workers=8), Cluster(disturbance=Slow())
    found = tuned_hedge_delay(setting, cluster, rate=40, queries=1500, runs=1, delays=(0.5, 1.2, 4.0))
    assert found == 1.2  # 0.5 spends the budget on queries that are not late


def test_measured_times_are_drawn_of_each_pool_and_survive_the_file(tmp_path: Path) -> None:
    trace = Trace(((1.0,), (3.0,)))
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace
    result = simulate(Arm(Policy(deadline=math.inf), UNCODED, (50,)), Cluster(trace), rate=1, queries=100)
    assert result.latencies == pytest.approx([1.0] * 100)
    coded = Arm(Policy(deadline=math.inf, group_timeout=math.inf), CountingCode(2, 1), (50, 50))
    assert simulate(coded, Cluster(trace), rate=1, queries=100).work_per_query == pytest.approx(1 + 3 / 2)


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": [[0]]}', '{"seconds": [[]]}', '{"seconds": [["x"]]}'])
def test_a_file_that_is_not_a_trace_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "trace.json").write_text(text)
    with pytest.raises(ParityError, match="trace"):
        Trace.load(tmp_path / "trace.json")


def test_a_killed_workers_task_is_sent_again_and_the_worker_comes_back() -> None:
    policy = Policy(deadline=math.inf, retries=100)
    killed = Cluster(Lognormal(1.0, sigma=0), Killed(faulty=1, every=10.5, restart=2.0))
    result = simulate(Arm(policy, UNCODED, (1,)), killed, rate=0.3, queries=400)
    assert result.sources.total() == 400
    assert result.work_per_query == pytest.approx(1.13, abs=0.05)  # 0.4 of a task is lost for each 3.15 queries
    without = simulate(Arm(Policy(deadline=math.inf), UNCODED, (1,)), replace(killed, disturbance=None), 0.3, 400)
    assert result.percentile(99) > without.percentile(99) + 1


def test_an_answer_that_is_lost_is_rebuilt_and_one_that_is_damaged_asked_for_again() -> None:
    arm = Arm(Policy(deadline=20.0, patience=2.5, group_timeout=0.1), CountingCode(2, 1), (8, 4))
    lost, damaged = (
        simulate(arm, Cluster(Lognormal(1.0, sigma=0), fault(every=3.1)), rate=1.0, queries=200)
        for fault in (Lost, Damaged)
    )
    assert lost.share(Source.REBUILT) > 0.1
    assert set(lost.failures) == {Reason.LATE}  # all outputs of some groups are lost
    assert damaged.share(Source.REBUILT) < 0.05
    assert damaged.sources.total() == 200
    assert damaged.work_per_query > lost.work_per_query


def test_a_positional_code_needs_no_other_own_answer() -> None:
    code = CountingCode(4, 1, needed=1)
    assert [len(code.rebuildable(arrived)) for arrived in ({4}, {0, 1}, {0, 1, 2, 3}, set())] == [4, 0, 4, 0]


class Noted:
    """Workers that note what is done to them."""

    def __init__(self, count: int) -> None:
        self.factors, self.shared = [1.0] * count, dict[int, float]()

    def __len__(self) -> int:
        return len(self.factors)

    def slow(self, worker: int, factor: float) -> None:
        self.factors[worker] = factor

    def share(self, worker: int, load: float) -> None:
        self.shared[worker] = load

    def freeze(self, now: float, worker: int, until: float) -> None: ...

    def kill(self, now: float, worker: int, until: float) -> None: ...

    def lose(self, worker: int) -> None: ...

    def damage(self, worker: int) -> None: ...


def test_transfers_slow_random_pairs_and_always_as_many_are_running() -> None:
    workers, last = Noted(12), -1.0
    resumed = Transfers(faulty=3, bandwidth=128.0, factor=2.0).disturb(workers, random.Random(0))
    for now in itertools.islice(resumed, 3, 60):
        assert sum(factor - 1 for factor in workers.factors) == pytest.approx(6)
        assert last <= now <= last + 2 or last < 0
        last = now


def test_a_tenant_takes_its_share_of_a_ninth_of_the_workers() -> None:
    workers = Noted(18)
    next(Tenant(load=0.05).disturb(workers, random.Random(0)))
    assert list(workers.shared.values()) == [0.05] * 2
    shared = Cluster(Lognormal(1.0, sigma=0), Tenant(faulty=1, load=0.05))
    result = simulate(Arm(Policy(deadline=math.inf), UNCODED, (1,)), shared, rate=0.01, queries=2000)
    assert sum(latency > 1.5 for latency in result.latencies) / 2000 == pytest.approx(0.1, abs=0.02)


def test_slow_workers_are_as_many_as_asked_for_and_well_again_when_others_are_drawn() -> None:
    workers = Noted(40)
    for _ in itertools.islice(Slow(faulty=0.1).disturb(workers, random.Random(0)), 5):
        assert sorted(workers.factors) == [1.0] * 36 + [8.0] * 4


def test_a_frozen_worker_takes_as_long_longer_as_it_stops() -> None:
    frozen = Cluster(Lognormal(1.0, sigma=0), Frozen(every=1e6, freeze=5.0))
    result = simulate(Arm(Policy(deadline=math.inf), UNCODED, (1,)), frozen, rate=1e3, queries=1)
    assert result.latencies == pytest.approx([6.0], abs=0.02)
