"""What every engine's pool does: one queue, workers that are busy until they have answered, faults, replacements."""

import re
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from parity.errors import ParityError
from parity.serving.pools import Batching, Pool, Supervision, WorkerFailed, WorkerState
from parity.serving.pools.engine import Engine, Reports
from parity.serving.pools.ray_actors import RayEngine
from parity.serving.pools.threads import ThreadEngine
from tests.serving.pools.harness import PATIENT, SOON, Output, Outputs, Serving, double

MakeEngine = Callable[..., Engine]
MakeByHand = Callable[..., tuple["ByHand", Serving]]


def test_tasks_are_answered_and_failures_reported_by_number(serving: Serving) -> None:
    serving.pool.submit(0, 0, 4, group=0)
    assert serving.heard.next() == (0, (8, (4,)))
    serving.pool.submit(1, 0, -1, group=1)
    task, error = serving.heard.next()
    assert task == 1
    assert isinstance(error, WorkerFailed)
    assert "ValueError: negative" in str(error)
    serving.pool.submit(2, 0, 5, group=2)
    assert serving.heard.next() == (2, (10, (5,)))


def test_a_stalled_worker_is_busy_and_the_other_one_takes_the_queue(serving: Serving) -> None:
    serving.pool.faults.stall(0)
    stuck = serving.give_work_to(worker=0)
    serving.pool.abandon(stuck)
    serving.pool.submit(-1, 0, 3, group=-1)
    while (heard_of := serving.heard.next())[0] != -1:
        assert heard_of[0] != stuck
    health = serving.health(0)
    assert (health.task, health.state) == (stuck, WorkerState.BUSY)
    serving.pool.faults.release(0)
    assert serving.heard.next() == (stuck, (2 * stuck, (stuck,)))


def test_a_batch_holds_one_output_of_a_group_at_most_and_no_task_that_was_abandoned(serving: Serving) -> None:
    serving.pool.faults.stall(2)
    stuck = serving.give_work_to(worker=2)
    serving.forget()
    for task, group in enumerate([7, 7, 8, 9, 9, 10]):
        serving.pool.submit(task, 1, task, group)
    serving.pool.abandon(3)
    assert serving.pool.queued() == [0, 5]
    serving.pool.faults.release(2)
    assert serving.heard.next()[0] == stuck
    outputs = dict(serving.heard.next() for _ in range(5))
    assert outputs == {0: (0, (0, 2, 4)), 2: (4, (0, 2, 4)), 4: (8, (0, 2, 4)), 1: (2, (1, 5)), 5: (10, (1, 5))}


def test_pools_do_not_take_each_others_tasks(serving: Serving) -> None:
    serving.pool.faults.stall(2)
    stuck = serving.give_work_to(worker=2)
    serving.forget()
    serving.pool.submit(0, 1, 1, group=0)
    serving.pool.submit(1, 0, 1, group=1)
    assert serving.heard.next()[0] == 1
    assert serving.pool.queued() == [0, 1]
    serving.pool.faults.release(2)
    assert [serving.heard.next()[0], serving.heard.next()[0]] == [stuck, 0]


def test_an_answer_that_is_lost_is_not_heard_and_one_that_is_damaged_is_a_failure(serving: Serving) -> None:
    serving.pool.faults.lose(2)
    serving.pool.faults.damage(2)
    serving.pool.submit(0, 1, 1, group=0)
    serving.pool.submit(1, 1, 1, group=0)
    serving.pool.submit(2, 1, 1, group=0)
    task, error = serving.heard.next()
    assert (task, str(error)) == (1, "no pair")
    assert serving.heard.next() == (2, (2, (1,)))


def test_a_slow_worker_takes_its_factor_times_as_long(serving: Serving) -> None:
    serving.pool.faults.slow(2, 500)
    started = time.monotonic()
    serving.pool.submit(0, 1, 1, group=0)
    assert serving.heard.next()[0] == 0
    assert time.monotonic() - started > 0.4
    serving.pool.faults.slow(2, 1)


