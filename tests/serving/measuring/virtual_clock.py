"""An event loop whose clock jumps to what is due next: time costs nothing, and is the same in every run."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0 and passes only when there is nothing else to do."""

    def __init__(self) -> None:
        self._virtual = 0.0
        selector = selectors.DefaultSelector()
        self._select = selector.select
        selector.select = self._jump  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual

    def _jump(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("nothing is due any more, and something is still waited for")
        ready = self._select(0)
        if not ready:
            self._virtual += timeout
        return ready


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine under a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
