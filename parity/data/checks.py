"""Checks of queries and targets: what cannot be right is refused in one sentence, before any work.

``where`` is how a sentence names the data: "the test data of MNIST", "val_data".
"""

import torch
from torch import Tensor

from parity.errors import ParityError
from parity.tasks import Task
from parity.tasks.checks import check_dense, check_finite, dtype_name


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
            f"{where}: queries are numbers, not {dtype_name(found)}: convert them, to torch.float32 for example."
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
            f"{where}: queries are {dtype_name(found)}, and networks take float32: hand over queries.float()."
        )
    return found


def check_targets(targets: object, task: Task, where: str) -> Tensor:
    """Return targets as the task measures them, e.g. classes as int64 (N,); see ``Task.checked``.

    Args:
        targets: of N queries.
        task: what they are targets of.
        where: names the data.

    Raises:
        ParityError: there are none, or they are of another type, shape or range, or not finite.
    """
    found = _tensor(targets, "targets", where)
    return task.checked(found, where)


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


def _tensor(values: object, what: str, where: str) -> Tensor:
    if not isinstance(values, Tensor):
        raise ParityError(
            f"{where}: {what} should be a tensor, not {type(values).__name__}: hand over torch.as_tensor({what})."
        )
    check_dense(values, what, where)
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


def _sides(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
