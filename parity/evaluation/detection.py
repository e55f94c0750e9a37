"""How well a code notices wrong outputs: thresholds, detection rates, what users get."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.coders.detection import ClassGap, Detector, Difference, Distance
from parity.data import GroupLoader
from parity.errors import ParityError
from parity.evaluation.faults import FAULTS, NETWORK_FAULTS, Outputs, outputs_of, with_fault, with_faulty_networks
from parity.evaluation.intervals import paired_interval
from parity.tasks import Classification, Task


def difference_for(task: Task) -> Difference:
    """Return how predictions of a task are compared."""
    return ClassGap() if isinstance(task, Classification) else Distance()


def check_rates(probabilities: Sequence[float], false_alarms: float = 0.01) -> None:
    """Make sure that these are probabilities of a wrong output, and a share of groups.

    Raises:
        ParityError: one is not.
    """
    if not 0 < false_alarms < 1:
        raise ParityError(f"false alarms are a share of groups, above 0 and below 1, not {false_alarms}.")
    for probability in probabilities:
        if not 0 <= probability <= 1:
            raise ParityError(f"workers are wrong with a probability from 0 to 1, not {probability}.")


@torch.no_grad()
def calibrated(model: CodedModel, loader: GroupLoader, task: Task, false_alarms: float) -> Detector:
    """Return a detector that finds something suspect in so large a share of groups without faults.

    Args:
        model: the code.
        loader: of validation data.
        task: of its predictions.
        false_alarms: a share of groups, above 0 and below 1.

    Raises:
        ParityError: the share is not one, or there are too few groups to measure it on.
    """
    check_rates((), false_alarms)
    outputs = outputs_of(model, loader)
    groups = len(outputs.base)
    allowed = int(false_alarms * groups)
    if allowed < 1:
        raise ParityError(
            f"{groups} groups are too few for {false_alarms:.2%} false alarms: {math.ceil(1 / false_alarms)} or more "
            "are needed to choose a threshold on, or a larger share."
        )
    detector = Detector(model.decoder, difference_for(task))
    largest, _ = detector.disagreement(outputs.base, outputs.parity, _everything(model, outputs))
    threshold = float(largest.masked_fill(largest.isnan(), math.inf).sort(descending=True).values[allowed])
    if not math.isfinite(threshold):
        raise ParityError(
            f"more than {false_alarms:.2%} of {groups} groups without faults hold outputs that are not numbers: so "
            "few false alarms cannot be had."
        )
    detector.threshold = threshold
    return detector


@torch.no_grad()
def detection(
    model: CodedModel,
    detector: Detector,
    outputs: Outputs,
    wrong: Outputs,
    task: Task,
    workers: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Measure what a detector makes of one wrong output in each group, each worker in turn.

    Args:
        model: the code.
        detector: calibrated.
        outputs: of test data, without faults.
        wrong: what each worker puts out when it is wrong, ``with_fault`` or ``with_faulty_networks``.
        task: what predictions are measured by.
        workers: that go wrong; by default each of the n.

    Returns:
        Shares of groups: 'false_alarms' without faults; 'detected', anything suspect; 'detected_where_it_matters', of
        those where the base model's prediction changed its class, or for other tasks at all; 'located', exactly the
        wrong output suspect. And the accuracy of what users get, all outputs arriving: 'without_fault', 'ignored' and
        'acted_on', with suspects treated as unavailable where the code can rebuild them.
    """
    everything = _everything(model, outputs)
    found: dict[str, list[Tensor]] = {name: [] for name in ("detected", "located", "ignored", "acted_on")}
    mattered: list[Tensor] = []
    for worker in range(model.n) if workers is None else workers:
        pattern = torch.zeros_like(everything)
        pattern[:, worker] = True
        now = _replaced(outputs, wrong, pattern)
        suspect = detector(now.base, now.parity, everything)
        found["detected"].append(suspect.any(1))
        found["located"].append(suspect[:, worker] & (suspect.sum(1) == 1))
        if worker < model.k:
            mattered.append(suspect.any(1)[_changed(outputs.base[:, worker], wrong.base[:, worker], task)])
        found["ignored"].append(_accuracy(model.decoder(now.base, now.parity, everything), now.targets, task))
        found["acted_on"].append(_accuracy(detector.predictions(now.base, now.parity, everything), now.targets, task))
    changed = torch.cat(mattered) if mattered else torch.zeros(0)
    right = model.decoder(outputs.base, outputs.parity, everything)
    return {
        "false_alarms": float(detector(outputs.base, outputs.parity, everything).any(1).double().mean()),
        "detected_where_it_matters": float(changed.double().mean()) if len(changed) else None,
        "without_fault": float(_accuracy(right, outputs.targets, task).mean()),
        **{name: float(torch.cat(values).double().mean()) for name, values in found.items()},
    }


