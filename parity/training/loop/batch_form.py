"""What a batch of a user's iterable must be, and how it is made a batch of coding groups."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity.data import GroupBatch
from parity.data.checks import check_counts, check_targets
from parity.data.tensors import to_tensor
from parity.errors import ParityError
from parity.tasks import Task
from parity.tasks.checks import check_finite


@dataclass(frozen=True)
class BatchForm:
    """Checks batches, and makes coding groups of them.

    Tensors, arrays and lists of them are taken. Floats of any width become ``dtype``, classes of any width int64.

    Args:
        k: queries in a group; None where batches are of single queries, (B, *Q), which become groups of one.
        dtype: of the model's parameters.
        task: what targets are of; None leaves them unchecked.
        least: queries or groups that a batch of training data has at least.
        ids: with k, whether queries may be ids of tokens, integers.
        first: the first batch of training data, which all others are like; None for any.
    """

    k: int | None = None
    dtype: torch.dtype = torch.float32
    task: Task | None = None
    least: int = 1
    ids: bool = False
    first: GroupBatch | None = None

    def groups(self, batch: Any, where: str, device: torch.device | str = "cpu") -> GroupBatch:
        """Make coding groups of a batch (queries, targets).

        Args:
            batch: (B, *Q), (B, ...); or with k, (G, k, *Q), (G, k, ...).
            where: names the batch.
            device: where the groups are put.

        Raises:
            ParityError: it is not such a pair, or not of numbers that a model can be trained on.
        """
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            found = f"of {len(batch)} parts" if isinstance(batch, tuple | list) else f"of type {type(batch).__name__}"
            raise ParityError(f"{where}: a batch is a pair (queries, targets) of tensors, not {found}.")
        queries, targets = to_tensor(batch[0], "queries", where), to_tensor(batch[1], "targets", where)
        for what, values in (("queries", queries), ("targets", targets)):
            if values.is_complex():
                raise ParityError(f"{where}: {what} are {_name(values)}, expected real numbers.")
        queries = queries.to(self.dtype) if queries.is_floating_point() else queries
        targets = targets.float() if targets.is_floating_point() else targets
        if not queries.ndim or not targets.ndim:
            raise ParityError(
                f"{where}: this is one query with its target, not a batch: hand over a DataLoader of them."
            )
        check_counts(queries, targets, where)
        if not queries.numel() or not targets.numel():
            raise ParityError(f"{where}: the batch is empty, its queries have the shape {tuple(queries.shape)}.")
        if queries.dtype in (torch.uint8, torch.bool):
            raise ParityError(
                f"{where}: queries are {_name(queries)}, and networks take float32: hand over queries.float() / 255 "
                "for pixels."
            )
        if self.k and not (queries.is_floating_point() or self.ids):
            raise ParityError(
                f"{where}: queries are {_name(queries)}, which this code would add up or resample: hand over "
                "queries.float() for numbers, or for ids of tokens a code of TokenCellsEncoder or EmbeddedEncoder."
            )
        if self.k is not None and not queries.shape[1:2] == targets.shape[1:2] == (self.k,):
            raise ParityError(
                f"{where}: queries and targets come in groups of k = {self.k}, (G, {self.k}, ...), not as "
                f"{tuple(queries.shape)} and {tuple(targets.shape)}."
            )
        for what, values in (("queries", queries), ("targets", targets)):
            # A sum is several times as fast as a look at every number; one on a GPU would have to be waited for.
            if values.device.type == "cpu" and not values.sum().isfinite():
                check_finite(values, what, where)
        if self.k is None:
            queries, targets = queries.unsqueeze(1), targets.unsqueeze(1)
        if self.first is not None:
            self._check_like_first(queries, targets, self.first, where)
        return GroupBatch(
            queries.to(device, non_blocking=True),
            self._targets(targets, where).to(device, non_blocking=True),
            torch.arange(queries.shape[0] * queries.shape[1]).view(queries.shape[:2]),
        )

    def _check_like_first(self, queries: Tensor, targets: Tensor, first: GroupBatch, where: str) -> None:
        """Refuse what cannot be of the same data: networks may take queries of other sides, and codes may not."""
        fixed = self.k is not None or queries.shape[2:] == first.queries.shape[2:]
        checked = [("queries", queries, first.queries, self.k is not None)]
        if self.task is None:  # which would have checked them
            checked.append(("targets", targets, first.targets, fixed))
        for what, values, expected, alike in checked:
            shape, wanted = tuple(values.shape[2:]), tuple(expected.shape[2:])
            is_float = values.is_floating_point()
            if len(shape) != len(wanted) or (alike and shape != wanted) or is_float != expected.is_floating_point():
                raise ParityError(
                    f"{where}: {what} are {_name(values)} of shape {shape}, and to train on {_name(expected)} of shape "
                    f"{wanted}, in the first batch: make all alike."
                )

    def _targets(self, targets: Tensor, where: str) -> Tensor:
        """Check targets (G, k, ...); those on a GPU are not read, which would wait for it."""
        if self.task is None or targets.device.type != "cpu":
            integers = targets.dtype != torch.bool and not targets.is_floating_point()
            return targets.long() if integers else targets
        return check_targets(targets.flatten(0, 1), self.task, where).unflatten(0, targets.shape[:2])


def _name(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
