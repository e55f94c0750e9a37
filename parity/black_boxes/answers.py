"""Predictions of a program, kept by the hash of their query: in memory, and in a folder.

Those of queries that are served are not kept, for there is no end of them: the last are remembered, up to a bound.
"""

import hashlib
import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from parity.storage.files import written_whole

log = logging.getLogger(__name__)

_MOST_BYTES = 64 << 20
"""Of predictions that are remembered and not kept."""
_BESIDE = 200
"""Bytes that one takes beside its numbers, about."""


class Answers:
    """What was predicted so far.

    A file holds the hashes and predictions of those that were asked together, in safetensors: arrays and no code. One
    that is damaged is left out, and its queries are asked again.

    Args:
        folder: of the files, for one program; None keeps them in memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._known: dict[bytes, np.ndarray] = {}
        self._recent: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()
        for path in sorted(folder.glob("*.safetensors")) if folder is not None and folder.is_dir() else ():
            try:
                found = load_file(path)
                self._known |= dict(zip(map(bytes, found["queries"]), found["predictions"], strict=True))
            except (SafetensorError, KeyError, ValueError) as error:
                log.warning("%s is damaged (%s): its queries are asked again", path, error)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_known": self._known}  # a lock cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _recent=OrderedDict(), _bytes=0, _lock=threading.Lock())

    def of(self, queries: np.ndarray, ask: Callable[[np.ndarray], np.ndarray], at_once: int, keep: bool) -> np.ndarray:
        """Return predictions (B, *P) for queries (B, *Q); those that are not known are asked, each once.

        Args:
            queries: contiguous.
            ask: (b, *Q) -> (b, *P).
            at_once: how many are asked, and written, together.
            keep: whether they are kept, and not only remembered for a while.
        """
        hashes = [hashlib.sha256(query.tobytes()).digest() for query in queries]
        found = {name: known for name in hashes if (known := self._find(name)) is not None}
        unknown = list({name: index for index, name in enumerate(hashes) if name not in found}.values())
        for start in range(0, len(unknown), at_once):
            rows = unknown[start : start + at_once]
            predictions = ask(queries[rows])
            names = [hashes[row] for row in rows]
            found |= dict(zip(names, predictions, strict=True))
            (self._keep if keep else self._remember)(names, predictions)
        return np.stack([found[name] for name in hashes])

    def unknown(self, queries: np.ndarray) -> int:
        """Return how many of these queries (B, *Q) are still to be asked."""
        names = {hashlib.sha256(query.tobytes()).digest() for query in queries}
        return sum(self._find(name) is None for name in names)

    def _find(self, name: bytes) -> np.ndarray | None:
        known = self._known.get(name)
        return self._recent.get(name) if known is None else known

    def _remember(self, hashes: Sequence[bytes], predictions: np.ndarray) -> None:
        with self._lock:  # a service's workers are threads
            for name, prediction in zip(hashes, predictions, strict=True):
                if name not in self._recent:
                    self._recent[name] = prediction.copy()  # and not a view of all that were asked together
                    self._bytes += prediction.nbytes + _BESIDE
            while self._bytes > _MOST_BYTES:
                self._bytes -= self._recent.popitem(last=False)[1].nbytes + _BESIDE

    def _keep(self, hashes: Sequence[bytes], predictions: np.ndarray) -> None:
        self._known |= dict(zip(hashes, predictions, strict=True))
        if self.folder is not None:
            names = np.stack([np.frombuffer(name, np.uint8) for name in hashes])
            with written_whole(self.folder / f"{uuid.uuid4().hex}.safetensors") as temporary:
                save_file({"queries": names, "predictions": np.ascontiguousarray(predictions)}, temporary)
