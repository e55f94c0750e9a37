"""The live view: sources, latencies and what every worker is at."""

import io

from rich.console import Console

from parity.serving.commands import Source
from parity.serving.measuring.live import line, view
from parity.serving.measuring.record import Record
from parity.serving.pools import WorkerHealth, WorkerState


def example() -> tuple[Record, list[WorkerHealth]]:
    record = Record(clock=lambda: 0.0)
    for number in range(10):
        record.send(0.0)
        if number < 8:
            record.answer(Source.OWN if number < 6 else Source.REBUILT, 0.1 if number < 6 else 0.15)
    record.fail("late")
    states = [WorkerState.BUSY, WorkerState.SILENT, WorkerState.DEAD]
    return record, [WorkerHealth(index, int(index == 2), None, state) for index, state in enumerate(states)]


def test_the_view_shows_each_source_failures_and_workers() -> None:
    record, workers = example()
    shown = Console(file=io.StringIO(), width=100)
    shown.print(view(record, 20, workers))
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    rows = [" ".join(row.replace("│", " ").split()) for row in text.splitlines()]
    assert "own 6 60.0% 100 100 100" in rows
    assert "rebuilt 2 20.0% 150 150 150" in rows
    assert "all 8 80.0% 100 150 150" in rows
    assert any(row.startswith("no answer: late 1 10.0%") for row in rows)
    assert "10 of 20 queries sent, 1 wait" in text
    assert "base b! parity 0 x" in " ".join(text.split())


def test_the_line_holds_the_same_in_short() -> None:
    found = line(*example()[:1], 20, example()[1])
    assert found.startswith("10 of 20 queries, 2 a second, p50/p99/p99.9 100/150/150 ms, 1 without answer")
    assert found.endswith("workers: 1 busy, 1 silent, 1 dead")
