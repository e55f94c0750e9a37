"""The core: who is sent what and when, and which answer a query gets."""

import heapq
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from fractions import Fraction

import pytest

from parity.errors import ParityError
from parity.serving.commands import BASE, Accept, Answer, Command, Reason, Send, Source
from parity.serving.core import Core
from parity.serving.grouping import AcrossBatches
from parity.serving.policy import Policy
from parity.serving.typical import RunningMedian
from tests.serving.exact_code import DEFAULT, ExactCode, Harness, query

UNCODED = ExactCode(1, 0)


def test_queries_go_to_the_base_pool_at_once_and_parity_queries_when_the_group_is_full() -> None:
    service = Harness(Policy(group_timeout=1), ExactCode(2, 1))
    service.arrive()
    assert [service.outstanding[task].payload for task in service.tasks(BASE)] == [query(1)]
    assert not service.tasks(1)
    service.arrive()
    assert len(service.tasks(BASE)) == 2
    assert len(service.tasks(1)) == 1


def test_each_parity_query_goes_to_a_pool_of_its_own() -> None:
    service = Harness(Policy(), ExactCode(2, 3))
    service.arrive()
    service.arrive()
    assert [len(service.tasks(pool)) for pool in range(4)] == [2, 1, 1, 1]


def test_a_stalled_workers_query_is_rebuilt() -> None:
    service = Harness(Policy(), ExactCode(2, 1))
    stalled, other = service.arrive(), service.arrive()
    late = service.task_of(stalled)
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    assert (service.source(stalled), service.source(other)) == (Source.REBUILT, Source.OWN)
    assert service.cancelled == [late]
    service.done(late)  # dropped: the harness would see a second answer


def test_patience_waits_for_the_own_answer_although_a_reconstruction_is_ready() -> None:
    service = Harness(Policy(patience=3), ExactCode(2, 1))
    slow, other = service.arrive(), service.arrive()
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.wait(2.9)
    assert service.source(slow) is None
    service.done(service.task_of(slow))
    assert service.source(slow) is Source.OWN


def test_patience_ends() -> None:
    service = Harness(Policy(patience=3), ExactCode(2, 1))
    slow, other = service.arrive(), service.arrive()
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.wait(3)
    assert service.source(slow) is Source.REBUILT


def test_relative_patience_is_a_multiple_of_the_time_that_own_predictions_take() -> None:
    service = Harness(Policy(relative_patience=2), ExactCode(2, 1))
    for _ in range(2):
        first, second = service.arrive(), service.arrive()
        service.wait(3)
        service.done(service.task_of(first))
        service.done(service.task_of(second))
    slow, other = service.arrive(), service.arrive()
    service.done(service.tasks(1)[0])
    service.wait(3)
    service.done(service.task_of(other))
    service.wait(2.5)
    assert service.source(slow) is None
    service.wait(0.5)
    assert service.source(slow) is Source.REBUILT


def test_a_typical_time_follows_the_median_and_not_the_stragglers() -> None:
    typical = RunningMedian()
    for number in range(500):
        typical.observe(80.0 if number % 10 == 0 else 1.0 + number % 3)
    assert typical.value == pytest.approx(2, rel=0.1)
    for _ in range(200):
        typical.observe(20.0)
    assert typical.value == pytest.approx(20, rel=0.1)


class AnyParityOutput(ExactCode):
    """Every parity output alone rebuilds all, as those of positional codes do; its simulated base model is no sum."""

    def rebuildable(self, arrived: AbstractSet[int]) -> AbstractSet[int]:
        return frozenset(range(self.k)) if any(worker >= self.k for worker in arrived) else frozenset()

    def decode(self, outputs: Mapping[int, Fraction]) -> list[Fraction]:
        return [Fraction(0)] * self.k


