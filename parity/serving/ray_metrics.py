"""A service's counts among Ray's own metrics, which Ray exports to Prometheus from every node of a cluster."""

import asyncio
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from prometheus_client.core import Metric

from parity.serving.metrics import families
from parity.serving.server import CodedServer

_EVERY = 5.0  # seconds; Ray reports every 10 by default

_Key = tuple[str, tuple[tuple[str, str], ...]]


async def export(server: CodedServer, every: float = _EVERY) -> None:
    """Pass on a server's counts until cancelled, when they are passed on for the last time; Ray is connected."""
    from ray.util import metrics

    exporter = Exporter(metrics)
    try:
        while True:
            exporter.pass_on(server)
            await asyncio.sleep(every)
    finally:
        exporter.pass_on(server)


class Exporter:
    """Passes on what has changed since the last time, since Ray's counters take increments.

    The buckets of a histogram are counters with a label ``le``, as in Prometheus' own form: Ray's histograms take one
    value at a time, and the values are not kept.

    Args:
        metrics: ``ray.util.metrics``.
    """

    def __init__(self, metrics: ModuleType) -> None:
        self._ray = metrics
        self._made: dict[str, Any] = {}
        self._counted: dict[_Key, float] = {}

    def pass_on(self, server: CodedServer) -> None:
        """Pass on a server's counts."""
        for family in families(server):
            for sample in family.samples:
                if family.type == "gauge":
                    self._of("Gauge", family, sample.name, sample.labels).set(sample.value, tags=sample.labels)
                else:
                    self._count(family, sample.name.removesuffix("_total"), sample.labels, sample.value)

    def _count(self, family: Metric, name: str, labels: Mapping[str, str], value: float) -> None:
        key = (name, tuple(labels.items()))
        if (more := value - self._counted.get(key, 0.0)) > 0:
            self._of("Counter", family, name, labels).inc(more, tags=dict(labels))
            self._counted[key] = value

    def _of(self, kind: str, family: Metric, name: str, labels: Mapping[str, str]) -> Any:
        if name not in self._made:
            self._made[name] = getattr(self._ray, kind)(name, family.documentation, tuple(labels))
        return self._made[name]