@torch.no_grad()
def with_wrong_workers(
    model: CodedModel,
    detector: Detector,
    outputs: Outputs,
    wrong: Outputs,
    task: Task,
    probability: float,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what users get where each output, those of parity models too, is wrong with a probability g.

    Args:
        model: the code.
        detector: calibrated.
        outputs: of test data, without faults.
        wrong: what each worker puts out when it is wrong.
        task: what predictions are measured by.
        probability: g, independent for each output of each group.
        seed: of which outputs are wrong; the same are wrong at a lower g, and more at a higher one.

    Returns:
        Accuracies 'ignored' and 'acted_on', and 'gain', the second less the first with its paired 95 % interval, over
        faults where several groups share one.

    Raises:
        ParityError: g is not a probability.
    """
    check_rates((probability,))
    everything = _everything(model, outputs)
    drawn = torch.rand(everything.shape, generator=torch.Generator().manual_seed(seed)).to(everything.device)
    now = _replaced(outputs, wrong, drawn < probability)
    ignored = _accuracy(model.decoder(now.base, now.parity, everything), now.targets, task)
    acted_on = _accuracy(detector.predictions(now.base, now.parity, everything), now.targets, task)
    return {
        "g": probability, "ignored": float(ignored.mean()), "acted_on": float(acted_on.mean()),
        "gain": paired_interval(*(_by_draw(each.cpu(), wrong.draw) for each in (acted_on, ignored)))._asdict(),
    }  # fmt: skip


@torch.no_grad()
def wrong_outputs(
    model: CodedModel,
    calibration: GroupLoader,
    loader: GroupLoader,
    task: Task,
    probabilities: Sequence[float],
    false_alarms: float = 0.01,
) -> list[dict[str, Any]]:
    """Measure all faults of outputs and of networks.

    Args:
        model: the code.
        calibration: validation data, on which the threshold is chosen.
        loader: of the data to measure on.
        task: what predictions are measured by.
        probabilities: g, of a wrong output.
        false_alarms: a share of groups.

    Returns:
        A row for each fault: 'fault', its name, 'allowed', ``false_alarms``, what ``detection`` returns, and 'users',
        what ``with_wrong_workers`` returns for each g.

    Raises:
        ParityError: as ``calibrated`` and ``with_wrong_workers``.
    """
    detector = calibrated(model, calibration, task, false_alarms)
    outputs = outputs_of(model, loader)
    wrong = {name: with_fault(outputs, fault) for name, fault in FAULTS.items()}
    wrong |= {name: with_faulty_networks(model, loader, fault) for name, fault in NETWORK_FAULTS.items()}
    return [
        {
            "fault": name, "allowed": false_alarms, **detection(model, detector, outputs, theirs, task),
            "users": [with_wrong_workers(model, detector, outputs, theirs, task, g) for g in probabilities],
        }
        for name, theirs in wrong.items()
    ]  # fmt: skip


def _everything(model: CodedModel, outputs: Outputs) -> Tensor:
    """Return ``available`` with all outputs of all groups."""
    return torch.ones(len(outputs.base), model.n, dtype=torch.bool, device=outputs.base.device)


def _by_draw(accuracies: Tensor, draw: Tensor | None) -> Tensor:
    """Sum up the groups that share a fault, (G,) -> (D,), such that the mean stays what it is."""
    if draw is None:
        return accuracies
    draws = int(draw.max()) + 1
    return accuracies.new_zeros(draws).index_add(0, draw, accuracies) * (draws / len(draw))


def _replaced(outputs: Outputs, wrong: Outputs, pattern: Tensor) -> Outputs:
    """Return outputs, with the wrong ones where ``pattern``, bool (G, n), is True."""
    workers = outputs.base.shape[1]
    base, parity = (
        torch.where(which.reshape(*which.shape, *(1,) * (right.dim() - 2)), other, right)
        for which, other, right in (
            (pattern[:, :workers], wrong.base, outputs.base),
            (pattern[:, workers:], wrong.parity, outputs.parity),
        )
    )
    return Outputs(base, parity, outputs.targets)


def _changed(before: Tensor, after: Tensor, task: Task) -> Tensor:
    if isinstance(task, Classification):
        return (before.argmax(-1) != after.argmax(-1)) | ~after.isfinite().all(-1)
    return (before != after).flatten(1).any(1)


def _accuracy(predictions: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return the first measure of what users get, each group's mean, float64 (G,).

    NaN is as wrong as the task's measure has it; where a number cannot be measured against it, as in R², it counts 0,
    which is what the mean target has. Infinity is the largest float, so that means stay finite.
    """
    measured = task.measure(predictions.nan_to_num(nan=math.nan), targets)[..., 0].double()
    return measured.nan_to_num(nan=0.0).flatten(1).mean(1)
