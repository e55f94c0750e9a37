"""``parity.evaluate`` takes any base model, split and form of data, or refuses it in a sentence."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder, LinearDecoder, LinearEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.tasks import Embeddings, Regression, Task

Q, P = (1, 8, 8), (10,)


def without_training(base: nn.Module) -> CodedModel:
    return CodedModel(base, BerrutEncoder(2, 1, Q), [], BerrutDecoder(2, 1, P))


class FirstPixels(nn.Module):
    """A base model without a matrix product, and without parameters unless it has weights."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(10)) if weights else None

    def forward(self, queries: Tensor) -> Tensor:
        first = queries.flatten(1)[:, :10]
        return first if self.weights is None else first * self.weights


@pytest.mark.parametrize("weights", [True, False])
def test_a_base_model_without_products_or_parameters_is_evaluated(weights: bool) -> None:
    model = without_training(FirstPixels(weights))
    results = parity.evaluate(model, DigitsDataModule(k=2), backup=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    (first, *_) = codes = results.results["codes"]
    assert math.isnan(first["extra_multiply_adds"])
    assert first["extra_bytes_up"] == 0.5
    assert [code["name"] for code in codes][-1] == "cascade"
    assert "nan" not in str(results).lower()


@pytest.mark.parametrize(("split", "nearest"), [("tset", "did you mean 'test'"), ("train", "test, val")])
def test_what_is_evaluated_is_a_split_that_there_is(split: str, nearest: str) -> None:
    with pytest.raises(ParityError, match=f"there is no split '{split}': .*{nearest}"):
        parity.evaluate(without_training(FirstPixels(False)), DigitsDataModule(k=2), split=split, timed=False)


@pytest.mark.parametrize("task", [Regression((2,)), Embeddings(2)])
def test_measures_do_not_depend_on_validation_data(task: Task) -> None:
    torch.manual_seed(0)
    queries, others = torch.randn(40, 4), 3 * torch.randn(60, 4)
    data, val_data = ((values, values[:, :2].exp()) for values in (queries, others))
    network = nn.Linear(4, 2)
    model = CodedModel(network, LinearEncoder(2, 1, (4,)), [nn.Linear(4, 2)], LinearDecoder(2, 1, (2,)))
    given: tuple[dict[str, Any], ...] = ({}, {"val_data": val_data})
    alone, beside = (parity.evaluate(model, data, task=task, timed=False, **more).results["codes"] for more in given)
    for measure in ("A_a", "A_d", "A_o", "loss"):
        assert alone[0][measure] == beside[0][measure]
    if isinstance(task, Regression):
        squares = (network(queries) - data[1]).square().sum() / (data[1] - data[1].mean(0)).square().sum()
        assert alone[0]["A_a"]["value"] == pytest.approx(1 - squares.item(), rel=1e-4)


def test_a_split_is_of_a_datamodule() -> None:
    data = torch.rand(20, *Q), torch.arange(20) % 10
    with pytest.raises(ParityError, match="split = 'val' is of a datamodule of ours: leave it out"):
        parity.evaluate(without_training(FirstPixels(False)), data, val_data=data, split="val")


class Threshold(nn.Module):
    """Two classes of pixels: below 0.5, and above."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(50.0))

    def forward(self, queries: Tensor) -> Tensor:
        logit = self.slope * (queries - 0.5)
        return torch.cat([-logit, logit], 1)


def test_images_without_a_pixel_that_counts_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    queries = torch.rand(40, *Q)
    targets = (queries[:, 0] > 0.5).long()
    targets[:7], targets[7, 0] = -100, -100
    coders = LinearEncoder(2, 1, Q), LinearDecoder(2, 1, (2, 8, 8))
    model = CodedModel(Threshold(), coders[0], [Threshold()], coders[1])
    results = parity.evaluate(model, (queries, targets), timed=False).results
    assert results["base"]["in_words"] == "pixel accuracy 1.0000, mIoU 1.0000 over 33"
    assert results["codes"][0]["groups"] == 16
    assert "7 queries of the test data are left out: all of their targets are ignored" in caplog.text
