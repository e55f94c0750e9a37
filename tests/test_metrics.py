import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from parity.metrics import BaseAccuracy, MeanLoss, MeanMeasures, ReconstructionAccuracy, with_prefix
from parity.tasks import Classification

NAN = math.nan


def first_classes(scores: list[float], top: int) -> list[int]:
    """The top-k classes, by sorting: NaN before all, equal scores by class."""
    return sorted(range(len(scores)), key=lambda c: (not math.isnan(scores[c]), -scores[c], c))[:top]


def count_within(scores: Tensor, labels: Tensor, top: int) -> int:
    return sum(
        label in first_classes(row, top) and not math.isnan(row[label])
        for row, label in zip(scores.flatten(0, 1).tolist(), labels.flatten().tolist(), strict=True)
    )


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Few different scores, so that there are ties, and NaN and infinities."""
    groups, positions, classes = draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 25))
    values = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 2.0, math.inf, NAN])
    scores = draw(hnp.arrays("float32", (groups, positions, classes), elements=values))
    labels = draw(hnp.arrays("int64", (groups, positions), elements=st.integers(0, classes - 1)))
    return torch.tensor(scores), torch.tensor(labels)


@settings(max_examples=100)
@given(scored())
def test_every_top_k_agrees_with_sorting(example: tuple[Tensor, Tensor]) -> None:
    scores, labels = example
    task = Classification(scores.shape[2])
    mean = MeanMeasures(task, scores.shape[1])
    mean.update(scores, labels)
    assert task.top_k == tuple(top for top in (1, 2, 5, 10, 20) if top <= scores.shape[2])
    accuracies = mean.compute()
    for top in task.top_k:
        assert accuracies[f"top{top}"].item() == pytest.approx(count_within(scores, labels, top) / labels.numel())
    for position in range(scores.shape[1]) if scores.shape[1] > 1 else ():
        within = count_within(scores[:, [position]], labels[:, [position]], 1)
        assert accuracies[f"top1_position{position}"].item() == pytest.approx(within / len(labels))


@settings(max_examples=50)
@given(scored())
def test_top_1_is_argmax(example: tuple[Tensor, Tensor]) -> None:
    scores, labels = example[0].nan_to_num(0.0), example[1]
    mean = MeanMeasures(Classification(scores.shape[2]), scores.shape[1])
    mean.update(scores, labels)
    assert torch.equal(mean.sums[:, 0], (scores.argmax(-1) == labels).sum(0).double())


@pytest.mark.parametrize("num_classes", [2, 10, 30])
def test_nan_is_never_right(num_classes: int) -> None:
    mean = MeanMeasures(Classification(num_classes), 1)
    labels = torch.arange(num_classes)[:, None]
    mean.update(torch.full((num_classes, 1, num_classes), NAN), labels)
    only_own = torch.zeros(num_classes, 1, num_classes).scatter_(2, labels[..., None], NAN)
    mean.update(only_own, labels)
    assert {float(value) for value in mean.compute().values()} == {0.0}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@settings(max_examples=30)
@given(scored(), st.integers(1, 6))
def test_batches_of_any_sizes_and_several_processes_count_the_same(example: tuple[Tensor, Tensor], size: int) -> None:
    scores, labels = example
    whole, in_parts, elsewhere = (MeanMeasures(Classification(scores.shape[2]), scores.shape[1]) for _ in range(3))
    whole.update(scores, labels)
    parts = list(zip(scores.split(size), labels.split(size), strict=True))
    for part in parts[:-1]:
        in_parts.update(*part)
    elsewhere.update(*parts[-1])
    in_parts.merge_state(elsewhere)  # what torchmetrics does across processes: by each state's dist_reduce_fx
    assert in_parts.compute() == whole.compute()


def test_a_smaller_last_batch_weighs_what_it_holds() -> None:
    accuracy = BaseAccuracy(Classification(3))
    scores = torch.eye(3)
    accuracy.update(scores[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1]))
    accuracy.update(scores[[2]], torch.tensor([1]))
    values = accuracy.compute()
    assert values.keys() == {"top1", "top2"}
    # The second class of eye(3)'s row 0 is 1, of row 2 it is 0.
    assert values["top1"].item() == pytest.approx(3 / 5)
    assert values["top2"].item() == pytest.approx(4 / 5)
    assert accuracy.monitor in values
    accuracy.reset()
    accuracy.update(scores, torch.arange(3))
    assert accuracy.compute()["top1"] == 1


def test_reconstruction_accuracy_by_hand() -> None:
    # Ranked classes:  reconstructions          base model   truth
    # group 0          0 > 1 > 2,  2 > 1 > 0    0, 1         0, 2
    # group 1          1 > 0 > 2,  0 > 2 > 1    0, 0         2, 0
    # group 2          2 > 0 > 1,  1 > 0 > 2    2, 0         1, 1
    reconstructions = torch.tensor(
        [[[3.0, 2, 1], [1, 2, 3]], [[2, 3, 1], [3, 1, 2]], [[2, 1, 3], [2, 3, 1]]],
    )
    predictions = 5.0 * torch.eye(3)[torch.tensor([[0, 1], [0, 0], [2, 0]])] - 1
    targets = torch.tensor([[0, 2], [2, 0], [1, 1]])
    expected = {
        "overall_top1": 4 / 6,
        "overall_top2": 4 / 6,
        "overall_top1_position0": 1 / 3,
        "overall_top1_position1": 3 / 3,
        "reconstruction_top1": 3 / 6,
        "reconstruction_top2": 6 / 6,
        "reconstruction_top1_position0": 2 / 3,
        "reconstruction_top1_position1": 1 / 3,
    }
    accuracy = ReconstructionAccuracy(Classification(3), 2)
    accuracy.update(reconstructions[:2], predictions[:2], targets[:2])
    accuracy.update(reconstructions[2:], predictions[2:], targets[2:])
    values = {name: float(value) for name, value in accuracy.compute().items()}
    assert values == pytest.approx(expected)
    assert accuracy.monitor == "reconstruction_top1"

    accuracy.reset()
    accuracy.update(reconstructions[2:], predictions[2:], targets[2:])
    assert accuracy.compute()["overall_top1_position0"] == 0


def test_names_are_those_that_the_class_count_allows() -> None:
    for num_classes, tops in ((2, [1, 2]), (10, [1, 2, 5, 10]), (100, [1, 2, 5, 10, 20])):
        accuracy = ReconstructionAccuracy(Classification(num_classes), 3)
        accuracy.update(torch.rand(4, 3, num_classes), torch.rand(4, 3, num_classes), torch.zeros(4, 3, dtype=int))
        names = [f"top{top}" for top in tops] + [f"top1_position{i}" for i in range(3)]
        assert accuracy.compute().keys() == {
            f"{what}_{name}" for what in ("overall", "reconstruction") for name in names
        }


def test_with_prefix_names_the_split() -> None:
    assert with_prefix("val", {"top1": torch.tensor(0.5)}) == {"val/top1": torch.tensor(0.5)}


def test_a_loss_counts_as_often_as_its_batch_has_groups() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor(1.0), 3)
    loss.update(torch.tensor([5.0, 7.0]), torch.tensor([1, 2]))
    assert float(loss.compute()) == pytest.approx((3 * 1 + 5 + 2 * 7) / 6)
