import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from parity import settings
from parity.data.cub import read_boxes
from parity.tasks import BoxLocalisation, Classification, box_iou, ranks, to_box
from tests.conftest import need

NAN, INF = math.nan, math.inf

corners = st.floats(-100, 100, width=32)
sizes = st.floats(0.125, 100, width=32)
boxes = st.tuples(corners, corners, sizes, sizes)
any_number = st.floats(width=32)


def double(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.double)


def test_classification_counts_those_within_the_first_k() -> None:
    task = Classification(6)
    assert (task.prediction_shape, task.measures) == ((6,), ("top1", "top2", "top5"))
    scores = torch.tensor([0.1, 0.5, 0.4, 0.3, 0.2, 0.0]).expand(6, 6)
    assert task.measure(scores, torch.arange(6)).tolist() == [
        [False, False, True],  # fifth
        [True, True, True],
        [False, True, True],
        [False, False, True],
        [False, False, True],
        [False, False, False],  # sixth
    ]
    groups = task.measure(scores.view(2, 3, 6), torch.arange(6).view(2, 3))
    assert torch.equal(groups.view(6, 3), task.measure(scores, torch.arange(6)))


@pytest.mark.parametrize(("num_classes", "known"), [(2, (1, 2)), (10, (1, 2, 5, 10)), (30, (1, 2, 5, 10, 20))])
def test_no_more_than_the_class_count(num_classes: int, known: tuple[int, ...]) -> None:
    assert Classification(num_classes).measures == tuple(f"top{top}" for top in known)


def test_ranks_of_equal_scores_and_of_no_numbers() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [NAN, 1.0, 2.0], [NAN, 1.0, 2.0]])
    assert ranks(scores, torch.tensor([0, 1, 0, 2])).tolist() == [0, 1, 3, 1]


def test_classification_takes_the_base_models_class_as_target_and_the_most_frequent_one_by_default() -> None:
    task = Classification(3)
    assert task.as_targets(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]
    assert task.default_prediction(torch.tensor([2, 0, 2, 1])).tolist() == [0.0, 0.0, 1.0]
    means = {"top1": 0.75, "top2": 1.0}
    assert task.describe(means, 8) == "6 / 8 correct (top1 0.7500, top2 1.0000)"


# The first box is the unit square; areas in common and in all by hand.
BY_HAND = [
    ((0, 0, 1, 1), 1),
    ((0.5, 0, 1, 1), 1 / 3),
    ((0.5, 0.5, 1, 1), 1 / 7),
    ((0.25, 0.25, 0.5, 0.5), 1 / 4),
    ((0, 0, 1, 0.75), 3 / 4),
    ((-1, -1, 3, 3), 1 / 9),
    ((1, 0, 1, 1), 0),  # side by side
    ((5, 5, 1, 1), 0),
    ((0, 5, 1, 1), 0),
    ((0, 0, 1, 0), 0),
    ((1, 1, -1, -1), 0),  # the same corners in the wrong order
    ((0.5, 0.5, -1, 1), 0),
    ((NAN, 0, 1, 1), 0),
    ((0, 0, 1, NAN), 0),
    ((0, 0, INF, 1), 0),
]


@pytest.mark.parametrize(("box", "known"), BY_HAND)
def test_iou_by_hand(box: tuple[float, ...], known: float) -> None:
    unit, other = double(0, 0, 1, 1), double(*box)
    assert box_iou(unit, other).item() == pytest.approx(known)
    assert box_iou(other, unit).item() == pytest.approx(known)


@given(boxes, boxes)
def test_iou_is_symmetric_and_between_0_and_1(box: tuple[float, ...], other: tuple[float, ...]) -> None:
    for dtype in (torch.double, torch.float):
        first, second = torch.tensor(box, dtype=dtype), torch.tensor(other, dtype=dtype)
        overlap = box_iou(first, second)
        assert overlap == box_iou(second, first)
        assert 0 <= overlap <= 1


@given(boxes)
def test_a_box_overlaps_itself_wholly(box: tuple[float, ...]) -> None:
    overlap = box_iou(double(*box), double(*box)).item()
    assert overlap == pytest.approx(1)
    assert overlap <= 1


