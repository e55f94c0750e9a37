"""What decoders remember of erasure patterns, so that the next group with the same pattern is decoded at once."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch

Pattern = tuple[bool, ...]
"""A row of ``available``, as a key."""

_CPU = torch.device("cpu")

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class PatternCache(Generic[Value]):
    """A bounded dictionary by pattern and device: after a model moves, what was made for its old device is not found.

    It is not part of a state dict, and copied or pickled with its decoder it becomes an empty one: what it holds can be
    made again.

    Args:
        most: entries; when there are as many, all are dropped.
    """

    def __init__(self, most: int = 1 << 12) -> None:
        self.most = most
        self._entries: dict[tuple[Hashable, torch.device], Value] = {}

    def get(self, pattern: Key, make: Callable[[Key], Value], device: torch.device = _CPU) -> Value:
        """Return what belongs to a pattern, or another key, on a device; what is not there, ``make`` and keep."""
        key = pattern, device
        found = self._entries.get(key)
        if found is None:
            found = make(pattern)
            if len(self._entries) >= self.most:
                self._entries.clear()
            self._entries[key] = found
        return found

    def __contains__(self, pattern: Pattern) -> bool:
        return (pattern, _CPU) in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.most,)
