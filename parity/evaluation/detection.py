"""How well a code notices wrong outputs: faults that are injected, detection rates, what users get."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.coders.detection import ClassGap, Detector, Difference, Distance
from parity.data import GroupLoader
from parity.errors import ParityError
from parity.tasks import Classification, Task

Fault = Callable[[Tensor, torch.Generator], Tensor]
"""(outputs (G, *P') of one worker, one in each group) -> what a faulty worker puts out for these groups."""


@dataclass(frozen=True)
class BitFlip:
    """Flips a bit of one random number of an output: silent data corruption.

    Args:
        bit: of a float32, 31 the sign, 30 the highest of the exponent.
    """

    bit: int

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        flat = outputs.float().flatten(1).clone()
        index = torch.randint(flat.shape[1], (len(flat), 1), generator=generator).to(flat.device)
        mask = -(1 << 31) if self.bit == 31 else 1 << self.bit
        numbers = flat.gather(1, index).view(torch.int32) ^ mask
        return flat.scatter(1, index, numbers.view(torch.float32)).view_as(outputs)


@dataclass(frozen=True)
class Scaled:
    """Multiplies an output: ``factor=-5`` is the fault of ApproxIFER's locator in docs/codes.md."""

    factor: float

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return outputs * self.factor


@dataclass(frozen=True)
class OfAnotherGroup:
    """The output for a query of another group: answers that were mixed up."""

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return outputs.roll(int(torch.randint(1, max(len(outputs), 2), (1,), generator=generator)), 0)


@dataclass(frozen=True)
class ShiftedClasses:
    """Classes in another order, each a position further: a worker that has another list of classes."""

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return outputs.roll(1, -1)


@dataclass(frozen=True)
class NotANumber:
    """NaN in all of an output."""

    def __call__(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(outputs, torch.nan)


FAULTS: Mapping[str, Fault] = {
    "prediction of another query": OfAnotherGroup(),
    "sign flipped": BitFlip(31),
    "exponent bit flipped": BitFlip(30),
    "classes shifted": ShiftedClasses(),
    "times −5": Scaled(-5.0),
    "NaN": NotANumber(),
}
"""What a table reports, by name."""


class Outputs(NamedTuple):
    """What workers put out without faults, and the true targets (G, k, ...)."""

    base: Tensor
    parity: Tensor
    targets: Tensor


@torch.no_grad()
def outputs_of(model: CodedModel, loader: GroupLoader) -> Outputs:
    """Ask all workers for all groups of a loader, once."""
    model.eval()
    parts = [Outputs(*model.outputs(batch.queries), batch.targets) for batch in loader.batches()]
    if not parts:
        raise ParityError(f"there is not one group of k = {model.k} queries to look for wrong outputs in.")
    return Outputs(*map(torch.cat, zip(*parts, strict=True)))


def difference_for(task: Task) -> Difference:
    """Return how predictions of a task are compared."""
    return ClassGap() if isinstance(task, Classification) else Distance()


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
    if not 0 < false_alarms < 1:
        raise ParityError(f"false alarms are a share of groups, above 0 and below 1, not {false_alarms}.")
    outputs = outputs_of(model, loader)
    groups = len(outputs.base)
    allowed = int(false_alarms * groups)
    if allowed < 1:
        raise ParityError(
            f"{groups} groups are too few for {false_alarms:.2%} false alarms: {round(1 / false_alarms)} or more are "
            "needed to choose a threshold on."
        )
    detector = Detector(model.decoder, difference_for(task))
    everything = torch.ones(groups, model.n, dtype=torch.bool, device=outputs.base.device)
    largest, _ = detector.disagreement(outputs.base, outputs.parity, everything)
    detector.threshold = float(largest.sort(descending=True).values[allowed])
    return detector


@torch.no_grad()
def detection(
    model: CodedModel, detector: Detector, outputs: Outputs, task: Task, fault: Fault, seed: int = 0
) -> dict[str, Any]:
    """Measure what a detector makes of one wrong output in each group, every worker in turn.

    Args:
        model: the code.
        detector: calibrated.
        outputs: of test data, without faults.
        task: what predictions are measured by.
        fault: what the wrong worker puts out.
        seed: of the fault.

    Returns:
        Shares of groups: 'false_alarms' without faults; 'detected', anything suspect; 'detected_where_it_matters', of
        those where the base model's prediction changed its class, or for other tasks at all; 'located', exactly the
        wrong output suspect. And the accuracy of what users get, all outputs arriving: 'without_fault', 'ignored' and
        'acted_on', with suspects treated as unavailable where the code can rebuild them.
    """
    everything = torch.ones(len(outputs.base), model.n, dtype=torch.bool, device=outputs.base.device)
    suspect = detector(outputs.base, outputs.parity, everything)
    k, generator = model.k, torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in ("detected", "located", "ignored", "acted_on")}
    mattered: list[Tensor] = []
    for worker, (base, parity) in enumerate(_each_wrong(model, outputs, fault, generator)):
        suspect_now = detector(base, parity, everything)
        detected = suspect_now.any(1)
        found["detected"].append(detected)
        found["located"].append(suspect_now[:, worker] & (suspect_now.sum(1) == 1))
        if worker < k:
            mattered.append(detected[_changed(outputs.base[:, worker], base[:, worker], task)])
        found["ignored"].append(_accuracy(model, base, parity, everything, outputs.targets, task))
        found["acted_on"].append(_accuracy(model, base, parity, ~suspect_now, outputs.targets, task))
    changed = torch.cat(mattered)
    return {
        "false_alarms": float(suspect.any(1).double().mean()),
        "detected_where_it_matters": float(changed.double().mean()) if len(changed) else None,
        "without_fault": float(
            _accuracy(model, outputs.base, outputs.parity, everything, outputs.targets, task).double().mean()
        ),
        **{name: float(torch.cat(values).double().mean()) for name, values in found.items()},
    }


def _each_wrong(
    model: CodedModel, outputs: Outputs, fault: Fault, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield base and parity outputs in which one worker's are wrong, for every worker."""
    base_workers = outputs.base.shape[1]
    for worker in range(model.n):
        base, parity = outputs.base.clone(), outputs.parity.clone()
        part, index = (base, worker) if worker < base_workers else (parity, worker - base_workers)
        part[:, index] = fault(part[:, index], generator)
        yield base, parity


def _changed(before: Tensor, after: Tensor, task: Task) -> Tensor:
    if isinstance(task, Classification):
        return (before.argmax(-1) != after.argmax(-1)) | ~after.isfinite().all(-1)
    return (before != after).flatten(1).any(1)


def _accuracy(model: CodedModel, base: Tensor, parity: Tensor, trusted: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return the first measure of what users get, each group's mean (G,): their own output where nothing else is."""
    decoder = model.decoder
    all_of_them = trusted.new_ones(trusted.shape)
    given, there = decoder.decode_any(base, parity, trusted)
    own, _ = decoder.decode_any(base, parity, all_of_them)
    given = torch.where(there.reshape(*there.shape, *(1,) * (given.dim() - 2)), given, own)
    return task.measure(given.nan_to_num(), targets)[..., 0].double().flatten(1).mean(1)
