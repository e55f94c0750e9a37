"""Tensors that take long to compute, kept on disk for later runs."""

import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from parity.errors import in_one_line

log = logging.getLogger(__name__)

_NAME = "queries"
_CHECKSUM = "crc32"


def cached(path: Path, shape: tuple[int, ...], compute: Callable[[], Tensor]) -> Tensor:
    """Return the tensor that lies in a file; where there is none, compute it and leave it there.

    The file appears whole or not at all. A damaged one is replaced, with a warning; where nothing can be written, there
    is a warning, and the next run computes the tensor again.

    Args:
        path: of the file. Its name must change with everything that the tensor depends on.
        shape: of the tensor, which is float32.
        compute: makes it.
    """
    if (tensor := _read(path, shape)) is None:
        tensor = compute()
        _write(path, tensor)
    return tensor


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    try:
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            tensor, written = file.get_tensor(_NAME), file.metadata()
    except (OSError, SafetensorError) as error:
        reason = in_one_line(error)
    else:
        if (tensor.shape, tensor.dtype, written) == (shape, torch.float32, _description(tensor)):
            return tensor
        reason = "its content is not what was written"
    log.warning("%s cannot be used, so its content is computed again (%s).", path, reason)
    return None


def _write(path: Path, tensor: Tensor) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            usual_mode = temporary.stat().st_mode
            save_file({_NAME: tensor}, temporary, metadata=_description(tensor))
            temporary.chmod(usual_mode)  # safetensors lets nobody else read it, but data sets are shared
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = in_one_line(error)
        log.warning("%s cannot be written, so its content is computed again in every run (%s).", path, reason)


def _description(tensor: Tensor) -> dict[str, str]:
    return {_CHECKSUM: f"{zlib.crc32(tensor.numpy().data):08x}"}