def test_a_worker_that_dies_fails_its_tasks_and_is_replaced(serving: Serving) -> None:
    restarts = serving.health(2).restarts
    serving.pool.faults.stall(2)
    stuck = serving.give_work_to(worker=2)
    serving.forget()
    serving.pool.faults.kill(2)
    task, error = serving.heard.next()
    assert task == stuck
    assert isinstance(error, WorkerFailed)
    serving.wait_for_full_strength()
    health = serving.health(2)
    assert health.restarts == restarts + 1
    assert health.error
    serving.pool.submit(1, 1, 1, group=1)
    assert serving.heard.next() == (1, (2, (1,)))


def test_the_death_of_a_worker_without_a_task_is_noticed(serving: Serving) -> None:
    restarts = serving.health(2).restarts
    serving.pool.faults.kill(2)
    serving.wait_for(lambda: serving.health(2).restarts == restarts + 1)


def test_a_worker_that_is_silent_is_replaced_and_its_task_fails(make_engine: MakeEngine) -> None:
    supervision = Supervision(silent_after=0.2, replace_after=0.5, start_timeout=SOON, probe_after=SOON)
    with Serving(Pool(make_engine([double]), [1], [0], Outputs(), supervision=supervision)) as serving:
        serving.wait_for_full_strength()
        serving.pool.faults.stall(0)
        serving.pool.submit(0, 0, 1, group=0)
        serving.wait_for(lambda: serving.health(0).state is WorkerState.SILENT)
        task, error = serving.heard.next()
        assert (task, "not answered" in str(error)) == (0, True)
        serving.pool.submit(1, 0, 1, group=1)
        assert serving.heard.next() == (1, (2, (1,)))


def test_draining_finishes_what_is_queued(make_engine: MakeEngine) -> None:
    with Serving(Pool(make_engine([double]), [1], [0], Outputs(), supervision=PATIENT)) as serving:
        for task in range(5):
            serving.pool.submit(task, 0, task, group=task)
    assert [serving.heard.next() for _ in range(5)] == [(task, (2 * task, (task,))) for task in range(5)]


class Unloadable:
    """Work that cannot be loaded where the workers are, nor run here."""

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        raise ImportError("this network is not here")

    def __reduce__(self) -> tuple:
        return __import__, ("this_network_is_not_here",)


def test_a_worker_that_cannot_load_its_network_reports_why(make_engine: MakeEngine) -> None:
    with Serving(Pool(make_engine([Unloadable()]), [1], [0], Outputs(), supervision=PATIENT)) as serving:
        serving.wait_for(lambda: serving.health(0).state is WorkerState.DEAD)
        assert re.search("warm-up query.*network.is.not.here", serving.health(0).error)


class ByHand:
    """An engine whose workers a test answers for."""

    def __init__(self) -> None:
        self.reports: list[Reports] = []
        self.given: list[tuple[int, Sequence]] = []
        self.killed: list[int] = []

    def start(self, worker: int, pool: int, reports: Reports) -> "ByHand.Worker":
        self.reports.append(reports)
        return self.Worker(self, len(self.reports) - 1)

    def close(self) -> None:
        pass

    def warm(self, life: int) -> None:
        """Answer the warm-up query, both times."""
        for _ in range(2):
            self.reports[life].answered([(14, (7,))])

    class Worker:
        def __init__(self, engine: "ByHand", number: int) -> None:
            self.engine, self.number = engine, number

        def give(self, payloads: Sequence, slowness: float) -> None:
            self.engine.given.append((self.number, payloads))

        def kill(self) -> None:
            self.engine.killed.append(self.number)

        def end(self) -> None:
            pass

        def ended(self, timeout: float) -> bool:
            return True


