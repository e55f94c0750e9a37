"""Faults that are injected, thresholds, and what a detector is worth."""

import pytest
import torch
from torch.nn import functional

from parity.coded_model import CodedModel
from parity.coders import PackedEncoder, PositionalDecoder
from parity.errors import ParityError
from parity.evaluation.comparison import Likelihood
from parity.evaluation.detection import (
    FAULTS,
    BitFlip,
    NotANumber,
    OfAnotherGroup,
    calibrated,
    detection,
    outputs_of,
)
from parity.experiments import Experiment
from parity.models import MLP, PackedStudents


@pytest.fixture(scope="module")
def digits() -> tuple[CodedModel, object]:
    """Digits at k = 2, and a parity model that is the base model itself, a little off."""
    torch.manual_seed(0)
    datamodule = Experiment("Digits", "mlp_k2_packed_kl").get_datamodule()
    base, student = MLP((1, 8, 8), (10,)), PackedStudents((2, 1, 8, 8), (2, 10), MLP)
    student.network.load_state_dict(base.state_dict())
    with torch.no_grad():
        student.network.layers[-1].bias += 0.02 * torch.randn(10)
    model = CodedModel(base, PackedEncoder(2, 1, (1, 8, 8)), [student], PositionalDecoder(2, 1, (10,)))
    return model, datamodule


def test_a_flipped_bit_changes_one_number_and_flips_back() -> None:
    outputs = torch.randn(6, 10)
    for bit in (31, 30, 22):
        flipped = BitFlip(bit)(outputs, torch.Generator().manual_seed(0))
        assert ((flipped != outputs).sum(1) == 1).all()
        assert torch.equal(BitFlip(bit)(flipped, torch.Generator().manual_seed(0)), outputs)
    signs = BitFlip(31)(outputs, torch.Generator().manual_seed(1))
    assert torch.equal(signs.abs(), outputs.abs())


def test_the_output_of_another_group_is_another_groups() -> None:
    outputs = torch.arange(5.0).view(5, 1)
    mixed = OfAnotherGroup()(outputs, torch.Generator().manual_seed(0))
    assert sorted(mixed.flatten().tolist()) == outputs.flatten().tolist()
    assert (mixed != outputs).all()
    assert NotANumber()(outputs, torch.Generator()).isnan().all()


def test_a_threshold_gives_at_most_the_false_alarms_that_are_asked_for(digits) -> None:
    model, datamodule = digits
    loader = datamodule.loader("val")
    outputs = outputs_of(model, loader)
    everything = torch.ones(len(outputs.base), model.n, dtype=torch.bool)
    for allowed in (0.02, 0.1):
        detector = calibrated(model, loader, datamodule.task, allowed)
        share = detector(outputs.base, outputs.parity, everything).any(1).double().mean()
        assert allowed - 0.02 <= share <= allowed


def test_detectors_notice_what_changes_the_class_and_acting_on_it_makes_good(digits) -> None:
    model, datamodule = digits
    detector = calibrated(model, datamodule.loader("val"), datamodule.task, 0.05)
    outputs = outputs_of(model, datamodule.loader("test"))
    for name in ("NaN", "times −5"):
        found = detection(model, detector, outputs, datamodule.task, FAULTS[name])
        assert found["detected_where_it_matters"] > 0.9
        assert found["acted_on"] == pytest.approx(found["without_fault"], abs=0.03)
    found = detection(model, detector, outputs, datamodule.task, FAULTS["NaN"])
    assert found["detected"] == 1


def test_rates_that_cannot_be_measured_are_refused(digits) -> None:
    model, datamodule = digits
    with pytest.raises(ParityError, match="above 0 and below 1"):
        calibrated(model, datamodule.loader("val"), datamodule.task, 1.0)
    with pytest.raises(ParityError, match=r"too few for 0\.01% false"):
        calibrated(model, datamodule.loader("val"), datamodule.task, 0.0001)


def test_likelihoods_are_those_of_the_probabilities() -> None:
    observer = Likelihood(torch.device("cpu"))
    rebuilt, base = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    targets = torch.randint(4, (3, 2))
    observer.update(rebuilt, base, targets)
    found = observer.summary()
    assert found["base"]["nll"] == pytest.approx(float(functional.cross_entropy(base.flatten(0, 1), targets.flatten())))
    distances = rebuilt.softmax(-1) - functional.one_hot(targets, 4)
    assert found["rebuilt"]["brier"] == pytest.approx(float(distances.square().sum(-1).mean()), rel=1e-5)
