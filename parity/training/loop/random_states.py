"""The states of this process's random generators, kept and set again."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Return the states of this process's random generators, as plain types and tensors."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (algorithm, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set all random generators to what ``random_states`` returned."""
    put_random_states(states, random, np.random, torch.default_generator)
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def put_random_states(states: dict[str, Any], of_python: Any, of_numpy: Any, of_torch: torch.Generator) -> None:
    """Set the states of some generators alone, of the interfaces that are named here."""
    version, keys, gauss = states["python"]
    of_python.setstate((version, tuple(keys), gauss))
    of_numpy.set_state(tuple(states["numpy"]))
    of_torch.set_state(states["torch"])


def drawn_aside(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items; the random numbers that making them takes leave all generators as they were."""
    own, iterator = random_states(), None
    while True:
        before = random_states()
        set_random_states(own)
        try:
            iterator = iter(items) if iterator is None else iterator
            item = next(iterator)
        except StopIteration:
            return
        finally:
            own = random_states()
            set_random_states(before)
        yield item