@pytest.fixture
def by_hand() -> Iterator[Callable[..., tuple[ByHand, Serving]]]:
    """Return what makes such an engine, and a pool over it that ends with the test."""
    pools: list[Pool] = []

    def make(workers: int = 1, **options: object) -> tuple[ByHand, Serving]:
        engine = ByHand()
        pools.append(Pool(engine, [workers], [7], Outputs(), **{"supervision": PATIENT, **options}))
        return engine, Serving(pools[-1])

    yield make
    for pool in pools:
        pool.drain(0.0)


def test_a_worker_is_idle_only_after_its_warm_up_query(by_hand: MakeByHand) -> None:
    engine, serving = by_hand()
    serving.pool.submit(0, 0, 1, group=0)
    assert serving.health(0).state is WorkerState.STARTING
    assert engine.given == [(0, [7])]
    engine.reports[0].answered([(14, (7,))])
    assert serving.health(0).state is WorkerState.STARTING
    assert engine.given[1:] == [(0, [7])]  # the first may have loaded the network
    engine.reports[0].answered([(14, (7,))])
    assert engine.given[2:] == [(0, [1])]
    assert serving.health(0).state is WorkerState.BUSY
    engine.reports[0].answered([(2, (1,))])
    assert serving.heard.next() == (0, (2, (1,)))
    assert serving.health(0).state is WorkerState.IDLE


def test_what_a_worker_answers_after_it_was_replaced_is_dropped(by_hand: MakeByHand) -> None:
    engine, serving = by_hand()
    engine.warm(0)
    serving.pool.submit(0, 0, 1, group=0)
    engine.reports[0].died("struck by lightning")
    task, error = serving.heard.next()
    assert (task, str(error)) == (0, "struck by lightning")
    engine.reports[0].answered([(2, (1,))])
    engine.reports[0].died("again")
    serving.wait_for(lambda: len(engine.given) == 4)
    assert engine.given[3] == (1, [7])
    assert serving.health(0).restarts == 1
    assert serving.heard.reports.empty()


def test_a_worker_that_was_idle_for_long_is_asked_the_warm_up_query(by_hand: MakeByHand) -> None:
    engine, serving = by_hand(supervision=Supervision(probe_after=0.01))
    engine.warm(0)
    serving.wait_for(lambda: len(engine.given) == 3)
    assert engine.given[2] == (0, [7])
    assert (serving.health(0).state, serving.health(0).task) == (WorkerState.BUSY, None)


FAILED = WorkerFailed("MemoryError: cannot allocate")


def test_a_worker_that_fails_batch_after_batch_and_then_the_warm_up_query_is_replaced(by_hand: MakeByHand) -> None:
    engine, serving = by_hand()
    engine.warm(0)
    for task in range(3):
        serving.pool.submit(task, 0, 1, group=task)
        assert engine.given[-1] == (0, [1])
        engine.reports[0].answered(FAILED)
        assert serving.heard.next()[0] == task
    assert engine.given[-1] == (0, [7])
    engine.reports[0].answered(FAILED)
    assert engine.killed == [0]
    assert serving.health(0).restarts == 1
    assert "warm-up query any more: MemoryError" in serving.health(0).error
    serving.wait_for(lambda: engine.given[-1] == (1, [7]))


def test_a_worker_is_kept_whose_batches_fail_but_not_the_warm_up_query(by_hand: MakeByHand) -> None:
    """Queries that make any worker fail, which a client may send, do not end workers."""
    engine, serving = by_hand()
    engine.warm(0)
    for task in range(6):
        serving.pool.submit(task, 0, 1, group=task)
        engine.reports[0].answered(FAILED)
        if engine.given[-1] == (0, [7]):
            engine.reports[0].answered([(14, (7,))])
    assert [payloads for _, payloads in engine.given].count([7]) == 4  # two of the start, one after three failures each
    assert serving.health(0).state is WorkerState.IDLE
    assert not engine.killed


