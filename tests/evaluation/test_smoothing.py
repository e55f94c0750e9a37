import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import NeRCCDecoder, NeRCCEncoder
from parity.data import GroupDataModule, GroupSampler, TensorLoader, get_datamodule_class
from parity.data.digits import DigitsDataModule
from parity.data.loaders import Scaling
from parity.errors import ParityError
from parity.evaluation import Smoothing, choose_smoothing, evaluate_code
from parity.experiments import Experiment
from parity.models import MLP, load_into, read_weights
from parity.tasks import Classification

TASK = Classification(10)


def loader(k: int, split: str = "val", batch_size: int = 7) -> TensorLoader:
    queries, targets = DigitsDataModule().load(train=False)
    sampler = GroupSampler(torch.arange(100), k, batch_size, seed=0, shuffle=False)
    return TensorLoader(queries, targets, sampler, Scaling(16.0), split)


def network() -> nn.Module:
    """A network of random weights: large ones, so that it is far from linear."""
    mlp = MLP((1, 8, 8), (10,), hidden=(40,))
    for parameter in mlp.parameters():
        nn.init.normal_(parameter, std=0.5)
    return mlp


@pytest.mark.parametrize(("k", "r", "erased"), [(3, 1, 1), (4, 2, 2)])
def test_the_pair_that_agrees_most_with_the_base_model_is_chosen(k: int, r: int, erased: int) -> None:
    base, grid = network(), (0.0, 0.03, 1.0)
    source = loader(k)
    queries = source.queries[source.sampler.groups()] / 16

    def agreement(smoothing: tuple[float, float]) -> float:
        encoder, decoder = NeRCCEncoder(k, r, (1, 8, 8), smoothing[0]), NeRCCDecoder(k, r, (10,), smoothing[1])
        model = CodedModel(base, encoder, [], decoder)
        with torch.no_grad():
            said = model.base_outputs(queries).argmax(-1)
            answers = [model(queries, row.expand(len(said), -1)) for row in erasures.patterns(k + r, erased)]
        return float((torch.stack(answers).argmax(-1) == said).double().mean())

    best = max(itertools.product(grid, grid), key=agreement)
    assert choose_smoothing(base, source, TASK, r, erased, grid) == best
    assert choose_smoothing(base, loader(k, batch_size=1000), TASK, r, erased, grid) == best


@pytest.mark.parametrize("grid", [(math.inf, 0.0), (0.0, math.inf)])
def test_of_pairs_that_are_equally_good_the_first_counts(grid: tuple[float, float]) -> None:
    """Two queries lie on a straight line, and so do a linear base model's answers: every smoothing is exact."""
    base = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    chosen = choose_smoothing(base, loader(2), TASK, r=2, grid=grid)
    assert chosen == Smoothing(encoder=grid[0], decoder=grid[0])


def test_test_data_is_refused() -> None:
    with pytest.raises(ParityError, match="on validation data: hand over the loader of 'val'"):
        choose_smoothing(network(), loader(3, "test"), TASK)


@pytest.mark.parametrize(("r", "erased"), [(1, 0), (1, 2), (0, 1)])
def test_missing_outputs_are_those_that_the_code_tolerates(r: int, erased: int) -> None:
    with pytest.raises(ParityError, match=f"1 to r = {r}, so it cannot be {erased}"):
        choose_smoothing(network(), loader(3), TASK, r, erased)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ParityError, match="the grid is empty"):
        choose_smoothing(network(), loader(3), TASK, grid=())


def test_the_base_model_is_in_eval_mode_and_gets_no_gradients() -> None:
    class Strict(nn.Module):
        def forward(self, queries: Tensor) -> Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            return queries.flatten(1)[:, :10]

    choose_smoothing(Strict().train(), loader(3), TASK, grid=(0.0,))


def test_the_base_model_passes_once_for_each_lambda_of_the_encoder() -> None:
    class Counting(nn.Module):
        passes = 0

        def forward(self, queries: Tensor) -> Tensor:
            self.passes += 1
            return queries.flatten(1)[:, :10]

    base, source = Counting(), loader(3)
    choose_smoothing(base, source, TASK, grid=(0.0, 0.1, 1.0))
    assert base.passes == len(source.sampler) * (1 + 3)


def on_mnist(published_weights: Path, k: int) -> tuple[nn.Module, GroupDataModule]:
    base = Experiment("MNIST", "mlp_base").get_model()
    load_into(base, read_weights(published_weights), published_weights)
    return base, get_datamodule_class("MNIST")(k=k, batch_size=2500)


# The docstring of parity.coders.nercc, to three digits
@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(
    ("k", "r", "smoothing", "expected"),
    [
        (2, 1, (0, 0), (0.856,)),
        (3, 1, (1e-3, 0), (0.814,)),
        (4, 1, (0, 0), (0.772,)),
        (8, 1, (1e-4, 0), (0.704,)),
        (12, 1, (1e-5, 0), (0.681,)),
        (2, 2, (0, 0), (0.976, 0.866)),
        (3, 2, (1e-2, 1e-3), (0.940, 0.828)),
        (4, 2, (1e-3, 0), (0.917, 0.817)),
        (8, 2, (1e-5, 1e-5), (0.906, 0.840)),
    ],
)
def test_mnist_figures(
    published_weights: Path, k: int, r: int, smoothing: tuple[float, float], expected: tuple[float, ...]
) -> None:
    base, datamodule = on_mnist(published_weights, k)
    encoder, decoder = NeRCCEncoder(k, r, (1, 28, 28), smoothing[0]), NeRCCDecoder(k, r, (10,), smoothing[1])
    model = CodedModel(base, encoder, [], decoder)
    evaluation = evaluate_code(model, datamodule.loader("test"), datamodule.task, torch.eye(10)[1])
    measured = [evaluation.degraded(erased) for erased in range(1, r + 1)]
    assert measured == [pytest.approx(figure, abs=0.001) for figure in expected]


@pytest.mark.usefixtures("mnist")
def test_mnist_smoothing(published_weights: Path) -> None:
    base, datamodule = on_mnist(published_weights, 8)
    assert choose_smoothing(base, datamodule.loader("val"), datamodule.task) == (1e-4, 0)
