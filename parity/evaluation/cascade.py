"""A smaller network that answers first: the base model is only asked where it is not sure enough.

What a backup does for availability, this does for cost: it belongs beside the codes wherever a smaller network is at
hand, since the same network could have answered most queries alone. What users get where outputs are missing takes a
failure as noticed at once: that a query the smaller network is not sure of waits for two workers, one after the other,
is not in it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from parity.data import GroupLoader
from parity.errors import ParityError
from parity.evaluation.code_evaluation import CORRELATION, SLOW
from parity.evaluation.costs import multiply_adds
from parity.evaluation.intervals import WITHIN, paired_interval
from parity.tasks import Task

LOST = 0.001
"""What a cascade may lose of the base model's accuracy, on the data that its threshold is chosen on."""


@dataclass(frozen=True)
class Answers:
    """What both networks predict for the same queries.

    Args:
        sure: the smaller network's largest softmax probability, float64 (N,); -1 where it is NaN.
        first: whether the smaller network is right, float64 (N,).
        base: whether the base model is, float64 (N,).
        default: whether the default prediction is, float64 (N,).
    """

    sure: Tensor
    first: Tensor
    base: Tensor
    default: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: nn.Module, base_model: nn.Module, loader: GroupLoader, task: Task, default: Tensor) -> Self:
        """Ask both networks about all queries that are in groups."""
        found: list[tuple[Tensor, ...]] = []
        for batch in loader.batches():
            queries, targets = batch.queries.flatten(0, 1), batch.targets.flatten(0, 1)
            by_first, by_base = network(queries), base_model(queries)
            given = (by_first, by_base, default.expand_as(by_base))
            sure = by_first.double().softmax(-1).amax(-1).nan_to_num(-1.0)
            found.append((sure, *(task.measure(logits, targets)[:, 0] for logits in given)))
        return cls(*(torch.cat(parts).double().cpu() for parts in zip(*found, strict=True)))

    def threshold(self) -> float:
        """Return from which probability on the first network answers: the lowest that loses at most ``LOST``."""
        order = self.sure.argsort(descending=True)
        gain = (self.first - self.base)[order].cumsum(0) / len(order)
        # Of queries that it is equally sure of, it answers all or none.
        sure = self.sure[order]
        last = torch.cat([sure[1:] != sure[:-1], torch.tensor([True])])
        fits = (last & (gain >= -LOST)).nonzero().flatten()
        return float(sure[fits[-1]]) if len(fits) else math.inf

    def right(self, answers_first: Tensor, base_is_there: float, first_is_there: float) -> Tensor:
        """Return how likely what a user gets is right, float64 (N,), by whether each network's output is available."""
        base = base_is_there * self.base + (1 - base_is_there) * self.default
        second = base_is_there * self.base + (1 - base_is_there) * self.first
        return first_is_there * torch.where(answers_first, self.first, second) + (1 - first_is_there) * base


@torch.no_grad()
def cascades(
    name: str,
    network: nn.Module,
    base_model: nn.Module,
    loader: Callable[[int, str], GroupLoader],
    split: str,
    task: Task,
    default: Tensor,
    backups: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return rows of a comparison with a backup, changed to what a cascade costs and delivers.

    Args:
        name: of the smaller network.
        network: it, in eval mode.
        base_model: the base model, in eval mode.
        loader: gives the groups of k of a split; 'val' is what the threshold is chosen on.
        split: what is measured.
        task: what predictions are measured by.
        default: (*P), what a user gets where neither network's output is available.
        backups: the row at each k of the code in which every query goes to both. Where the base model's output is
            missing, both give the smaller network's: A_d and what is made of it stay.

    Returns:
        The rows. Costs are those beyond the base model's for all queries, and may be negative; extra workers are what
        is sent to more than one. 'without_faults' is what a cascade loses where nothing is missing, with its paired
        interval, and 'answers_first' the share of queries that the base model is not asked about.

    Raises:
        ParityError: the threshold would be chosen on test data, or on the data that is measured.
    """
    calibration = loader(1, "val")
    if calibration.split in ("test", split):
        raise ParityError("a cascade's threshold is chosen on validation data, and measured on other data.")
    threshold = Answers.of(network, base_model, calibration, task, default).threshold()
    query = next(calibration.every_query(1))[1]
    cost = multiply_adds(network, query) / (multiply_adds(base_model, query) or math.nan)
    rows = []
    for backup in backups:
        measured = Answers.of(network, base_model, loader(backup["k"], split), task, default)
        rows.append(_row(name, backup, measured, threshold, cost))
    return rows


def _row(name: str, backup: Mapping[str, Any], measured: Answers, threshold: float, cost: float) -> dict[str, Any]:
    first = measured.sure >= threshold
    share = float(first.double().mean())
    lost = paired_interval(measured.base, measured.right(first, 1.0, 1.0))
    sure = f"sure of {threshold:.1%} or more" if threshold <= 1 else "never sure enough"
    return {
        **backup,
        "name": "cascade",
        "about": f"{name} answers first, {share:.0%} of queries alone ({sure}), and loses {100 * lost.value:.2f} "
        f"points ({100 * lost.low:.2f} to {100 * lost.high:.2f}) without any fault; the base model answers the rest",
        "answers_first": share,
        "without_faults": lost._asdict(),
        "extra_multiply_adds": cost - share,
        **dict.fromkeys(("extra_workers", "extra_bytes_up", "extra_bytes_down"), 1.0 - share),
        "A_o": {f: _overall(measured, first, float(f), backup["n"]) for f in backup["A_o"]},
        **dict.fromkeys(("per_class", "confusion", "calibration", "likelihood")),
        "against": [],
    }  # fmt: skip


def _overall(measured: Answers, first: Tensor, f: float, workers: int) -> dict[str, float]:
    """Return A_o(f), with its interval over queries, beside a slow worker, and where workers fail together."""
    right = measured.right(first, 1 - f, 1 - f)
    mean, margin = float(right.mean()), WITHIN * float(right.std()) / math.sqrt(len(right))
    slow = 1 - min(SLOW * f, 1.0)
    one_of_two = [measured.right(first, *there).mean() for there in ((slow, 1 - f), (1 - f, slow))]
    both = f * f + CORRELATION * f * (1 - f)
    parts = {(1.0, 1.0): 1 - 2 * f + both, (0.0, 1.0): f - both, (1.0, 0.0): f - both, (0.0, 0.0): both}
    return {
        "value": mean, "low": max(mean - margin, 0.0), "high": min(mean + margin, 1.0), "standard_error": 0.0,
        "slow": float(sum(one_of_two) + (workers - 2) * right.mean()) / workers,
        "together": float(sum(weight * measured.right(first, *there).mean() for there, weight in parts.items())),
    }  # fmt: skip
