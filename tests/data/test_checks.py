import numpy as np
import pytest
import torch

from parity.data.checks import check_counts, check_network_inputs, check_queries, check_targets
from parity.errors import ParityError
from parity.tasks import BoxLocalisation, Classification
from parity.tasks.checks import check_finite

TEN = Classification(10)
SHAPE = (3, 8, 6)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_width_become_int64(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 9, 3], dtype=dtype)
    for given in (labels, labels.unsqueeze(1)):
        found = check_targets(given, TEN, "the training data")
        assert found.dtype == torch.int64
        assert found.tolist() == [0, 9, 3]


def test_bool_labels_are_two_classes() -> None:
    labels = torch.tensor([True, False])
    assert check_targets(labels, Classification(2), "data").tolist() == [1, 0]
    with pytest.raises(ParityError, match="bool, which stands for two classes, not 10"):
        check_targets(labels, TEN, "data")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.arange(1, 11), "run from 1 to 10, and 10 classes are numbered 0 to 9: subtract 1"),
        (torch.tensor([-1, 3]), "run from -1 to 3, .*: remove the queries whose target is -1"),
        (torch.tensor([-100, 9]), "run from -100 to 9, .*: remove the queries whose target is -100"),
        (torch.tensor([0, 99]), "run from 0 to 99, .*: number the classes from 0, or declare"),
        (torch.eye(10), "look one-hot, .*argmax"),
        (torch.eye(10, dtype=torch.long), "look one-hot, .*argmax"),
        (torch.eye(3), "look one-hot, .*argmax"),
        (torch.zeros(4, 3), r"of shape \(N,\), not \(4, 3\)"),
        (torch.zeros(4), r"are float32, and classes are integers: hand over targets\.long"),
        (torch.zeros(0, dtype=torch.long), "there are no targets"),
        (torch.tensor(3), "there are no targets"),
        ([1, 2], r"should be a tensor, not list: hand over torch\.as_tensor"),
        (np.arange(3), "should be a tensor, not ndarray"),
    ],
)
def test_wrong_labels_are_refused_with_what_was_found_and_the_fix(targets: object, message: str) -> None:
    with pytest.raises(ParityError, match=message) as error:
        check_targets(targets, TEN, "the test data of Dice")
    assert str(error.value).startswith("the test data of Dice: ")


def test_boxes_are_four_finite_floats() -> None:
    assert check_targets(torch.rand(5, 4).double(), BoxLocalisation(), "data").dtype == torch.float32
    for wrong in (torch.rand(5), torch.rand(5, 3), torch.zeros(5, 4, dtype=torch.long), torch.full((2, 4), torch.nan)):
        with pytest.raises(ParityError, match=r"^data: targets"):
            check_targets(wrong, BoxLocalisation(), "data")


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (torch.zeros(4, 8, 6, 3), r"not \(4, 8, 6, 3\): channels come first, .*permute\(0, 3, 1, 2\)"),
        (torch.zeros(4, 3, 8, 7), r"should have the shape \(N, 3, 8, 6\), not \(4, 3, 8, 7\): resize"),
        (torch.zeros(4, 144), r"reshape\(-1, 3, 8, 6\)"),
        (torch.zeros(3, 8, 6), r"a batch of one is queries\.unsqueeze\(0\)"),
        (torch.zeros(0, 3, 8, 6), "there are no queries"),
        (torch.tensor(1.0), "there are no queries"),
        (np.zeros((4, 3, 8, 6)), "should be a tensor, not ndarray"),
        ([[1.0]], "should be a tensor, not list"),
        (torch.zeros(4, 3, 8, 6, dtype=torch.bool), "are numbers, not bool"),
        (torch.zeros(4, 3, 8, 6, dtype=torch.cfloat), "are numbers, not complex64"),
    ],
)
def test_wrong_queries_are_refused_with_what_was_found_and_the_fix(queries: object, message: str) -> None:
    with pytest.raises(ParityError, match=message) as error:
        check_queries(queries, SHAPE, "val_data")
    assert str(error.value).startswith("val_data: ")


def test_grey_images_lack_a_channel() -> None:
    with pytest.raises(ParityError, match=r"\(5, 8, 8\): hand over queries\.unsqueeze\(1\)"):
        check_queries(torch.zeros(5, 8, 8), (1, 8, 8), "data")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_named_by_its_index(value: float) -> None:
    queries = torch.zeros(3000, 2)
    queries[2500, 1] = value
    with pytest.raises(ParityError, match=r"^data: queries have (NaN|infinity) at index 2500"):
        check_queries(queries, (2,), "data")
    with pytest.raises(ParityError, match="index 2500"):
        check_finite(queries[:, 1], "queries", "data")


def test_networks_take_float32() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        check_network_inputs(torch.zeros(2, *SHAPE, dtype=dtype), SHAPE, "data")
    for dtype, fix in ((torch.float64, r"queries\.float\(\)\."), (torch.uint8, r"queries\.float\(\) / 255")):
        with pytest.raises(ParityError, match=f"are {str(dtype)[6:]}, and networks take float32: hand over {fix}"):
            check_network_inputs(torch.zeros(2, *SHAPE, dtype=dtype), SHAPE, "data")


def test_397_labels_are_not_for_400_images() -> None:
    with pytest.raises(ParityError, match="there are 400 queries and 397 targets"):
        check_counts(torch.zeros(400, 2), torch.zeros(397), "data")
