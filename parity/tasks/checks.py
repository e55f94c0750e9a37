"""What every task refuses of targets; ``where`` is how a sentence names the data: "the test data of MNIST"."""

from collections.abc import Iterator

import torch
from torch import Tensor

from parity.errors import ParityError

_ROWS_PER_CHECK = 1024


def check_finite(values: Tensor, what: str, where: str) -> None:
    """Refuse NaN and infinity.

    Args:
        values: (N, ...).
        what: "queries" or "targets".
        where: names the data.

    Raises:
        ParityError: a value is not finite; the first index is named.
    """
    if not values.is_floating_point():
        return
    for first, part in _parts(values):
        finite = part.isfinite().flatten(1).all(1) if part.ndim > 1 else part.isfinite()
        if not finite.all():
            index = first + int(finite.int().argmin())
            kind = "NaN" if values[index].isnan().any() else "infinity"
            raise ParityError(f"{where}: {what} have {kind} at index {index}: remove or replace what is not finite.")


def check_dense(values: Tensor, what: str, where: str) -> None:
    """Refuse tensors whose numbers do not simply lie in memory.

    Args:
        values: of any layout.
        what: "queries" or "targets".
        where: names the data.

    Raises:
        ParityError: they are sparse, nested, quantised, of 8-bit floats, or on the meta device.
    """
    narrow = values.is_floating_point() and values.dtype.itemsize == 1
    for is_so, kind, remedy in (
        (values.is_nested, "a nested tensor", "pad them to one shape"),
        (values.layout is not torch.strided, f"a {str(values.layout).removeprefix('torch.')} tensor",
         f"hand over {what}.to_dense()"),
        (values.is_quantized, "a quantised tensor", f"hand over {what}.dequantize()"),
        (narrow, f"of type {dtype_name(values)}", f"hand over {what}.float()"),
        (values.is_meta, "on the meta device", "hand over their numbers"),
    ):  # fmt: skip
        if is_so:
            raise ParityError(f"{where}: {what} should be a dense tensor of numbers, and are {kind}: {remedy}.")


def check_floats(targets: Tensor, shape: tuple[int, ...], what: str, where: str) -> Tensor:
    """Return finite targets of a shape as float32; (N,) is taken for (N, 1).

    Args:
        targets: (N, *shape).
        shape: of each.
        what: they are, in the plural: "numbers to predict", "embeddings".
        where: names the data.

    Raises:
        ParityError: they are of another shape or type, or not finite.
    """
    if shape == (1,) and targets.ndim == 1:
        targets = targets.unsqueeze(1)
    if tuple(targets.shape[1:]) != shape:
        raise ParityError(
            f"{where}: targets should be {what}, of shape {_of_many(shape)}, not {tuple(targets.shape)}: a target has "
            "the shape of a prediction."
        )
    if targets.is_complex() or targets.dtype == torch.bool:
        raise ParityError(f"{where}: targets are {dtype_name(targets)}, and {what} are floats: convert them.")
    check_finite(targets, "targets", where)
    return targets.float()


def check_classes(numbers: Tensor, classes: int, where: str, ignored: int | None = None) -> None:
    """Refuse classes that are not numbered 0 to C - 1.

    Args:
        numbers: int64, of any shape.
        classes: C.
        where: names the data.
        ignored: a number that stands for no class.

    Raises:
        ParityError: one is out of range.
    """
    counted = numbers if ignored is None else numbers[numbers != ignored]
    if not counted.numel():
        raise ParityError(f"{where}: every target is ignored: hand over targets that are classes.")
    least, greatest = int(counted.min()), int(counted.max())
    if least < 0 or greatest >= classes:
        raise ParityError(
            f"{where}: targets run from {least} to {greatest}, and {classes} classes are numbered 0 to {classes - 1}: "
            f"{_remedy_for_range(least, greatest, classes)}."
        )


def check_integers(targets: Tensor, what: str, where: str) -> Tensor:
    """Return targets of any integer type as int64.

    Raises:
        ParityError: they are of another type.
    """
    if targets.is_floating_point() or targets.is_complex():
        raise ParityError(
            f"{where}: targets are {dtype_name(targets)}, and {what} are integers: hand over targets.long()."
        )
    return targets.long()


def is_one_hot(targets: Tensor) -> bool:
    """Return whether every target (N, C), C at least 2, is one 1 among zeros."""
    if targets.ndim != 2 or targets.shape[1] < 2 or targets.is_complex():
        return False
    ones = targets == 1
    return bool((ones | (targets == 0)).all() and (ones.sum(1) == 1).all())


def dtype_name(values: Tensor) -> str:
    """Return the name of a tensor's type without its module."""
    return str(values.dtype).removeprefix("torch.")


def _remedy_for_range(least: int, greatest: int, classes: int) -> str:
    if least > 0 and greatest - least < classes:
        return f"subtract {least}"
    if least < 0 <= greatest < classes:
        return f"remove the queries whose target is {least}, or number that class from 0"
    return "number the classes from 0, or declare as many classes as there are"


def _of_many(shape: tuple[int, ...]) -> str:
    return f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"


def _parts(values: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Return a large tensor part by part, so that a check of it needs little memory."""
    return ((first, values[first : first + _ROWS_PER_CHECK]) for first in range(0, len(values), _ROWS_PER_CHECK))
