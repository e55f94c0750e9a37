"""Predictions of a program, kept by the hash of their query: in memory, and in a folder."""

import hashlib
import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from parity.storage.files import written_whole

log = logging.getLogger(__name__)


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
        for path in sorted(folder.glob("*.safetensors")) if folder is not None and folder.is_dir() else ():
            try:
                found = load_file(path)
                self._known |= dict(zip(map(bytes, found["queries"]), found["predictions"], strict=True))
            except (SafetensorError, KeyError, ValueError) as error:
                log.warning("%s is damaged (%s): its queries are asked again", path, error)

    def of(self, queries: np.ndarray, ask: Callable[[np.ndarray], np.ndarray], at_once: int) -> np.ndarray:
        """Return predictions (B, *P) for queries (B, *Q); those that are not known are asked, each once.

        Args:
            queries: contiguous.
            ask: (b, *Q) -> (b, *P).
            at_once: how many are asked, and written, together.
        """
        hashes = [hashlib.sha256(query.tobytes()).digest() for query in queries]
        unknown = list({name: index for index, name in enumerate(hashes) if name not in self._known}.values())
        for start in range(0, len(unknown), at_once):
            rows = unknown[start : start + at_once]
            predictions = ask(queries[rows])
            self._keep([hashes[row] for row in rows], predictions)
        return np.stack([self._known[name] for name in hashes])

    def unknown(self, queries: np.ndarray) -> int:
        """Return how many of these queries (B, *Q) are still to be asked."""
        return len({name for query in queries if (name := hashlib.sha256(query.tobytes()).digest()) not in self._known})

    def _keep(self, hashes: Sequence[bytes], predictions: np.ndarray) -> None:
        self._known |= dict(zip(hashes, predictions, strict=True))
        if self.folder is not None:
            names = np.stack([np.frombuffer(name, np.uint8) for name in hashes])
            with written_whole(self.folder / f"{uuid.uuid4().hex}.safetensors") as temporary:
                save_file({"queries": names, "predictions": np.ascontiguousarray(predictions)}, temporary)
