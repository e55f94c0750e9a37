import functools
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from parity.coders import LinearDecoder, MLPDecoder
from parity.errors import ParityError
from parity.training import MeanOver, train_model
from parity.training.objectives.losses import (
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    ParityTargetLoss,
    Patterns,
    ReconstructionLoss,
    SquaredError,
    WeightedSum,
    parities_alone,
)

GROUPS, CLASSES = 5, 4


def example(k: int, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, parity outputs, true labels."""
    return torch.randn(GROUPS, k, CLASSES), torch.randn(GROUPS, r, CLASSES), torch.randint(CLASSES, (GROUPS, k))


def probabilities(logits: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in logits)
    return [math.exp(value) / total for value in logits]


def one_hot(label: int) -> list[float]:
    return [float(c == label) for c in range(CLASSES)]


def squared_error(rebuilt: list[float], reference: list[float] | int) -> float:
    reference = one_hot(reference) if isinstance(reference, int) else reference
    return sum((a - b) ** 2 for a, b in zip(rebuilt, reference, strict=True))


def cross_entropy(rebuilt: list[float], reference: list[float] | int) -> float:
    reference = one_hot(reference) if isinstance(reference, int) else probabilities(reference)
    return -sum(p * math.log(q) for p, q in zip(reference, probabilities(rebuilt), strict=True))


def kl_divergence(rebuilt: list[float], reference: list[float] | int) -> float:
    own = one_hot(reference) if isinstance(reference, int) else probabilities(reference)
    return cross_entropy(rebuilt, reference) + sum(p * math.log(p) for p in own if p)


DISTANCES = [(SquaredError(), squared_error), (KLDivergence(), kl_divergence), (CrossEntropy(), cross_entropy)]


@pytest.mark.parametrize("loss_class", [ReconstructionLoss, LabelReconstructionLoss])
@pytest.mark.parametrize(("distance", "by_hand"), DISTANCES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(("k", "r"), [(2, 1), (3, 2), (2, 3)])
def test_the_mean_over_missing_predictions_of_all_patterns(
    loss_class: type[ReconstructionLoss], distance: nn.Module, by_hand, k: int, r: int
) -> None:
    decoder = LinearDecoder(k, r, (CLASSES,))
    predictions, parity_outputs, labels = example(k, r)
    values = []
    for erased in range(1, min(k, r) + 1):
        for missing in itertools.combinations(range(k), erased):
            available = torch.ones(GROUPS, k + r, dtype=torch.bool)
            available[:, list(missing)] = False
            rebuilt = decoder(predictions, parity_outputs, available)
            for group, i in itertools.product(range(GROUPS), missing):
                truth = labels if loss_class is LabelReconstructionLoss else predictions
                values.append(by_hand(rebuilt[group, i].tolist(), truth[group, i].tolist()))
    loss = loss_class(distance)(decoder, predictions, parity_outputs, labels)
    assert loss.item() == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_gradients_reach_decoder_and_parity_outputs() -> None:
    decoder = MLPDecoder(2, 1, (CLASSES,))
    predictions, parity_outputs, labels = example(2, 1)
    ReconstructionLoss(SquaredError())(decoder, predictions, parity_outputs.requires_grad_(), labels).backward()
    gradients = [parity_outputs.grad, *(parameter.grad for parameter in decoder.parameters())]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_boxes_are_compared_with_true_boxes() -> None:
    decoder, boxes = LinearDecoder(2, 1, (4,)), torch.rand(GROUPS, 2, 4)
    predictions, parity_outputs, _ = example(2, 1)
    rebuilt = decoder.rebuild_each(predictions, parity_outputs)
    loss = LabelReconstructionLoss(SquaredError())(decoder, predictions, parity_outputs, boxes)
    assert loss.item() == pytest.approx((rebuilt - boxes).square().sum(-1).mean().item(), rel=1e-5)


def test_a_sum_of_losses_weighs_them() -> None:
    decoder, arguments = LinearDecoder(2, 1, (CLASSES,)), example(2, 1)
    first, second = ParityTargetLoss(nn.MSELoss()), LabelReconstructionLoss(CrossEntropy())
    expected = 0.25 * first(decoder, *arguments) + 3 * second(decoder, *arguments)
    assert WeightedSum((0.25, first), (3.0, second))(decoder, *arguments).item() == pytest.approx(expected.item())


def test_perfect_reconstructions_lose_nothing() -> None:
    decoder = LinearDecoder(3, 1, (CLASSES,))
    predictions, _, labels = example(3, 1)
    parity_outputs = decoder.parity_targets(predictions)
    for distance in (SquaredError(), KLDivergence()):
        assert ReconstructionLoss(distance)(decoder, predictions, parity_outputs, labels).item() < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_temperature_softens_both_and_keeps_the_size_of_gradients(temperature: float) -> None:
    rebuilt, reference = torch.randn(GROUPS, CLASSES), torch.randn(GROUPS, CLASSES)
    divergence = KLDivergence(temperature)(rebuilt, reference)
    for value, a, b in zip(divergence.tolist(), rebuilt.tolist(), reference.tolist(), strict=True):
        softened = [[x / temperature for x in logits] for logits in (a, b)]
        assert value == pytest.approx(temperature**2 * kl_divergence(*softened), abs=1e-5)
    labels = torch.randint(CLASSES, (GROUPS,))
    assert torch.equal(KLDivergence(temperature)(rebuilt, labels), CrossEntropy()(rebuilt, labels))


@pytest.mark.parametrize("patterns", [parities_alone, functools.partial(parities_alone)])
def test_patterns_that_a_code_cannot_rebuild_are_refused(patterns: Patterns) -> None:
    loss = ReconstructionLoss(SquaredError(), patterns)
    with pytest.raises(
        ParityError, match=r"LinearDecoder cannot be trained on .*parities_alone.*: outputs 0 and 1 of 3"
    ):
        loss(LinearDecoder(2, 1, (CLASSES,)), *example(2, 1))


def test_a_squared_error_does_not_broadcast() -> None:
    with pytest.raises(ParityError, match=r"have the shape \(4, 1\) where targets have \(4,\): give both"):
        SquaredError()(torch.zeros(4, 1), torch.arange(4.0))
    assert SquaredError()(torch.zeros(4, 1), torch.arange(4.0).unsqueeze(1)).tolist() == [0, 1, 4, 9]
    data = [(torch.randn(8, 3), torch.randn(8))]
    model = nn.Linear(3, 1)
    before = model.weight.clone()
    with pytest.raises(ParityError, match=r"predictions have the shape \(2, 1\) where targets have \(2,\)"):
        train_model(model, data, 1, criterion=MeanOver(SquaredError()), progress=False)
    assert torch.equal(model.weight, before)