def test_rounding_makes_no_iou_greater_than_1() -> None:
    narrow = torch.tensor([0.1, 0.1, 0.2, 0.2], dtype=torch.double)  # 0.1 + 0.2 - 0.1 > 0.2
    assert narrow[0] + narrow[2] - narrow[0] > narrow[2]
    assert box_iou(narrow, narrow) == 1
    far = torch.tensor([1e8, 1e8, 5.0, 5.0])  # float32 has steps of 8 there
    assert box_iou(far, far) == 1


@given(boxes, boxes, st.tuples(st.integers(1, 1000), st.integers(1, 1000)))
def test_iou_is_the_same_in_pixels_and_as_targets(
    box: tuple[float, ...], other: tuple[float, ...], sides: tuple[int, int]
) -> None:
    pixels = double(box, other)
    scaled = to_box(pixels, torch.tensor([sides, sides]))
    assert box_iou(*scaled).item() == pytest.approx(box_iou(*pixels).item(), abs=1e-9)


@given(boxes, st.tuples(any_number, any_number, any_number, any_number))
def test_whatever_a_network_says_has_an_iou_between_0_and_1(box: tuple[float, ...], said: tuple[float, ...]) -> None:
    for dtype in (torch.double, torch.float):
        overlap = box_iou(torch.tensor(box, dtype=dtype), torch.tensor(said, dtype=dtype))
        assert 0 <= overlap <= 1
        if not min(said[2:]) > 0 or any(map(math.isnan, said)):
            assert overlap == 0


def test_targets_are_the_box_in_halves_of_the_image() -> None:
    sides = torch.tensor([[200, 100], [200, 100], [50, 80]])
    pixels = double((0, 0, 200, 100), (100, 25, 50, 50), (10, 20, 5, 8))
    assert to_box(pixels, sides).tolist() == [[-1, -1, 2, 2], [0, -0.5, 0.5, 1], [-0.6, -0.5, 0.2, 0.2]]
    assert to_box(pixels, sides).dtype == torch.double


def test_localisation_measures_the_iou_and_whether_it_is_enough() -> None:
    task = BoxLocalisation()
    assert (task.prediction_shape, task.measures) == ((4,), ("iou", "iou75"))
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    said = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0.75], [0, 0, 1, 0.7], [0.5, 0, 1, 1], [0, 0, -1, 1], [NAN, 0, 1, 1]])
    measured = task.measure(said, unit.expand(6, 4))
    assert measured[:, 0].tolist() == pytest.approx([1, 0.75, 0.7, 1 / 3, 0, 0])
    assert measured[:, 1].tolist() == [1, 1, 0, 0, 0, 0]
    groups = task.measure(said.view(3, 2, 4), unit.expand(3, 2, 4))
    assert torch.equal(groups, measured.view(3, 2, 2))


def test_localisation_takes_the_base_models_box_as_target_and_the_mean_box_by_default() -> None:
    task = BoxLocalisation()
    targets = torch.tensor([[-1.0, -0.5, 0.5, 1.0], [0.0, 0.5, 0.25, 0.5]])
    assert task.as_targets(targets) is targets
    assert task.default_prediction(targets).tolist() == [-0.5, 0.0, 0.375, 0.75]
    assert task.describe({"iou": 0.91566, "iou75": 0.5}, 8) == "mean IoU 0.9157, IoU of 0.75 or more for 0.5000 of 8"


def test_the_published_boxes_of_the_originals_base_model() -> None:
    folder = settings.DATA_ROOT / "CUB"
    message = "the boxes of CUB are not under DATA_ROOT: ../shared/prepare_data.sh data"
    ids, true = read_boxes(need(folder / "bounding_boxes.txt", message))
    base_ids, base = read_boxes(need(folder / "base_bounding-boxes.txt", message))
    assert torch.equal(ids, torch.arange(1, 11_789))
    assert torch.equal(base_ids, ids)
    iou, share = BoxLocalisation().measure(base, true).mean(0).tolist()
    assert round(iou, 4) == 0.9157
    assert round(share, 4) == 0.9467
