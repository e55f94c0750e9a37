"""The core under random sequences of arrivals, answers, failures, stalls and clock steps.

``Harness`` checks each command as it comes: one answer, with the right value and source, and nothing sent for queries
that are answered. These tests check what is left at the end.
"""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.serving.commands import Accept, Answer, Fail, Reason, Source
from parity.serving.grouping import AcrossBatches, Consecutive
from parity.serving.policy import Policy
from tests.serving.exact_code import DEFAULT, ExactCode, Harness

CODES = {
    "uncoded": ExactCode(1, 0),
    "backup": ExactCode(1, 1),
    "k2": ExactCode(2, 1),
    "k3_r2": ExactCode(3, 2),
    "k2_nonsystematic": ExactCode(2, 1, systematic=False),
    "k3_r2_nonsystematic": ExactCode(3, 2, systematic=False),
}
HEDGES = {
    "unhedged": dict(),
    "hedged": dict(hedge_delay=1.0, hedge_budget=0.25),
    "replicated": dict(hedge_delay=0.0, hedge_budget=math.inf),
}
ARMS = [(code, hedge) for code in CODES for hedge in HEDGES if hedge == "unhedged" or CODES[code].systematic]

policies = st.fixed_dictionaries(
    dict(
        group_timeout=st.sampled_from([0.0, 0.5, 2.0]),
        patience=st.sampled_from([0.0, 1.5, 20.0]),
        relative_patience=st.sampled_from([0.0, 1.5]),
        deadline=st.sampled_from([3.0, 10.0, math.inf]),
        most_waiting=st.sampled_from([2, 5, 1000]),
        retries=st.sampled_from([0, 1, 2]),
        grouping=st.sampled_from([Consecutive(), AcrossBatches(1), AcrossBatches(3)]),
    )
)
# What happens, and a number that chooses to whom; a task that nothing happens to is stalled.
events = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "done", "done", "failed", "late", "wait", "drop"]), st.integers(0, 9)
    ),
    max_size=40,
)


def play(service: Harness, happenings: list[tuple[str, int]]) -> None:
    for what, number in happenings:
        tasks = list(service.outstanding)
        match what:
            case "arrive":
                accepts = list(Accept) if service.code.systematic else [Accept.REBUILT, Accept.DEFAULT]
                service.arrive(None if number else 1.0, accepts[number % len(accepts)])
            case "drop" if service.arrived:
                service.drop(1 + number % service.arrived)
            case "wait":
                service.wait(number / 4)
            case "late" if service.cancelled:
                service.done(service.cancelled[number % len(service.cancelled)])
            case "done" if tasks:
                service.done(tasks[number % len(tasks)])
            case "failed" if tasks:
                service.failed(tasks[number % len(tasks)])


def assert_nothing_is_left(service: Harness) -> None:
    assert service.ended.keys() | service.dropped == set(range(1, service.arrived + 1))
    assert not service.ended.keys() & service.dropped
    assert service.core.waiting == service.core.outstanding == 0
    assert not service.outstanding
    assert service.core.next_tick() is None


@pytest.mark.parametrize(("code", "hedge"), ARMS)
@settings(max_examples=100)
@given(policy=policies, happenings=events, default=st.sampled_from([None, DEFAULT]))
def test_every_query_is_answered_once_although_workers_stall_for_ever(
    code: str, hedge: str, policy: dict, happenings: list[tuple[str, int]], default: object
) -> None:
    policy["deadline"] = min(policy["deadline"], 10.0)
    service = Harness(Policy(**policy, **HEDGES[hedge]), CODES[code], default)
    play(service, happenings)
    service.wait(100)
    assert_nothing_is_left(service)
    if default is not None:
        failures = {number: end.reason for number, end in service.ended.items() if isinstance(end, Fail)}
        refused = [number for number, reason in failures.items() if reason is Reason.REFUSED]
        assert all(service.accepts[number] is not Accept.DEFAULT for number in failures.keys() - set(refused))


@pytest.mark.parametrize(("code", "hedge"), ARMS)
@settings(max_examples=100)
@given(policy=policies, happenings=events, order=st.randoms(use_true_random=False))
def test_every_query_is_answered_once_without_a_deadline_when_the_workers_come_round(
    code: str, hedge: str, policy: dict, happenings: list[tuple[str, int]], order: random.Random
) -> None:
    policy["deadline"] = math.inf
    service = Harness(Policy(**policy, **HEDGES[hedge]), CODES[code])
    play(service, [(what, max(number, 1)) for what, number in happenings])
    service.wait(3)  # an open group is sent when its timeout is over
    while service.outstanding:
        service.done(order.choice(list(service.outstanding)))
        service.wait(order.choice([0.0, 0.3]))
    service.wait(100)
    assert_nothing_is_left(service)
    failures = [end for end in service.ended.values() if isinstance(end, Fail)]
    assert all(end.reason is Reason.REFUSED or "failed" in dict(happenings) for end in failures)


@pytest.mark.parametrize("code", [code for code in CODES if CODES[code].n > CODES[code].k])
@settings(max_examples=100)
@given(stalled=st.data(), members=st.integers(1, 3))
def test_a_group_whose_outputs_suffice_is_answered_in_full_with_the_others_stalled(
    code: str, stalled: st.DataObject, members: int
) -> None:
    coder = CODES[code]
    members = min(members, coder.k)
    service = Harness(Policy(group_timeout=1), coder)
    for _ in range(members):
        service.arrive()
    service.wait(1)
    tasks = list(service.outstanding)
    losses = stalled.draw(st.sets(st.sampled_from(tasks), max_size=coder.n - coder.k))
    for task in stalled.draw(st.permutations([task for task in tasks if task not in losses])):
        if task in service.outstanding:
            service.done(task)
    assert len(service.ended) == members
    assert all(isinstance(end, Answer) for end in service.ended.values())


@settings(max_examples=100)
@given(happenings=events, budget=st.sampled_from([0.1, 0.25, 0.5]))
def test_hedges_never_exceed_their_share_of_the_queries(happenings: list[tuple[str, int]], budget: float) -> None:
    service = Harness(Policy(hedge_delay=1, hedge_budget=budget, retries=0), CODES["uncoded"])
    play(service, happenings)
    service.wait(100)
    assert service.hedges <= budget * service.arrived + 1e-6
    assert sum(service.source(number) is Source.HEDGE for number in service.ended) <= service.hedges