def sources(own: Callable[[float], float], parity: float, queries: int) -> list[Source]:
    """Return the sources of answers of a positional code, in order, with workers that are never busy.

    Args:
        own: the seconds that a base worker takes for what it is given at a time.
        parity: the seconds that a parity worker takes.
        queries: how many arrive, ten a second.
    """
    core = Core(Policy(group_timeout=1, relative_patience=1.5), AnyParityOutput(2, 1), Fraction(0))
    due: list[tuple[float, int]] = []
    found: list[Source] = []

    def carry_out(now: float, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                heapq.heappush(due, (now + (own(now) if command.pool == BASE else parity), command.task))
            elif isinstance(command, Answer):
                found.append(command.source)

    def run(until: float) -> None:
        while (now := min(core.next_tick() or math.inf, due[0][0] if due else math.inf)) <= until and now < math.inf:
            if due and due[0][0] == now:
                carry_out(now, core.done(now, heapq.heappop(due)[1], Fraction(0)))
            else:
                carry_out(now, core.tick(now))

    for number in range(queries):
        run(number / 10)
        carry_out(number / 10, core.arrive(number / 10, number, query(number)))
    run(math.inf)
    return found


def test_patience_follows_own_predictions_that_become_slower_although_all_of_them_can_be_rebuilt() -> None:
    """What is rebuilt cancels its own task, of which the core learns its age alone."""
    found = sources(own=lambda now: 0.2 if now < 10 else 0.6, parity=0.1, queries=600)
    assert set(found[20:90]) == {Source.OWN}
    assert Source.REBUILT in found[100:130]
    assert set(found[300:]) == {Source.OWN}


def test_patience_recovers_from_a_first_own_prediction_that_was_fast_by_luck() -> None:
    found = sources(own=lambda now: 0.2 if now else 0.02, parity=0.05, queries=600)
    assert set(found[300:]) == {Source.OWN}


def test_a_typical_time_starts_from_several_durations_and_not_from_the_first_alone() -> None:
    typical = RunningMedian()
    for duration in (0.01, 1.0, 1.1, 0.9, 1.0):
        typical.observe(duration)
    assert typical.value == 1.0


def test_what_was_given_up_when_it_was_younger_than_is_typical_tells_nothing() -> None:
    typical = RunningMedian()
    for _ in range(5):
        typical.observe(1.0)
    typical.outlasts(0.5)
    assert typical.value == 1.0
    typical.outlasts(1.5)
    assert typical.value > 1.0


def test_nobody_is_patient_with_a_worker_that_failed() -> None:
    service = Harness(Policy(patience=3, retries=0), ExactCode(2, 1))
    lost, other = service.arrive(), service.arrive()
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.failed(service.task_of(lost))
    assert service.source(lost) is Source.REBUILT


def test_a_deadline_before_the_end_of_patience_takes_the_reconstruction() -> None:
    service = Harness(Policy(patience=3, deadline=2), ExactCode(2, 1))
    slow, other = service.arrive(), service.arrive()
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.wait(2)
    assert service.source(slow) is Source.REBUILT


def test_a_partial_group_is_rebuilt_exactly_with_the_blanks_prediction() -> None:
    """The base model's prediction for the blank is 7: taken for zero, the answer would be wrong."""
    service = Harness(Policy(group_timeout=1), ExactCode(3, 1))
    stalled, other = service.arrive(), service.arrive()
    service.wait(1)
    service.done(service.task_of(other))
    assert service.source(stalled) is None
    service.done(service.tasks(1)[0])
    assert service.source(stalled) is Source.REBUILT


def test_the_first_partial_group_survives_the_loss_of_r_outputs() -> None:
    """It asks nobody for the blank's prediction, which could be lost beside them."""
    service = Harness(Policy(group_timeout=1), ExactCode(3, 2))
    lost, other = service.arrive(), service.arrive()
    service.wait(1)
    assert len(service.outstanding) == 4
    service.done(service.tasks(1)[0])
    service.done(service.tasks(2)[0])
    assert service.source(lost) is service.source(other) is Source.REBUILT


def test_no_parity_query_is_sent_for_a_group_that_is_answered() -> None:
    service = Harness(Policy(group_timeout=1), ExactCode(2, 1))
    service.done(service.task_of(service.arrive()))
    service.wait(1)
    assert len(service.sent) == 1
    assert service.core.next_tick() is None


def test_an_answer_of_an_open_group_still_rebuilds_a_later_member() -> None:
    service = Harness(Policy(group_timeout=1), ExactCode(2, 1))
    service.done(service.task_of(service.arrive()))
    stalled = service.arrive()
    service.done(service.tasks(1)[0])
    assert service.source(stalled) is Source.REBUILT


def test_an_output_that_is_too_late_for_its_own_query_rebuilds_another() -> None:
    service = Harness(Policy(), ExactCode(2, 1))
    hurried, patient = service.arrive(deadline=1), service.arrive(deadline=9)
    service.wait(1)
    assert service.source(hurried) is Reason.LATE
    service.done(service.task_of(hurried))
    service.done(service.tasks(1)[0])
    assert service.source(patient) is Source.REBUILT


def test_two_stalled_workers_of_one_group_are_rebuilt_with_two_parity_queries() -> None:
    service = Harness(Policy(), ExactCode(3, 2))
    first, second, third = service.arrive(), service.arrive(), service.arrive()
    service.done(service.task_of(third))
    service.done(service.tasks(1)[0])
    assert service.source(first) is None
    service.done(service.tasks(2)[0])
    assert service.source(first) is service.source(second) is Source.REBUILT


def test_a_non_systematic_code_sends_nothing_before_the_group_is_full_and_takes_the_fastest_k() -> None:
    service = Harness(Policy(group_timeout=1), ExactCode(2, 1, systematic=False))
    service.arrive()
    assert not service.sent
    service.arrive()
    assert len(service.tasks(BASE)) == 3
    service.done(service.tasks(BASE)[2])
    service.done(service.tasks(BASE)[0])
    assert service.source(1) is service.source(2) is Source.REBUILT
    assert len(service.cancelled) == 1


def test_patience_of_a_non_systematic_code_waits_for_all_outputs() -> None:
    service = Harness(Policy(patience=3), ExactCode(2, 1, systematic=False))
    service.arrive()
    service.arrive()
    service.done(service.tasks(BASE)[0])
    service.done(service.tasks(BASE)[0])
    assert service.source(1) is None
    service.done(service.tasks(BASE)[0])
    assert service.source(1) is Source.REBUILT


def test_a_partial_group_of_a_non_systematic_code_needs_no_prediction_of_the_blank() -> None:
    service = Harness(Policy(group_timeout=1), ExactCode(3, 1, systematic=False))
    service.arrive()
    service.wait(1)
    assert len(service.tasks(BASE)) == 4
    for task in service.tasks(BASE)[:3]:
        service.done(task)
    assert service.source(1) is Source.REBUILT


def test_a_hedge_answers_for_a_stalled_worker_and_the_loser_is_cancelled() -> None:
    service = Harness(Policy(hedge_delay=2, hedge_budget=1), UNCODED)
    stalled = service.arrive()
    own = service.task_of(stalled)
    service.wait(2)
    (hedge,) = [task for task in service.tasks(BASE) if task != own]
    service.done(hedge)
    assert service.source(stalled) is Source.HEDGE
    assert service.cancelled == [own]


def test_the_loser_of_a_hedge_is_cancelled_although_its_group_waits_for_another_member() -> None:
    service = Harness(Policy(hedge_delay=2, hedge_budget=0.5), ExactCode(2, 1))
    hedged = service.arrive()
    service.arrive()
    own = service.task_of(hedged)
    service.wait(2)
    service.done(max(service.tasks(BASE)))
    assert service.source(hedged) is Source.HEDGE
    assert service.cancelled == [own]


def test_a_failed_task_is_not_sent_again_while_its_hedge_is_out() -> None:
    service = Harness(Policy(hedge_delay=0, hedge_budget=math.inf), UNCODED)
    asked = service.arrive()
    service.failed(service.task_of(asked))
    assert len(service.sent) == 2
    service.done(service.task_of(asked))
    assert service.source(asked) is Source.HEDGE


def test_a_failed_task_of_a_query_that_was_late_is_not_sent_again() -> None:
    service = Harness(Policy(retries=1), ExactCode(2, 1))
    hurried, patient = service.arrive(deadline=1), service.arrive(deadline=9)
    service.wait(1)
    service.failed(service.task_of(hurried))
    assert len(service.sent) == 3
    assert service.source(patient) is None


def test_a_query_whose_worker_failed_before_its_group_was_full_is_rebuilt_later() -> None:
    service = Harness(Policy(group_timeout=5, retries=0), ExactCode(2, 1))
    lost = service.arrive()
    service.failed(service.task_of(lost))
    assert service.source(lost) is None
    service.done(service.task_of(service.arrive()))
    service.done(service.tasks(1)[0])
    assert service.source(lost) is Source.REBUILT


def test_hedges_stay_within_their_budget() -> None:
    service = Harness(Policy(hedge_delay=1, hedge_budget=0.1), UNCODED)
    for _ in range(100):
        service.arrive()
    service.wait(1)
    assert len(service.sent) == 110


def test_replication_is_a_hedge_without_delay() -> None:
    service = Harness(Policy(hedge_delay=0, hedge_budget=math.inf), UNCODED)
    service.arrive()
    assert len(service.tasks(BASE)) == 2


def test_a_failed_task_is_sent_again() -> None:
    service = Harness(Policy(retries=1), UNCODED)
    asked = service.arrive()
    service.failed(service.task_of(asked))
    service.done(service.task_of(asked))
    assert service.source(asked) is Source.OWN


def test_a_query_that_no_worker_can_answer_fails_before_its_deadline() -> None:
    service = Harness(Policy(retries=1), UNCODED)
    asked = service.arrive()
    service.failed(service.task_of(asked))
    service.failed(service.task_of(asked))
    assert service.source(asked) is Reason.LOST


def test_a_failed_query_of_a_group_waits_for_the_parity_answer_and_is_lost_with_it() -> None:
    service = Harness(Policy(retries=0), ExactCode(2, 1))
    lost, other = service.arrive(), service.arrive()
    service.failed(service.task_of(lost))
    assert service.source(lost) is None
    service.failed(service.tasks(1)[0])
    assert service.source(lost) is Reason.LOST
    service.done(service.task_of(other))
    assert service.source(other) is Source.OWN


def test_a_late_query_gets_the_default_prediction_if_there_is_one() -> None:
    service = Harness(Policy(deadline=2), UNCODED, default=DEFAULT)
    late = service.arrive()
    service.wait(2)
    assert service.source(late) is Source.DEFAULT
    assert len(service.cancelled) == 1


def test_a_querys_own_deadline_counts() -> None:
    service = Harness(Policy(deadline=2), UNCODED)
    patient, hurried = service.arrive(deadline=5), service.arrive(deadline=1)
    service.wait(1)
    assert service.source(hurried) is Reason.LATE
    service.wait(3)
    assert service.source(patient) is None


def test_too_many_waiting_queries_are_refused_and_leave_no_trace() -> None:
    service = Harness(Policy(most_waiting=2), UNCODED)
    first = service.arrive()
    service.arrive()
    refused = service.arrive()
    assert service.source(refused) is Reason.REFUSED
    assert len(service.sent) == 2
    service.done(service.task_of(first))
    assert service.source(service.arrive()) is None


def test_two_waiting_queries_of_one_name_are_refused() -> None:
    service = Harness(Policy(), UNCODED)
    service.core.arrive(0, "a", query(1))
    with pytest.raises(ParityError, match="name of its own"):
        service.core.arrive(0, "a", query(2))


def test_a_query_that_accepts_only_its_own_answer_waits_for_it_beside_a_reconstruction() -> None:
    service = Harness(Policy(deadline=5), ExactCode(2, 1))
    strict, other = service.arrive(accept=Accept.OWN), service.arrive()
    own = service.task_of(strict)
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.wait(4)
    assert service.source(strict) is None
    service.done(own)
    assert service.source(strict) is Source.OWN


def test_a_query_that_accepts_only_its_own_answer_is_late_although_it_could_be_rebuilt() -> None:
    service = Harness(Policy(deadline=5), ExactCode(2, 1), DEFAULT)
    strict, other = service.arrive(accept=Accept.OWN), service.arrive()
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.wait(5)
    assert service.source(strict) is Reason.LATE


def test_a_query_that_accepts_only_its_own_answer_is_lost_with_its_worker() -> None:
    service = Harness(Policy(retries=0), ExactCode(2, 1))
    strict, other = service.arrive(accept=Accept.OWN), service.arrive()
    service.failed(service.task_of(strict))
    assert service.source(strict) is Reason.LOST
    assert service.source(other) is None


def test_a_code_without_own_answers_refuses_queries_that_accept_no_other() -> None:
    service = Harness(Policy(), ExactCode(2, 1, systematic=False))
    with pytest.raises(ParityError, match="every prediction is rebuilt"):
        service.arrive(accept=Accept.OWN)
    assert service.core.waiting == 0


def test_a_query_that_accepts_no_default_fails_where_another_gets_it() -> None:
    service = Harness(Policy(deadline=2), UNCODED, default=DEFAULT)
    strict, easy = service.arrive(accept=Accept.REBUILT), service.arrive(accept=Accept.DEFAULT)
    service.wait(2)
    assert (service.source(strict), service.source(easy)) == (Reason.LATE, Source.DEFAULT)


def test_a_client_that_hangs_up_leaves_its_group_unharmed() -> None:
    """Its own output is what the other member is rebuilt with."""
    service = Harness(Policy(), ExactCode(2, 1))
    leaving, stalled = service.arrive(), service.arrive()
    service.drop(leaving)
    service.done(service.task_of(leaving))
    service.done(service.tasks(1)[0])
    assert service.source(stalled) is Source.REBUILT
    assert service.source(leaving) is None
    assert service.core.waiting == 0


def test_nothing_is_worked_on_for_a_group_whose_clients_all_hung_up() -> None:
    service = Harness(Policy(), ExactCode(2, 1))
    for number in [service.arrive(), service.arrive()]:
        service.drop(number)
    assert len(service.cancelled) == 3
    assert not service.outstanding
    assert service.core.next_tick() is None


def test_groups_across_batches_take_item_i_of_k_consecutive_batches() -> None:
    service = Harness(Policy(grouping=AcrossBatches(3)), ExactCode(2, 1))
    for _ in range(6):
        service.arrive()
    assert [service.sent[task].payload for task in service.tasks(1)] == [
        ((1, 1), (1, 4)), ((1, 2), (1, 5)), ((1, 3), (1, 6)),
    ]  # fmt: skip
    stalled, other = 2, 5
    service.done(service.task_of(other))
    service.done(service.tasks(1)[1])
    assert service.source(stalled) is Source.REBUILT


def test_every_open_group_across_batches_has_a_timeout_of_its_own() -> None:
    service = Harness(Policy(group_timeout=1, grouping=AcrossBatches(2)), ExactCode(2, 1))
    service.arrive()
    service.wait(0.5)
    service.arrive()
    service.wait(0.5)
    assert len(service.tasks(1)) == 1
    service.wait(0.5)
    assert len(service.tasks(1)) == 2


def test_statistics_count_groups_and_tasks() -> None:
    service = Harness(Policy(group_timeout=1, hedge_delay=3, hedge_budget=1, retries=0), ExactCode(2, 1))
    slow, other, lone = service.arrive(), service.arrive(), service.arrive()
    late = service.task_of(slow)
    service.done(service.task_of(other))
    service.done(service.tasks(1)[0])
    service.done(late)
    service.wait(1)
    service.failed(service.task_of(lone))
    service.wait(2)
    service.drop(lone)
    counts = service.core.statistics
    assert (counts.sent[0], counts.sent[1], counts.hedges, counts.failed) == (4, 2, 1, 1)
    assert (counts.abandoned, counts.late, counts.dropped) == (3, 1, 1)
    assert (counts.fill.total, counts.fill.sum, counts.partial) == (2, 1.0, 1)


def test_a_group_that_is_answered_before_it_is_full_is_not_counted_as_filled() -> None:
    service = Harness(Policy(group_timeout=1), ExactCode(2, 1))
    service.done(service.task_of(service.arrive()))
    service.wait(1)
    assert (service.core.statistics.fill.total, service.core.statistics.partial) == (0, 0)


def test_a_non_systematic_code_is_not_hedged() -> None:
    with pytest.raises(ParityError, match="cannot be hedged"):
        Harness(Policy(hedge_delay=1), ExactCode(2, 1, systematic=False))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(group_timeout=-1),
        dict(patience=math.nan),
        dict(hedge_budget=-0.1),
        dict(deadline=0),
        dict(most_waiting=0),
        dict(retries=-1),
    ],
)
def test_a_policy_out_of_range_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ParityError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]
