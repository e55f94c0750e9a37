"""Each task measures what torchmetrics does, over all predictions together, from means of numbers of each."""

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex, MultilabelF1Score, MultilabelRankingAveragePrecision
from torchmetrics.regression import MeanSquaredError, R2Score

from parity.errors import ParityError
from parity.metrics import MeanMeasures
from parity.tasks import (
    BoxLocalisation,
    Classification,
    DensePrediction,
    Embeddings,
    MultiLabel,
    Regression,
    Task,
    measure_name,
    task_of,
)


def measured(task: Task, predictions: Tensor, targets: Tensor, positions: int = 2) -> dict[str, float]:
    """Measure in groups, in two batches."""
    mean = MeanMeasures(task, positions)
    predictions, targets = (values.unflatten(0, (-1, positions)) for values in (predictions, targets))
    for part in (slice(0, 3), slice(3, None)):
        mean.update(predictions[part], targets[part])
    return {name: float(value) for name, value in mean.compute().items() if "position" not in name}


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 4)])
def test_regression_measures_r2_and_rmse(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    targets = torch.randn(40, *shape) * torch.rand(shape) + 3
    predictions = targets + 0.3 * torch.randn(40, *shape)
    task = Regression(shape).fitted(targets)
    r2 = R2Score(multioutput="variance_weighted")(predictions.flatten(1).squeeze(1), targets.flatten(1).squeeze(1))
    rmse = MeanSquaredError(squared=False)(predictions, targets)
    assert measured(task, predictions, targets) == pytest.approx({"r2": float(r2), "rmse": float(rmse)}, rel=1e-4)
    default = task.default_prediction(targets).expand_as(targets)
    assert measured(task, default, targets)["r2"] == pytest.approx(0, abs=1e-5)
    assert measured(task, 3 * targets, targets)["r2"] < 0


def test_regression_needs_the_variance_of_targets_and_refuses_constant_ones() -> None:
    with pytest.raises(ParityError, match=r"hand over Regression\(shape\)\.fitted\(targets\)"):
        Regression().measure(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(ParityError, match="all targets are the same"):
        Regression().fitted(torch.ones(5, 1))


def test_labels_are_measured_by_ranking_and_by_micro_f1() -> None:
    torch.manual_seed(0)
    predictions, targets = torch.randn(30, 6).mul(2).round(), (torch.rand(30, 6) < 0.4).long()
    targets[0], targets[1] = 0, 1
    expected = {
        "map": float(MultilabelRankingAveragePrecision(6)(predictions.clone(), targets)),
        "f1": float(MultilabelF1Score(6, average="micro")((predictions > 0).float(), targets)),
    }
    assert measured(MultiLabel(6), predictions, targets) == pytest.approx(expected, rel=1e-5)


def test_a_label_that_is_not_a_number_is_ranked_last() -> None:
    task, targets = MultiLabel(3), torch.tensor([[1, 0, 0]])
    assert task.measure(torch.tensor([[math.nan, 0.0, 1.0]]), targets)[0, 0] == pytest.approx(1 / 3)
    assert task.summarise(torch.zeros(4)).tolist() == [0, 0]


def test_pixels_are_measured_by_accuracy_and_mean_iou() -> None:
    torch.manual_seed(0)
    predictions, targets = torch.randn(12, 4, 5, 6), torch.randint(0, 3, (12, 5, 6))  # no pixel is of class 3
    targets[:, 0] = 255
    task = DensePrediction(4, (5, 6), ignore_index=255)
    checked = task.checked(targets, "the data")
    expected = MulticlassJaccardIndex(4, average="macro", ignore_index=255)(predictions, targets)
    found = measured(task, predictions, checked)
    assert found["miou"] == pytest.approx(float(expected), rel=1e-5)
    assert found["pixels"] == pytest.approx(float((predictions.argmax(1) == targets)[:, 1:].float().mean()), rel=1e-5)
    assert torch.equal(task.default_prediction(checked).argmax(0)[1:], checked[:, 1:].mode(0).values)


def test_embeddings_are_measured_by_direction_and_by_what_they_find() -> None:
    torch.manual_seed(0)
    targets = torch.randn(40, 8)
    task = Embeddings(8).fitted(targets)
    assert measured(task, 5 * targets, targets) == pytest.approx({"cosine": 1, "retrieval1": 1})
    away = measured(task, -targets, targets)
    assert away["cosine"] == pytest.approx(-1)
    assert away["retrieval1"] == 0
    expected = torch.cosine_similarity(targets + 1, targets).mean()
    assert measured(task, targets + 1, targets)["cosine"] == pytest.approx(float(expected), rel=1e-5)
    assert measured(task, torch.full_like(targets, math.nan), targets)["cosine"] == 0
    with pytest.raises(ParityError, match=r"Embeddings\(dimension\)\.fitted"):
        Embeddings(8).measure(targets, targets)


REFUSED: list[tuple[Task, Tensor, str]] = [
    (Regression((2,)), torch.rand(5, 3), r"numbers, of shape \(N, 2\), not \(5, 3\)"),
    (Regression((1,)), torch.tensor([0.0, math.inf]), "infinity at index 1"),
    (Regression((1,)), torch.tensor([True, False]), "targets are bool"),
    (MultiLabel(4), torch.zeros(5), r"0 or a 1 for each of 4 labels"),
    (MultiLabel(4), torch.full((5, 4), 2), "other values than 0 and 1"),
    (DensePrediction(3, (4, 4)), torch.zeros(5, 4, 3).long(), r"of shape \(N, 4, 4\), not \(5, 4, 3\)"),
    (DensePrediction(3, (4, 4)), torch.zeros(5, 4, 4), "hand over targets.long"),
    (DensePrediction(3, (4, 4)), torch.full((5, 4, 4), 3), "targets run from 3 to 3, and 3 classes"),
    (DensePrediction(3, (4, 4)), torch.full((5, 4, 4), -100), "every target is ignored"),
    (Embeddings(8), torch.rand(5, 9), r"embeddings, of shape \(N, 8\)"),
]


@pytest.mark.parametrize(("task", "targets", "sentence"), REFUSED)
def test_targets_that_cannot_be_right_are_refused(task: Task, targets: Tensor, sentence: str) -> None:
    with pytest.raises(ParityError, match=f"the data: .*{sentence}") as refused:
        task.checked(targets, "the data")
    assert "\n" not in str(refused.value)


def test_targets_of_other_types_are_taken() -> None:
    assert Regression().checked(torch.arange(4), "the data").shape == (4, 1)
    assert MultiLabel(2).checked(torch.tensor([[True, False]]), "the data").tolist() == [[1, 0]]
    assert DensePrediction(2, (3,)).checked(torch.ones(4, 1, 3).int(), "the data").dtype == torch.int64


LABELS = torch.tensor([[1.0, 1, 0], [0, 0, 0]])
KNOWN: list[tuple[tuple[int, ...], Tensor | None, type[Task]]] = [
    ((3,), torch.tensor([0, 2]), Classification),
    ((3,), torch.tensor([[0], [2]]), Classification),
    ((3,), None, Classification),
    ((3,), torch.eye(3)[:2].long(), Classification),  # one-hot, which the check refuses
    ((3,), LABELS, MultiLabel),
    ((3,), LABELS.bool(), MultiLabel),
    ((3,), torch.rand(2, 3), Regression),
    ((1,), torch.rand(2), Regression),
    ((2, 5), torch.rand(2, 2, 5), Regression),
    ((3, 4, 5), torch.zeros(2, 4, 5).long(), DensePrediction),
    ((3, 5), torch.zeros(2, 5).long(), DensePrediction),
]


@pytest.mark.parametrize(("shape", "targets", "task"), KNOWN)
def test_targets_leave_no_doubt_of_their_task(shape: tuple[int, ...], targets: Tensor | None, task: type[Task]) -> None:
    found = task_of(torch.zeros(2, *shape), targets)
    assert type(found) is task
    assert found.prediction_shape == shape


@pytest.mark.parametrize(
    ("shape", "targets"),
    [((4,), torch.rand(2, 4)), ((3, 4, 5), None), ((3, 4, 5), torch.rand(2, 4)), ((1,), None)],
)
def test_where_there_is_doubt_the_task_is_asked_for(shape: tuple[int, ...], targets: Tensor | None) -> None:
    with pytest.raises(ParityError, match="task"):
        task_of(torch.zeros(2, *shape), targets)


@pytest.mark.parametrize("kind", [torch.float, torch.long, torch.bool])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_one_logit_of_two_classes_is_refused_and_both_are_asked_for(shape: tuple[int, ...], kind: torch.dtype) -> None:
    with pytest.raises(ParityError, match=r"for two classes, hand over both logits by output=.* task="):
        task_of(torch.zeros(2, 1), torch.tensor([0, 1]).view(shape).to(kind))
    with pytest.raises(ParityError, match="nothing to rank of 1: for two classes, hand over both logits"):
        MultiLabel(1)  # any prediction ranks one label right


def test_every_task_has_words_for_its_first_measure() -> None:
    for task in (
        Classification(3),
        BoxLocalisation(),
        Regression(),
        MultiLabel(2),
        DensePrediction(2, (3,)),
        Embeddings(4),
    ):
        name = measure_name(task.measures[0])
        assert name.unit
        assert name.agreement
        assert name.name != task.measures[0] or task.measures[0] == "cosine"
    assert measure_name("own").unit == "of own"
