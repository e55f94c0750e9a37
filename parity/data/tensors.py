"""Numbers as users have them, as tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.errors import ParityError, in_one_line
from parity.tasks.checks import check_dense

_WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def to_tensor(values: Any, what: str, where: str) -> Tensor:
    """Return a tensor, an array, or a list of numbers, arrays or tensors, as a dense tensor.

    Unsigned integers of more than 8 bits, which torch hardly computes with, become int64.

    Args:
        values: in any of these forms, of any byte order.
        what: "queries" or "targets".
        where: names the data.

    Raises:
        ParityError: they are none of these, or sparse, quantised, without values, or some are masked.
    """
    if _is_masked(values):
        raise ParityError(
            f"{where}: some of the {what} are masked: remove these rows, or replace them by numbers, with .filled(0)."
        )
    try:
        if isinstance(values, list | tuple) and values and all(isinstance(value, Tensor) for value in values):
            values = torch.stack(list(values))
        if hasattr(values, "getbands"):
            raise TypeError("a PIL image: give the data set transform=torchvision.transforms.ToTensor()")
        if not isinstance(values, Tensor):
            array = np.asarray(values)
            if array.dtype.kind in "US":
                remedy = "number the classes, from 0" if what == "targets" else "turn it into numbers"
                raise TypeError(f"{str(array.flat[0])!r:.40} is a text: {remedy}")
            native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
            values = torch.from_numpy(native).reshape(array.shape)
    except (TypeError, ValueError, RuntimeError) as error:
        why = in_one_line(error).rstrip(".")
        raise ParityError(
            f"{where}: {what} should be a tensor or an array of numbers, not a {type(values).__name__} ({why})."
        ) from error
    check_dense(values, what, where)
    return values.long() if values.dtype in _WIDE_UNSIGNED else values


def _is_masked(values: Any) -> bool:
    """Whether numpy's mask hides some values, which ``np.asarray`` would take no notice of."""
    if isinstance(values, list | tuple):
        return any(isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value) for value in values)
    return isinstance(values, np.ma.MaskedArray) and bool(np.ma.is_masked(values))
