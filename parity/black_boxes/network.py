"""A program as the base model of a code: it is asked, and never copied or trained."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from parity.black_boxes.answers import Answers
from parity.black_boxes.programs import Asked
from parity.errors import ParityError, cause
from parity.terminal import progress

_AT_ONCE = 256
_PROBES = 16
_COMPARED = 64
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


class BlackBox(nn.Module):
    """A program that is asked in batches; what it predicted is kept by the hash of the query, while it is trained with.

    At its first queries it is asked more than once, in another order and one by one, for a program whose predictions
    depend on what came before cannot be protected.

    Args:
        program: as ``opened`` returns it.
        select: chooses the prediction among what it returns; None where that is one array.
        folder: where predictions are kept, beside those of other programs; None keeps them in memory.
        keeping: whether all predictions are kept from now on, and not only the last ones remembered; ``kept`` does so
            for a while.
    """

    def __init__(
        self,
        program: Asked,
        select: Callable[[Any], Any] | None = None,
        folder: Path | None = None,
        keeping: bool = False,
    ) -> None:
        super().__init__()
        self.program, self.select, self.folder, self.keeping = program, select, folder, keeping
        # Part of the state dict, so that models of two programs are not taken for the same.
        self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))
        self.digest: Tensor
        self._identify(self.program.ask)
        self._answers: Answers | None = None
        self._seconds: float | None = None

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.program.name

    def __deepcopy__(self, memo: dict[int, Any]) -> "BlackBox":
        return self  # a program has nothing that can be changed

    @property
    def kept_content(self) -> bytes | None:
        """What an artefact keeps of an ONNX file: all of it, unless a function of a user's chooses the prediction."""
        return self.program.content if self.select is None else None

    @property
    def kept_program(self) -> ExportedProgram | None:
        """What an artefact keeps of an exported program, likewise; it has to take batches of any size."""
        return self.program.program if self.select is None and self.program.batch is None else None

    @property
    def is_kept(self) -> bool:
        """Whether an artefact can keep the program, so that it is loaded with it."""
        return self.kept_content is not None or self.kept_program is not None

    def described(self, query_shape: Sequence[int], ids: bool) -> dict[str, Any]:
        """Return what an artefact's manifest has of it: its name, the output that is asked for, a few predictions.

        Args:
            query_shape: Q.
            ids: whether queries are ids of tokens.
        """
        found = None if self.is_kept else probed(self, query_shape, ids)
        predictions = {} if found is None else {"predictions": found.tolist()}
        return {"name": self.name, "output": self.program.output, **predictions}

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds of one query; NaN where they cannot be counted."""
        return torch.nan if self.program.multiply_adds is None else self.program.multiply_adds

    @property
    def kept_in(self) -> Path | None:
        """The folder of what is kept of this program, once it was asked; None where nothing is."""
        return None if self._answers is None else self._answers.folder

    def train(self, mode: bool = True) -> "BlackBox":
        return super().train(False)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P).

        Raises:
            ParityError: it cannot take them, or its predictions depend on what came before.
        """
        asked = _array(queries)
        answers = self._answers or self._opened(asked[:_PROBES])
        unknown = answers.unknown(asked)
        if unknown <= _AT_ONCE:
            return torch.from_numpy(answers.of(asked, self._ask, _AT_ONCE, self.keeping)).to(queries.device)
        with progress(f"asking {self.name}", unknown) as advance:

            def ask(part: np.ndarray) -> np.ndarray:
                predictions = self._ask(part)
                advance(len(part))
                return predictions

            return torch.from_numpy(answers.of(asked, ask, _AT_ONCE, self.keeping)).to(queries.device)

    def seconds_per_query(self, queries: Tensor) -> float:
        """Return how long the program takes for each of these queries (B, *Q), asked together: the least of three."""
        asked, times = _array(queries), []
        for _ in range(3):
            begun = time.perf_counter()
            self._ask(asked)
            times.append(time.perf_counter() - begun)
        return min(times) / len(asked)

    def check(self, queries: Tensor) -> None:
        """Ask a few of these queries (B, *Q) again, in another order and one by one.

        Raises:
            ParityError: the predictions differ, among each other or from those that were kept.
        """
        probes = _array(queries[:_PROBES])
        asked_again(self._ask, probes, self.name, self(torch.from_numpy(probes)).numpy())

    def _opened(self, probes: np.ndarray) -> Answers:
        """Return what is known of the program, which is recognised by its file, or by what it predicts for a few."""
        first = asked_again(self._ask, probes, self.name)
        digest = self._identify(probes, first)
        self._answers = Answers(None if self.folder is None else self.folder / digest.hex()[:16])
        return self._answers

    def _identify(self, *found: Any) -> bytes:
        """Set and return what the program is recognised by: its file, where that is all of it, or what is found of it.

        Args:
            found: what it predicts for which queries; before it was asked, the object that is asked.
        """
        program, known = self.program, hashlib.sha256()
        whole = program.content is not None and self.select is None
        known.update(self.name.encode() if program.content is None else program.content)
        if program.outputs > 1:
            known.update(str(program.output).encode())
        for each in () if whole else found:
            known.update(each.tobytes() if isinstance(each, np.ndarray) else str((id(each), id(self.select))).encode())
        digest = known.digest()
        self.digest.copy_(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        return digest

    def _ask(self, queries: np.ndarray) -> np.ndarray:
        """Ask for queries (B, *Q), in batches of the one size that the program takes, if it has one: (B, *P)."""
        size = self.program.batch
        if size is None:
            return self._ask_at_once(queries)
        filled = np.concatenate([queries, np.repeat(queries[-1:], -len(queries) % size, 0)])
        parts = [self._ask_at_once(filled[start : start + size]) for start in range(0, len(filled), size)]
        return np.concatenate(parts)[: len(queries)]

    def _ask_at_once(self, queries: np.ndarray) -> np.ndarray:
        shape = queries.shape[1:]
        try:
            returned = self.program.ask(np.ascontiguousarray(queries))
            chosen = returned if self.select is None else self.select(_as_tensors(returned))
        except ParityError:
            raise
        except Exception as error:  # of a user's own program
            raise ParityError(
                f"{self.name} cannot take queries of shape {shape}, as float32 ({cause(error).rstrip('.')})."
            ) from error
        if isinstance(chosen, tuple | list | Mapping):
            raise ParityError(
                f"{self.name} returns a {type(chosen).__name__} of {len(chosen)} parts, not one array: choose the "
                "predictions by output=, an index, a key or a function, or let it return np.array(...), a row for each "
                "query."
            )
        predictions = _dense(chosen)
        if predictions.dtype.kind != "f":
            kind = predictions.dtype if predictions.dtype.kind in "biuc" else f"a {type(chosen).__name__}"
            raise ParityError(
                f"{self.name} returns {kind}, and codes rebuild floats: let it return logits or "
                "probabilities, and not the class."
            )
        if predictions.ndim < 2 or len(predictions) != len(queries) or not predictions.size:
            raise ParityError(
                f"{self.name} returns {predictions.shape} for {len(queries)} queries, expected a prediction for each, "
                f"({len(queries)}, *P): choose or reshape it by output=lambda returned: ..."
            )
        if not np.isfinite(predictions).all():
            raise ParityError(
                f"{self.name} returns predictions that are NaN or infinite: scale the queries as it was made for, and "
                "bound what it returns, output=lambda returned: returned.clamp(-1e4, 1e4) for logits."
            )
        return predictions.astype(np.float32)


@contextmanager
def kept(network: nn.Module) -> Iterator[None]:
    """Within this block all that the black boxes of a network predict is kept, as for training on it."""
    boxes = {module: module.keeping for module in network.modules() if isinstance(module, BlackBox)}
    for box in boxes:
        box.keeping = True
    try:
        yield
    finally:
        for box, before in boxes.items():
            box.keeping = before


def asked_again(
    ask: Callable[[np.ndarray], np.ndarray], probes: np.ndarray, name: str, before: np.ndarray | None = None
) -> np.ndarray:
    """Return predictions that are the same however they are asked for.

    Args:
        ask: (B, *Q) -> (B, *P).
        probes: queries, (B, *Q).
        name: of what is asked.
        before: what it predicted for them before, if it did.

    Returns:
        (B, *P).

    Raises:
        ParityError: they differ.
    """
    first = ask(probes)
    again = ask(np.ascontiguousarray(probes[::-1]))[::-1]
    alone = np.concatenate([ask(probe[None]) for probe in probes[:4]])
    if not (_alike(first, again) and _alike(first[:4], alone) and (before is None or _alike(first, before))):
        raise ParityError(
            f"{name} predicts something else when it is asked again, in another order or one by one: its predictions "
            "depend on what came before or beside a query, or on chance, and cannot be rebuilt."
        )
    return first


def _array(queries: Tensor) -> np.ndarray:
    """Return queries as a program takes them: float32, or integers, which are ids of tokens."""
    kept = queries.detach().cpu()
    return np.ascontiguousarray((kept.float() if kept.is_floating_point() else kept).numpy())


def _dense(chosen: Any) -> np.ndarray:
    """Return predictions as an array, of whatever form and precision."""
    if not isinstance(chosen, Tensor):
        return np.asarray(chosen.toarray() if hasattr(chosen, "toarray") else chosen)  # of scipy, where it is sparse
    dense = (chosen if chosen.layout is torch.strided else chosen.to_dense()).detach().cpu()
    return (dense.float() if dense.is_floating_point() and dense.dtype is not torch.float64 else dense).numpy()


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    return np.allclose(first, second, _RELATIVE, _ABSOLUTE, equal_nan=True)


@torch.no_grad()
def probed(network: nn.Module, query_shape: Sequence[int], ids: bool) -> np.ndarray | None:
    """Return what a base model predicts for fixed queries, to recognise it by; None where it cannot take them.

    Args:
        network: (B, *Q) -> (B, *P), in eval mode.
        query_shape: Q.
        ids: whether queries are ids of tokens.

    Returns:
        The first numbers of each prediction, (B, at most 64).
    """
    rising = torch.linspace(0, 1, math.prod(query_shape)).view(1, *query_shape)
    queries = torch.ones(1, *query_shape, dtype=torch.int64) if ids else torch.cat([rising, 1 - rising])
    device = next((weight.device for weight in network.parameters()), "cpu")
    try:
        predictions = network(queries.to(device))
        return predictions.flatten(1)[:, :_COMPARED].float().cpu().numpy()
    except Exception:  # of a user's own network, or a program's
        return None


def is_probed(found: np.ndarray | None, stated: Any) -> bool:
    """Return whether two base models predict the same, up to rounding in another precision, as far as it is known."""
    if found is None or stated is None:
        return True
    expected = np.asarray(stated, np.float32)
    return found.shape == expected.shape and np.allclose(found, expected, 1e-2, 1e-2 * float(np.abs(expected).max()))


def _as_tensors(returned: Any) -> Any:
    """Return arrays as tensors, for a user's function that chooses among them."""
    if isinstance(returned, Mapping):
        return {name: _as_tensors(value) for name, value in returned.items()}
    if isinstance(returned, tuple | list):
        return [_as_tensors(value) for value in returned]
    return torch.from_numpy(returned) if isinstance(returned, np.ndarray) else returned
