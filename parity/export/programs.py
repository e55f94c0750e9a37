"""Networks as programs: traced by ``torch.export`` for any batch size, and as ONNX."""

import importlib.util
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from parity.coders import Decoder
from parity.errors import DamagedFileError, ParityError, cause

_EXAMPLES = 3
"""Batch size of the example: torch takes 0 and 1 for constants."""

_OF_ONNX = ("onnx", "onnxscript")


class AnyPattern(nn.Module):
    """A decoder's ``decode_any`` as a module.

    Args:
        decoder: which can be traced.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder.traceable()

    def forward(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
        """Decode: (G, m, *P), (G, n - m, *P'), bool (G, n) -> (G, k, *P) and bool (G, k)."""
        return self.decoder.decode_any(base_outputs, parity_outputs, available)


def trace(module: nn.Module, what: str, *inputs: tuple[Sequence[int], torch.dtype]) -> ExportedProgram:
    """Trace a module for batches of any size.

    Args:
        module: in eval mode, on the CPU.
        what: what it is, for messages.
        inputs: for each input the shape after the batch, and the type.

    Raises:
        ParityError: it branches on values, or on the batch size.
    """
    batch = Dim("batch")
    examples = tuple(torch.zeros(_EXAMPLES, *shape, dtype=dtype) for shape, dtype in inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(module, examples, dynamic_shapes=tuple({0: batch} for _ in inputs))
    except Exception as error:  # whatever the module's own code leads the tracer to
        raise ParityError(
            f"{what} cannot be exported, torch.export does not trace it: let it not branch on values, and use "
            f"x.shape[0] in place of len(x) ({cause(error)})."
        ) from error
    for node in program.graph.nodes:  # which name folders of this machine
        node.meta.pop("stack_trace", None)
    return program


def save_program(program: ExportedProgram, file: Path | io.BytesIO) -> None:
    """Write a program for ``torch.export.load``."""
    with _quiet():
        torch.export.save(program, file)


def can_write_onnx() -> bool:
    """Return whether the packages of the extra 'export' are installed."""
    return all(importlib.util.find_spec(name) for name in _OF_ONNX)


def save_onnx(program: ExportedProgram, path: Path, what: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a program as ONNX, weights in the same file.

    Args:
        program: as ``trace`` returns it.
        path: of the file.
        what: what it is, for messages.
        inputs, outputs: their names.

    Raises:
        ParityError: an operation has no counterpart in ONNX.
    """
    try:
        with _quiet():
            made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
            assert made is not None  # it is with dynamo=True
            for node in made.model.graph.all_nodes():
                node.metadata_props.clear()  # stack traces
            made.save(path, external_data=False)
    except Exception as error:
        raise ParityError(
            f"{what} cannot be written as ONNX: leave ONNX out, with --no-onnx or onnx=False ({cause(error)})."
        ) from error


def load_program(content: bytes, path: Path) -> ExportedProgram:
    """Load a program whose bytes are known to be those that were written.

    What torch would unpickle is refused; a program is code all the same, see docs/export.md.

    Args:
        content: of the file.
        path: where it lies, for messages.

    Raises:
        ParityError: it holds pickled objects, or is not a program that this version of torch reads.
    """
    try:
        if _has_pickles(content):
            raise ParityError(f"{path} holds pickled objects, which could run code: it was refused.")
        with _quiet():
            return torch.export.load(io.BytesIO(content))
    except ParityError:
        raise
    except Exception as error:
        raise DamagedFileError(
            f"{path} is not a program that torch {torch.__version__} reads: export it again ({cause(error)})."
        ) from error


def _has_pickles(content: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                payloads = json.loads(archive.read(name))["config"]
                if any(payload["use_pickle"] for payload in payloads.values()):
                    return True
            elif "/sample_inputs/" in name:
                # torch falls back to a plain pickle where this fails.
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch logs and warns of itself from the user: what is wrong ends in one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
