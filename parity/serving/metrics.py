"""A service's counts as Prometheus reads them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from parity.serving.commands import Reason
from parity.serving.pools import WorkerState
from parity.serving.server import CodedServer
from parity.serving.statistics import Histogram


def registry(server: CodedServer) -> CollectorRegistry:
    """Return a registry that reads a server's counts whenever it is asked."""
    collectors = CollectorRegistry()
    collectors.register(_Collector(server))
    return collectors


def families(server: CodedServer) -> Iterator[Metric]:
    """Yield a server's counts, as Prometheus' families of metrics."""
    return _Collector(server).collect()


class _Collector(Collector):
    def __init__(self, server: CodedServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        counts, server = self._server.statistics, self._server
        yield self._latencies()
        yield _gauge("parity_share_rebuilt", "Share of the answers that were rebuilt.", counts.share_rebuilt)
        failures = CounterMetricFamily("parity_unanswered", "Queries without an answer, by reason.", labels=["reason"])
        for reason in Reason:
            failures.add_metric([reason], counts.failures[reason])
        yield failures
        yield _counter("parity_dropped", "Queries whose client hung up.", counts.dropped)
        fill = HistogramMetricFamily("parity_group_fill_seconds", "From a group's first query until it is encoded.")
        _add(fill, [], counts.fill)
        yield fill
        yield _counter("parity_partial_groups", "Groups that were filled with blanks.", counts.partial)
        sent = CounterMetricFamily("parity_tasks", "Tasks sent to workers, by pool.", labels=["pool"])
        for pool, count in sorted(counts.sent.items()):
            sent.add_metric([str(pool)], count)
        yield sent
        yield _counter("parity_hedges", "Tasks that are second copies of a query.", counts.hedges)
        yield _counter("parity_failed_tasks", "Tasks that a worker failed, or died with.", counts.failed)
        yield _counter("parity_abandoned_tasks", "Tasks that were cancelled.", counts.abandoned)
        yield _counter("parity_late_outputs", "Outputs that arrived for abandoned tasks.", counts.late)
        yield _gauge("parity_waiting_queries", "Queries that wait for an answer.", server.waiting)
        queued = GaugeMetricFamily("parity_queue_length", "Tasks that wait for a worker, by pool.", labels=["pool"])
        for pool, length in enumerate(server.queued()):
            queued.add_metric([str(pool)], length)
        yield queued
        yield self._workers()
        restarts = sum(worker.restarts for worker in server.health())
        yield _gauge("parity_worker_restarts", "How often today's workers were replaced.", restarts)

    def _latencies(self) -> Metric:
        family = HistogramMetricFamily(
            "parity_latency_seconds", "From a query's arrival to its answer, by the answer's source.", labels=["source"]
        )
        for source, histogram in self._server.statistics.latencies.items():
            _add(family, [source], histogram)
        return family

    def _workers(self) -> Metric:
        family = GaugeMetricFamily("parity_workers", "Workers, by pool and state.", labels=["pool", "state"])
        health = self._server.health()
        states = Counter((worker.pool, worker.state) for worker in health)
        for pool in sorted({worker.pool for worker in health}):
            for state in WorkerState:
                family.add_metric([str(pool), state], states[pool, state])
        return family


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    total, buckets = 0, []
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(labels, buckets, histogram.sum)


def _counter(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(name, meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