def test_a_worker_that_failed_is_given_work_after_those_that_did_not(by_hand: MakeByHand) -> None:
    engine, serving = by_hand(workers=3)
    for life in range(3):
        engine.warm(life)
    serving.pool.submit(0, 0, 1, group=0)
    engine.reports[0].answered(FAILED)
    for task in range(1, 4):
        serving.pool.submit(task, 0, task, group=task)
    assert engine.given[-3:] == [(1, [1]), (2, [2]), (0, [3])]
    for life in (2, 1, 0):  # all are well now
        engine.reports[life].answered([(2, (1,))])
    serving.pool.submit(4, 0, 4, group=4)
    engine.reports[2].answered(FAILED)
    for task in (5, 6, 7):
        serving.pool.submit(task, 0, task, group=task)
        if task == 5:
            engine.reports[1].answered([(2, (1,))])
    assert engine.given[-3:] == [(1, [5]), (0, [6]), (1, [7])]


def test_a_network_that_is_slow_by_nature_is_not_silent() -> None:
    def work(numbers: Sequence[int]) -> list[Output]:
        time.sleep(0.1)
        return [(2 * number, tuple(numbers)) for number in numbers]

    supervision = Supervision(silent_after=0.001, replace_after=0.001)
    with Serving(Pool(ThreadEngine([work]), [1], [0], Outputs(), supervision=supervision)) as serving:
        serving.pool.submit(0, 0, 1, group=0)
        assert serving.heard.next() == (0, (2, (1,)))


def test_a_batch_that_is_not_full_waits_and_a_full_one_does_not(by_hand: MakeByHand) -> None:
    engine, serving = by_hand(workers=2, batching=Batching(2, batch_wait=0.05))
    for life in range(2):
        engine.warm(life)
    serving.pool.submit(0, 0, 1, group=0)
    assert len(engine.given) == 4
    serving.pool.submit(1, 0, 2, group=1)
    assert engine.given[4] == (0, [1, 2])
    serving.pool.submit(2, 0, 3, group=2)
    serving.wait_for(lambda: len(engine.given) == 6)
    assert engine.given[5] == (1, [3])


def test_a_drain_that_takes_too_long_kills_and_fails_what_is_left(by_hand: MakeByHand) -> None:
    engine, serving = by_hand()
    engine.warm(0)
    for task in range(2):
        serving.pool.submit(task, 0, 1, group=task)
    assert not serving.pool.drain(0.01)
    assert [serving.heard.next()[0] for _ in range(2)] == [0, 1]
    assert engine.killed == [0]


def test_a_pool_that_is_drained_again_does_not_close_what_others_may_use_by_then(by_hand: MakeByHand) -> None:
    closed: list[int] = []
    engine, serving = by_hand()
    engine.close = lambda: closed.append(1)  # type: ignore[method-assign]
    engine.warm(0)
    serving.pool.submit(0, 0, 1, group=0)
    assert not serving.pool.drain(0.01)
    assert not serving.pool.drain(1.0)
    assert len(closed) == 1


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ParityError, match="at least 1"):
        Pool(ThreadEngine([double]), [0], [0], Outputs())


def node(numbers: Sequence[int]) -> list[str]:
    """Return the node of a Ray cluster that this worker is on, for each number."""
    import ray

    return [ray.get_runtime_context().get_node_id() for _ in numbers]


def test_ray_workers_are_spread_over_the_nodes_of_a_cluster_that_outlives_them(cluster: str) -> None:
    engine: Engine = RayEngine([node], workers=2, address=cluster)
    with Serving(Pool(engine, [2], [0], Outputs(), supervision=PATIENT)) as serving:
        serving.wait_for_full_strength()
        for task in range(2):  # the longest idle worker is the next
            serving.pool.submit(task, 0, task, group=task)
            serving.wait_for_full_strength()
        nodes = {serving.heard.next()[1] for _ in range(2)}
        assert len(nodes) == 2
        for worker in range(2):
            serving.pool.faults.kill(worker)
            serving.wait_for(lambda worker=worker: serving.health(worker).restarts == 1)
        serving.wait_for_full_strength()
    engine = RayEngine([node], workers=1, address=cluster)
    engine.close()
