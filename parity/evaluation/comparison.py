"""Codes side by side: what each rebuilds, what it costs, and what users get, on the same base model and groups."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.data import GroupLoader
from parity.evaluation.accuracies import evaluate_code
from parity.evaluation.code_evaluation import CORRELATION, SLOW, CodeEvaluation
from parity.evaluation.costs import costs
from parity.evaluation.evidence import evidence
from parity.evaluation.intervals import paired_interval
from parity.evaluation.panel import are_images, panel
from parity.tasks import Classification, Task

_BINS = 10
_TIMED_GROUPS = (1, 256)


@dataclass(frozen=True)
class Candidate:
    """A code that is compared.

    Args:
        name: in tables. A code that is compared at several k has the same name at each.
        about: what it is, in a sentence.
        is_trained: whether it needs training, or works for any base model at once.
        model: with its weights, on the loaders' device.
    """

    name: str
    about: str
    is_trained: bool
    model: CodedModel


class Confusions:
    """Counts what is rebuilt where one output is unavailable: true class by rebuilt class."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.counts = torch.zeros(classes, classes, dtype=torch.long, device=device)

    def update(self, rebuilt: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Count: rebuilt (G, p, C), predictions (G, p, C), targets (G, p)."""
        classes = len(self.counts)
        pairs = targets.flatten() * classes + rebuilt.argmax(-1).flatten()
        self.counts.view(-1).index_add_(0, pairs, torch.ones_like(pairs))  # bincount would wait for the device


class Calibration:
    """How often predictions are right, by how sure they are: their largest softmax probability.

    Of what is rebuilt where one output is unavailable, and beside it of the base model's own predictions for the same
    queries: a reconstruction that equals the base model's prediction is calibrated as that is.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = {name: torch.zeros(3, _BINS, dtype=torch.double, device=device) for name in ("rebuilt", "base")}

    def update(self, rebuilt: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Count: rebuilt (G, p, C), predictions (G, p, C), targets (G, p)."""
        for name, logits in (("rebuilt", rebuilt), ("base", predictions)):
            confidence = logits.double().softmax(-1).amax(-1).flatten().nan_to_num(0.0)
            right = (logits.argmax(-1) == targets).flatten().double()
            bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
            for row, values in zip(self.sums[name], (torch.ones_like(confidence), confidence, right), strict=True):
                row += torch.zeros_like(row).index_add_(0, bins, values)

    def summary(self) -> dict[str, Any]:
        """Return for each bin the mean confidence, the share that is right, and how many there are; 'base' likewise."""
        return {**_bins(self.sums["rebuilt"]), "base": _bins(self.sums["base"])}


class Likelihood:
    """Negative log-likelihood and Brier score against true labels, of what is rebuilt and of the base model.

    The Brier score is the squared distance of the class probabilities from the true class's one-hot vector.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = {name: torch.zeros(2, dtype=torch.double, device=device) for name in ("rebuilt", "base")}
        self.count = 0

    def update(self, rebuilt: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Add up: rebuilt (G, p, C), predictions (G, p, C), targets (G, p)."""
        self.count += targets.numel()
        for name, logits in (("rebuilt", rebuilt), ("base", predictions)):
            logs = logits.double().log_softmax(-1).flatten(0, 1)
            right = targets.flatten().unsqueeze(1)
            own = logs.gather(1, right).squeeze(1)
            probabilities = logs.exp()
            brier = probabilities.square().sum(1) - 2 * own.exp() + 1
            self.sums[name] += torch.stack([-own.sum(), brier.sum()])

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the means, 'nll' and 'brier' of 'rebuilt' and 'base'."""
        return {
            name: dict(zip(("nll", "brier"), (sums / max(self.count, 1)).tolist(), strict=True))
            for name, sums in self.sums.items()
        }


def _bins(sums: Tensor) -> dict[str, Any]:
    count, confidence, right = sums.cpu()
    some = count.clamp(min=1)
    error = float((confidence - right).abs().sum() / count.sum().clamp(min=1))
    return {
        "confidence": (confidence / some).tolist(),
        "accuracy": (right / some).tolist(),
        "count": [int(number) for number in count],
        "error": error,
    }


@torch.no_grad()
def compare(
    candidates: Sequence[Candidate],
    loader: Callable[[int], GroupLoader],
    task: Task,
    default: Tensor,
    unavailable: Sequence[float],
    paired: bool = False,
    classes: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict[str, Any]]:
    """Evaluate codes on the same groups.

    Args:
        candidates: the codes; all have the same base model.
        loader: gives the groups of k queries, the same for the same k.
        task: what predictions are measured by.
        default: (*P), what a user gets where nothing can be rebuilt.
        unavailable: f at which A_o(f) is reported.
        paired: workers fail in pairs.
        classes: names of the classes, for the panel.
        progress: called with each code's name before it is evaluated.

    Returns:
        A dict for each code, as ``write_report`` takes them: plain values, and images as uint8 arrays. 'against' holds
        what a code's A_d is above that of each code before it that has the same groups.
    """
    results: list[dict[str, Any]] = []
    evaluations: list[CodeEvaluation] = []
    for candidate in candidates:
        model, groups = candidate.model, loader(candidate.model.k)
        progress(f"{candidate.name}, k = {model.k}, r = {model.r}")
        observers: list[Any] = []
        if isinstance(task, Classification):
            counts = Confusions(task.prediction_shape[0], groups.device)
            observers = [counts, Calibration(groups.device), Likelihood(groups.device)]
        evaluation = evaluate_code(model, groups, task, default, paired, observers, unavailable)
        against = _against(evaluation, zip(results, evaluations, strict=True))
        evaluations.append(evaluation)
        results.append(
            {
                "name": candidate.name,
                "kind": "trained" if candidate.is_trained else "baseline",
                "about": candidate.about,
                **_accuracies(evaluation, unavailable),
                **costs(model, groups),
                **_details(observers, evaluation),
                "against": against,
                **_shown(model, groups, task, classes),
            }
        )
    return results


def _shown(model: CodedModel, groups: GroupLoader, task: Task, classes: Sequence[str] | None) -> dict[str, Any]:
    if not are_images(model.encoder.query_shape):
        return {"panel": [], "evidence": None}
    batch = next(groups.batches())
    found = None
    if isinstance(task, Classification):
        found = evidence(model, batch.queries, batch.targets, task, classes)
    return {"panel": panel(model, batch.queries, batch.targets, task, classes), "evidence": found}


def _against(
    evaluation: CodeEvaluation, others: Iterable[tuple[dict[str, Any], CodeEvaluation]]
) -> list[dict[str, Any]]:
    """Return A_d(1) less that of each other code of the same k, paired over the groups that both have."""
    return [
        {"name": result["name"], "k": result["k"], "r": result["r"],
         **paired_interval(evaluation.degraded_by_group[1], other.degraded_by_group[1])._asdict()}
        for result, other in others
        if other.k == evaluation.k and other.most_erased and evaluation.most_erased
    ]  # fmt: skip


def _accuracies(evaluation: CodeEvaluation, unavailable: Sequence[float]) -> dict[str, Any]:
    degraded, reconstruction = {}, {}
    for erased in range(1, evaluation.most_erased + 1):
        at = [evaluation.degraded_at(erased, position) for position in range(evaluation.k)]
        degraded[str(erased)] = {
            **evaluation.degraded_interval(erased)._asdict(),
            "by_position": at,
            "worst": min(at),
            "worst_position": at.index(min(at)),
        }
        reconstruction[str(erased)] = evaluation.degraded_interval(erased, "reconstruction")._asdict()
    overall = {}
    for f in unavailable:
        error = evaluation.overall_accuracy_with_error(f)[1]
        overall[f"{f:g}"] = {
            **evaluation.overall_interval(f)._asdict(),
            "standard_error": error,
            "slow": evaluation.overall_accuracy_beside_a_slow_worker(f, SLOW),
            "together": evaluation.overall_accuracy_together(f, CORRELATION),
        }
    return {
        "k": evaluation.k,
        "r": evaluation.n - evaluation.k,
        "n": evaluation.n,
        "groups": evaluation.groups,
        "queries_left_over": evaluation.leftover,
        "A_a": evaluation.base_interval()._asdict(),
        "loss": {
            str(erased): evaluation.loss_interval(erased)._asdict() for erased in range(1, evaluation.most_erased + 1)
        },
        "A_d": degraded,
        "reconstruction": reconstruction,
        "A_o": overall,
        "mse": evaluation.mean_squared_error() if evaluation.most_erased else None,
    }


def _details(observers: list[Any], evaluation: CodeEvaluation) -> dict[str, Any]:
    if not observers or not evaluation.most_erased:
        return {"per_class": None, "confusion": None, "calibration": None, "likelihood": None}
    confusions, calibration, likelihood = observers
    counts = confusions.counts.cpu()
    return {
        "per_class": (counts.diagonal() / counts.sum(1).clamp(min=1)).tolist(),
        "confusion": counts.tolist(),
        "calibration": calibration.summary(),
        "likelihood": likelihood.summary(),
    }


@torch.no_grad()
def timings(
    candidates: Sequence[Candidate], loader: Callable[[int], GroupLoader], rounds: int = 50
) -> list[dict[str, Any]]:
    """Measure encoding and decoding, output 0 unavailable, beside one query's pass through the base model.

    Args:
        candidates: the codes.
        loader: gives the groups of k queries.
        rounds: of each; medians are returned. A round is one call, or of a single group as many as take a millisecond.

    Returns:
        For each code and each G: 'name', 'k', 'r', 'G', and in milliseconds for each of the G groups 'encode_ms' and
        'decode_ms'; 'forward_ms' of one query.
    """
    rows = []
    for candidate in candidates:
        model = candidate.model
        if not model.decoder.tolerance:
            continue
        queries = next(loader(model.k).batches()).queries
        for count in _TIMED_GROUPS:
            groups = queries[torch.arange(count, device=queries.device) % len(queries)]
            outputs = model.outputs(groups)
            available = torch.ones(count, model.n, dtype=torch.bool)
            available[:, 0] = False
            encode, decode, forward = _milliseconds(
                [
                    partial(model.encoder.dispatch, groups),
                    partial(model.decoder, *outputs, available),
                    partial(model.base_model, queries[0, :1]),
                ],
                rounds,
            )
            rows.append(
                {
                    "name": candidate.name, "k": model.k, "r": model.r, "G": count,
                    "encode_ms": encode / count, "decode_ms": decode / count, "forward_ms": forward,
                }
            )  # fmt: skip
    return rows


def _milliseconds(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the median time of each call, the device's work included; they take turns."""

    def once(call: Callable[[], Any], times: int) -> float:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) * 1e3 / times

    for call in calls:
        once(call, 3)  # what is new to it takes longer
    times = [max(1, int(1 / max(once(call, 3), 1e-3))) for call in calls]
    found = [[once(call, number) for call, number in zip(calls, times, strict=True)] for _ in range(rounds)]
    return [median(column) for column in zip(*found, strict=True)]
