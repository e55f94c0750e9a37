"""What a process's pipe must not do."""

import threading
import time
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pytest

from parity.serving.pools import processes


class Slow:
    """An end of a pipe that takes its time to write."""

    def __init__(self, end: "Connection[Any, Any]", writing: threading.Event) -> None:
        self._end, self._writing = end, writing
        self.was_closed: list[bool] = []

    def send_bytes(self, data: bytes) -> None:
        self._writing.set()
        time.sleep(0.5)  # in which the other end goes
        self.was_closed.append(self._end.closed)
        self._end.send_bytes(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._end, name)

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()


def test_a_dead_workers_pipe_is_not_closed_while_something_writes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another file's by then, and what is written end up there."""
    writing, ended, make = threading.Event(), threading.Event(), processes.Pipe
    pipes: list[Slow] = []

    def slow_pipe() -> tuple[Slow, "Connection[Any, Any]"]:
        ours, theirs = make()
        pipes.append(Slow(ours, writing))
        return pipes[0], theirs

    monkeypatch.setattr(processes, "Pipe", slow_pipe)
    reports: Any = SimpleNamespace(answered=lambda outcome: None, died=lambda why: ended.set())
    worker: Any = processes._Process("worker", b"", 1, reports)
    assert writing.wait(60)
    worker.kill()
    assert ended.wait(60)
    assert pipes[0].was_closed == [False]
    assert pipes[0].closed
