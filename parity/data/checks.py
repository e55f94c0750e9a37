"""Checks of queries and targets: what cannot be right is refused in one sentence, before any work.

``where`` is how a sentence names the data: "the test data of MNIST", "val_data".
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from parity.errors import ParityError
from parity.tasks import Classification, Localisation, Task

_ROWS_PER_CHECK = 1024


def check_queries(queries: object, shape: tuple[int, ...], where: str) -> Tensor:
    """Return queries that have the shape they should have and are all finite, as they are.

    Args:
        queries: (N, *Q), of any numeric type.
        shape: Q.
        where: names the data.

    Raises:
        ParityError: they are not a tensor, none, of another shape, complex or bool, or not finite.
    """
    found = _tensor(queries, "queries", where)
    if found.is_complex() or found.dtype == torch.bool:
        raise ParityError(
            f"{where}: queries are numbers, not {_name(found.dtype)}: convert them, to torch.float32 for example."
        )
    if tuple(found.shape[1:]) != shape or found.ndim == 0:
        raise ParityError(
            f"{where}: queries should have the shape (N, {_sides(shape)}), not {tuple(found.shape)}"
            f"{_remedy_for_shape(tuple(found.shape), shape)}."
        )
    check_finite(found, "queries", where)
    return found


def check_network_inputs(queries: object, shape: tuple[int, ...], where: str) -> Tensor:
    """Return queries that a network can take as they are: as ``check_queries``, and float32 or of half precision.

    Raises:
        ParityError: see ``check_queries``; or they are of another type.
    """
    found = check_queries(queries, shape, where)
    if found.dtype == torch.uint8:
        raise ParityError(f"{where}: queries are uint8, and networks take float32: hand over queries.float() / 255.")
    if found.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ParityError(
            f"{where}: queries are {_name(found.dtype)}, and networks take float32: hand over queries.float()."
        )
    return found


def check_targets(targets: object, task: Task, where: str) -> Tensor:
    """Return targets that the task can use: classes as int64 (N,), boxes as float32 (N, 4), others as they are.

    Classes may be integers of any width, (N,) or (N, 1); bool is taken for two classes.

    Args:
        targets: of N queries.
        task: what they are targets of.
        where: names the data.

    Raises:
        ParityError: there are none, or they are of another type, shape or range, or not finite.
    """
    found = _tensor(targets, "targets", where)
    if isinstance(task, Classification):
        return _classes(found, task.prediction_shape[0], where)
    if isinstance(task, Localisation):
        return _boxes(found, where)
    check_finite(found, "targets", where)
    return found


def check_counts(queries: Tensor, targets: Tensor, where: str) -> None:
    """Refuse a number of queries that is not that of targets.

    Raises:
        ParityError: the two differ.
    """
    if len(queries) != len(targets):
        raise ParityError(
            f"{where}: there are {len(queries)} queries and {len(targets)} targets: every query has one target, in the "
            "same order."
        )


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


def _classes(targets: Tensor, classes: int, where: str) -> Tensor:
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    if targets.ndim == 2 and (targets.shape[1] == classes or is_one_hot(targets)):
        raise ParityError(
            f"{where}: targets of shape {tuple(targets.shape)} look one-hot, and classes are numbers, (N,): hand "
            "over targets.argmax(1)."
        )
    if targets.ndim != 1:
        raise ParityError(
            f"{where}: targets should be the numbers of classes, of shape (N,), not {tuple(targets.shape)}."
        )
    if targets.is_floating_point() or targets.is_complex():
        raise ParityError(
            f"{where}: targets are {_name(targets.dtype)}, and classes are integers: hand over targets.long()."
        )
    if targets.dtype == torch.bool and classes != 2:
        raise ParityError(
            f"{where}: targets are bool, which stands for two classes, not {classes}: hand over integers."
        )
    numbers = targets.long()
    least, greatest = int(numbers.min()), int(numbers.max())
    if least < 0 or greatest >= classes:
        raise ParityError(
            f"{where}: targets run from {least} to {greatest}, and {classes} classes are numbered 0 to {classes - 1}: "
            f"{_remedy_for_range(least, greatest, classes)}."
        )
    return numbers


def is_one_hot(targets: Tensor) -> bool:
    """Return whether every target (N, C), C at least 2, is one 1 among zeros."""
    if targets.ndim != 2 or targets.shape[1] < 2 or targets.is_complex():
        return False
    ones = targets == 1
    return bool((ones | (targets == 0)).all() and (ones.sum(1) == 1).all())


def _remedy_for_range(least: int, greatest: int, classes: int) -> str:
    if least > 0 and greatest - least < classes:
        return f"subtract {least}"
    if least < 0 <= greatest < classes:
        return f"remove the queries whose target is {least}, or number that class from 0"
    return "number the classes from 0, or declare as many classes as there are"


def _boxes(targets: Tensor, where: str) -> Tensor:
    if targets.ndim != 2 or targets.shape[1] != 4:
        raise ParityError(
            f"{where}: targets should be boxes (x, y, w, h), of shape (N, 4), not {tuple(targets.shape)}."
        )
    if not targets.is_floating_point():
        raise ParityError(
            f"{where}: targets are {_name(targets.dtype)}, and boxes are floats, scaled as parity.tasks.to_box does."
        )
    check_finite(targets, "targets", where)
    return targets.float()


def _tensor(values: object, what: str, where: str) -> Tensor:
    if not isinstance(values, Tensor):
        raise ParityError(
            f"{where}: {what} should be a tensor, not {type(values).__name__}: hand over torch.as_tensor({what})."
        )
    if values.ndim == 0 or len(values) == 0:
        raise ParityError(f"{where}: there are no {what}.")
    return values


def _remedy_for_shape(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    inner = found[1:]
    if len(shape) == 3 and inner == (*shape[1:], shape[0]):
        return ": channels come first, hand over queries.permute(0, 3, 1, 2)"
    if len(shape) == 3 and (1, *inner) == shape:
        return ": hand over queries.unsqueeze(1)"
    if found == shape:
        return ": a batch of one is queries.unsqueeze(0)"
    if torch.Size(inner).numel() == torch.Size(shape).numel():
        return f": hand over queries.reshape(-1, {_sides(shape)})"
    return ": resize them, or declare their shape"


def _parts(values: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Return a large tensor part by part, so that a check of it needs little memory."""
    return ((first, values[first : first + _ROWS_PER_CHECK]) for first in range(0, len(values), _ROWS_PER_CHECK))


def _sides(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
