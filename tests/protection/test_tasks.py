"""Networks of every task are protected, measured, reported and trained by their own losses and measures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import parity
from parity.errors import ParityError
from parity.export.programs import trace
from parity.tasks import DensePrediction, Embeddings, MultiLabel, Regression, Task
from parity.training import train_model
from parity.training.objectives.losses import BinaryCrossEntropy, CrossEntropy, KLDivergence, SquaredError
from parity.training.objectives.of_tasks import distance_to_predictions, distance_to_targets

QUIET = dict(progress=False, accelerator="cpu", k=2, max_epochs=2)
IMAGES = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def vectors(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, outputs)
    ).eval()


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)).eval()


CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, type[Task], str]] = {
    "one number": (lambda: vectors(1), IMAGES.mean((1, 2, 3)), Regression, "of R²"),
    "numbers": (lambda: vectors(3), IMAGES[:, 0, :3, 0], Regression, "of R²"),
    "labels": (lambda: vectors(5), (IMAGES[:, 0, 0, :5] > 0.5).float(), MultiLabel, "points"),
    "pixels": (dense, (3 * IMAGES[:, 0]).long().clamp(max=2), DensePrediction, "points"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_of_any_task_is_protected_measured_and_reported(name: str, tmp_path: Path) -> None:
    network, targets, task, unit = CASES[name]
    result = parity.protect(network(), (IMAGES, targets), **QUIET)
    assert type(result.data.task) is task
    assert unit in str(result)
    evaluation = result.evaluate((IMAGES, targets), baselines=True, timed=False)
    page = next(path for path in evaluation.report(tmp_path) if path.name == "report.md").read_text()
    assert parity.tasks.measure_name(result.data.task.measures[0]).name in page
    code = evaluation.results["codes"][0]
    assert code["A_a"]["low"] <= code["A_a"]["value"] <= code["A_a"]["high"]
    assert set(result.history[-1]) >= {
        f"val/{against}_{measure}" for against in ("overall", "reconstruction") for measure in result.data.task.measures
    }


def test_embeddings_are_compared_with_the_base_models() -> None:
    result = parity.protect(vectors(6), IMAGES, task=Embeddings(6), **QUIET)
    code = result.measured.results["codes"][0]
    assert code["A_a"]["value"] == pytest.approx(1)
    assert "of the cosine" in str(result)


def test_a_dense_network_predicts_its_cells_and_their_pixels_are_spread_to_all() -> None:
    result = parity.protect(dense(), (IMAGES, CASES["pixels"][1]), **QUIET)
    assert result.code == "cells"
    (parity_model,) = result.coded_model.parity_models
    assert parity_model(IMAGES[:2]).shape == (2, 2, 3, 8, 8)
    program = trace(parity_model, "the parity model", ((1, 8, 8), torch.float32))  # as an artefact has it
    torch.testing.assert_close(program.module()(IMAGES[:5]), parity_model(IMAGES[:5]))


class Fixed(nn.Module):
    """Puts out as many pixels whatever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(3, 8, 8))

    def forward(self, queries: Tensor) -> Tensor:
        return queries.reshape(-1, 1, 8, 8) * self.weights


def test_a_dense_output_that_a_cell_cannot_have_is_refused() -> None:
    with pytest.raises(ParityError, match=r"the network cannot take cells of \(1, 8, 4\) \(it returns \(1, 3, 8, 8\)"):
        parity.protect(Fixed(), (IMAGES, CASES["pixels"][1]), code="cells", **QUIET)


def test_a_parity_model_with_the_wrong_number_of_outputs_is_refused() -> None:
    from parity.coders import GridEncoder, PositionalDecoder

    encoder, decoder = GridEncoder(2, 1, (1, 8, 8)), PositionalDecoder(2, 1, (3,))
    model = parity.CodedModel(vectors(3), encoder, [vectors(3)], decoder)
    batches = [(IMAGES[:8].unflatten(0, (4, 2)), torch.zeros(4, 2, dtype=torch.long))]
    with pytest.raises(ParityError, match=r"the parity models put out \(3,\) .* PositionalDecoder takes \(2, 3\)"):
        train_model(model, batches, 1, progress=False, accelerator="cpu")


@pytest.mark.parametrize("name", ["labels", "pixels"])
def test_a_base_model_is_trained_on_targets_of_its_task(name: str) -> None:
    network, targets, _, _ = CASES[name]
    batches = list(zip(IMAGES.split(40), targets.long().split(40), strict=True))
    trained = train_model(network(), batches, 3, val_data=batches, lr=1e-2, progress=False, accelerator="cpu")
    losses = [epoch["train/loss"] for epoch in trained.history]
    assert losses[-1] < losses[0]
    assert {"labels": "val/map", "pixels": "val/miou"}[name] in trained.history[-1]


def test_a_regression_of_batches_needs_to_be_fitted() -> None:
    batches = list(zip(IMAGES.split(40), IMAGES.mean((2, 3)).split(40), strict=True))
    with pytest.raises(ParityError, match=r"hand over Regression\(shape\)\.fitted\(targets\)"):
        train_model(vectors(1), batches, 1, task=Regression(), progress=False, accelerator="cpu")
    task = Regression().fitted(IMAGES.mean((2, 3)))
    trained = train_model(vectors(1), batches, 1, val_data=batches, task=task, progress=False, accelerator="cpu")
    assert "val/r2" in trained.history[-1]


def test_losses_fit_what_predictions_are() -> None:
    for task, to_targets, to_predictions in (
        (DensePrediction(3, (4,)), CrossEntropy, KLDivergence),
        (MultiLabel(3), BinaryCrossEntropy, BinaryCrossEntropy),
        (Regression(), SquaredError, SquaredError),
        (Embeddings(3), SquaredError, SquaredError),
    ):
        assert type(distance_to_targets(task)) is to_targets
        assert type(distance_to_predictions(task, 2.0)) is to_predictions


def test_losses_of_pixels_are_means_over_those_that_have_a_class() -> None:
    torch.manual_seed(0)
    rebuilt, logits, classes = torch.randn(5, 3, 4), torch.randn(5, 3, 4), torch.randint(0, 3, (5, 4))
    expected = nn.functional.cross_entropy(rebuilt, classes, reduction="none").mean(1)
    torch.testing.assert_close(CrossEntropy()(rebuilt, classes), expected)
    by_pixel = KLDivergence(2.0)(rebuilt.mT.flatten(0, 1), logits.mT.flatten(0, 1)).view(5, 4).mean(1)
    torch.testing.assert_close(KLDivergence(2.0)(rebuilt, logits), by_pixel)
    ignored = classes.index_fill(1, torch.tensor([0]), -100)
    expected = nn.functional.cross_entropy(rebuilt, ignored, reduction="none").mean(1)
    torch.testing.assert_close(CrossEntropy()(rebuilt, ignored), expected)


def test_the_loss_of_labels_has_its_least_where_logits_agree() -> None:
    logits, present = torch.randn(6, 4), (torch.rand(6, 4) > 0.5).long()
    loss = BinaryCrossEntropy(2.0)
    assert (loss(logits, logits) < loss(logits + 0.5, logits)).all()
    expected = nn.functional.binary_cross_entropy_with_logits(logits, present.float(), reduction="none").sum(1)
    torch.testing.assert_close(loss(logits, present), expected)
