"""Accuracies as torchmetrics: sums of a task's measures, for each position of a group."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from parity.tasks import Task


class MeanMeasures(Metric):
    """Sums up a task's measures for each position of a group; exact under DDP.

    Args:
        task: what predictions are measured by.
        positions: k, or 1 for a base model.
    """

    full_state_update = False

    def __init__(self, task: Task, positions: int) -> None:
        super().__init__()
        self.task = task
        self.add_state("sums", torch.zeros(positions, task.statistics, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.sums: Tensor
        self.count: Tensor

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Measure: predictions (G, positions, *P), targets (G, positions, ...)."""
        self.sums += self.task.measure(predictions, targets).sum(0)
        self.count += len(predictions)

    def compute(self) -> dict[str, Tensor]:
        """Return means by name: 'top1', ..., over all, and 'top1_position0', ... of the first for each position."""
        names, means = self.task.measures, self.sums / self.count
        values = dict(zip(names, self.task.summarise(means.mean(0)), strict=True))
        if len(means) > 1:
            values |= {f"{names[0]}_position{position}": row[0] for position, row in enumerate(means)}
        return values


class MeanLoss(Metric):
    """Mean of batches' losses, each counted as often as it has groups; exact under DDP.

    torchmetrics' ``MeanMetric`` waits for the device to look for NaN, and without that forgets the weights.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sum", torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("groups", torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.sum: Tensor
        self.groups: Tensor

    def update(self, losses: Tensor, groups: Tensor | int) -> None:
        """Take in the losses of batches, () or (B,), and their numbers of groups, alike."""
        self.sum += (losses.double() * groups).sum()
        self.groups += groups if isinstance(groups, int) else groups.sum()

    def compute(self) -> Tensor:
        """Return the mean: float32 ()."""
        return (self.sum / self.groups).float()


class Accuracy(nn.Module):
    """What is counted of one split: ``update`` it with a batch's outputs, ``compute`` all values by name, ``reset``."""

    monitor: str
    """Name of the value by which the best checkpoint is chosen."""
    shown: dict[str, str]
    """Names of the values that a progress bar shows, by what it calls them."""
    update: Callable[..., None]

    def compute(self) -> dict[str, Tensor]:
        """Return the accuracies by name."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget what was counted."""
        for metric in self._metrics():
            metric.reset()

    def state(self) -> list[dict[str, Tensor]]:
        """Return what was counted so far, on the CPU."""
        return [
            {name: value.cpu() for name, value in metric.metric_state.items() if isinstance(value, Tensor)}
            for metric in self._metrics()
        ]

    def set_state(self, state: list[dict[str, Tensor]]) -> None:
        """Resume from what ``state`` returned."""
        for metric, values in zip(self._metrics(), state, strict=True):
            for name, value in values.items():
                setattr(metric, name, value.to(metric.device))
            metric._update_count = 1  # what its ``update`` would have noted

    def _metrics(self) -> list[Metric]:
        return [metric for metric in self.children() if isinstance(metric, Metric)]


class BaseAccuracy(Accuracy):
    """Accuracy of a base model against true labels: ``top1``, ``top2``, ... or what else its task measures.

    Args:
        task: of the base model.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.monitor = task.measures[0]
        self.shown = {task.symbols[0]: self.monitor}
        self.against_labels = MeanMeasures(task, positions=1)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count: predictions (B, *P), targets (B, ...)."""
        self.against_labels.update(predictions.unsqueeze(1), targets.unsqueeze(1))

    def compute(self) -> dict[str, Tensor]:
        return self.against_labels.compute()


class ReconstructionAccuracy(Accuracy):
    """Accuracy of what is rebuilt when one prediction is missing: A_d (``overall``) and ``reconstruction`` accuracy.

    ``overall_top1`` is A_d, against true labels; ``reconstruction_top1`` is against the base model's predictions.

    Args:
        task: of the base model.
        k: queries in a coding group.
    """

    def __init__(self, task: Task, k: int) -> None:
        super().__init__()
        self.task = task
        self.monitor = f"reconstruction_{task.measures[0]}"
        self.shown = {task.symbols[1]: f"overall_{task.measures[0]}"}
        self.overall = MeanMeasures(task, k)
        self.reconstruction = MeanMeasures(task, k)

    def update(self, reconstructions: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Count.

        Args:
            reconstructions: (G, k, *P), each as rebuilt when it alone is missing.
            predictions: (G, k, *P), the base model's.
            targets: (G, k, ...), true labels.
        """
        self.overall.update(reconstructions, targets)
        self.reconstruction.update(reconstructions, self.task.as_targets(predictions))

    def compute(self) -> dict[str, Tensor]:
        return {
            f"{name}_{measure}": value
            for name, metric in (("overall", self.overall), ("reconstruction", self.reconstruction))
            for measure, value in metric.compute().items()
        }


def with_prefix(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name values of one split: 'val', {'top1': ...} -> {'val/top1': ...}."""
    return {f"{prefix}/{name}": value for name, value in values.items()}


_LESS_IS_BETTER = ("loss", "error", "mse", "rmse", "mae", "nll")


def less_is_better(name: str) -> bool:
    """Whether a logged name is of a loss or an error: its last part ends in loss, error, mse, rmse, mae or nll."""
    return name.rpartition("/")[2].lower().endswith(_LESS_IS_BETTER)
