import pytest
import torch

from parity.metrics import BaseAccuracy, MeanMeasures, ReconstructionAccuracy
from parity.tasks import BoxLocalisation

UNIT = torch.tensor([0.0, 0.0, 1.0, 1.0])


def lower(share: float) -> torch.Tensor:
    """A box whose IoU with the unit square is its own height."""
    return torch.tensor([0.0, 0.0, 1.0, share])


def test_means_over_positions_and_for_each() -> None:
    metric = MeanMeasures(BoxLocalisation(), positions=2)
    predictions = torch.stack([torch.stack([lower(1.0), lower(0.5)]), torch.stack([lower(0.75), lower(0.25)])])
    metric.update(predictions[:1], UNIT.expand(1, 2, 4))
    metric.update(predictions[1:], UNIT.expand(1, 2, 4))
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == pytest.approx(
        {"iou": 0.625, "iou75": 0.5, "iou_position0": 0.875, "iou_position1": 0.375}, abs=1e-9
    )


def test_batches_of_other_sizes_weigh_by_their_groups() -> None:
    metric = MeanMeasures(BoxLocalisation(), positions=1)
    metric.update(UNIT.expand(3, 1, 4), UNIT.expand(3, 1, 4))
    metric.update(lower(0.5).expand(1, 1, 4), UNIT.expand(1, 1, 4))
    assert metric.compute()["iou"].item() == pytest.approx(0.875)


def test_a_base_model_is_measured_against_true_boxes() -> None:
    accuracy = BaseAccuracy(BoxLocalisation())
    assert (accuracy.monitor, accuracy.shown) == ("iou", {"IoU": "iou"})
    accuracy.update(torch.stack([lower(1.0), lower(0.5)]), UNIT.expand(2, 4))
    assert {name: value.item() for name, value in accuracy.compute().items()} == {"iou": 0.75, "iou75": 0.5}
    accuracy.reset()
    accuracy.update(lower(0.5).unsqueeze(0), UNIT.unsqueeze(0))
    assert accuracy.compute()["iou"] == 0.5


def test_what_is_rebuilt_is_measured_against_true_boxes_and_against_the_base_model() -> None:
    accuracy = ReconstructionAccuracy(BoxLocalisation(), k=2)
    assert accuracy.monitor == "reconstruction_iou"
    assert accuracy.shown == {"IoU": "overall_iou"}
    rebuilt = torch.stack([lower(0.5), lower(0.8)]).unsqueeze(0)
    said = torch.stack([lower(0.5), lower(1.0)]).unsqueeze(0)
    accuracy.update(rebuilt, said, UNIT.expand(1, 2, 4))
    values = {name: value.item() for name, value in accuracy.compute().items()}
    assert values == pytest.approx(
        {
            "overall_iou": 0.65,
            "overall_iou75": 0.5,
            "overall_iou_position0": 0.5,
            "overall_iou_position1": 0.8,
            "reconstruction_iou": 0.9,
            "reconstruction_iou75": 1.0,
            "reconstruction_iou_position0": 1.0,
            "reconstruction_iou_position1": 0.8,
        }
    )


def test_a_box_that_is_no_number_or_empty_counts_as_a_miss() -> None:
    metric = MeanMeasures(BoxLocalisation(), positions=1)
    boxes = torch.stack([UNIT, UNIT * torch.nan, UNIT * torch.tensor([1.0, 1.0, -1.0, -1.0]), lower(0.0)]).unsqueeze(1)
    metric.update(boxes, UNIT.expand(4, 1, 4))
    assert metric.compute()["iou"] == 0.25
