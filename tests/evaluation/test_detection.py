"""Faults that are injected, thresholds, and what a detector is worth."""

import pytest
import torch
from torch.nn import functional

from parity.coded_model import CodedModel
from parity.coders import PackedEncoder, PositionalDecoder
from parity.coders.detection import Distance
from parity.errors import ParityError
from parity.evaluation import faults
from parity.evaluation.comparison import Likelihood
from parity.evaluation.detection import _accuracy, calibrated, detection, with_wrong_workers
from parity.evaluation.faults import (
    FAULTS,
    NETWORK_FAULTS,
    ActivationBitFlip,
    BitFlip,
    NotANumber,
    OfAnotherGroup,
    Outputs,
    WeightBitFlip,
    outputs_of,
    with_fault,
    with_faulty_networks,
)
from parity.experiments import Experiment
from parity.models import MLP, PackedStudents
from parity.tasks import BoxLocalisation, Classification, DensePrediction, Embeddings, MultiLabel, Regression, Task


@pytest.fixture(scope="module")
def digits() -> tuple[CodedModel, object]:
    """Digits at k = 2, and a parity model that is the base model itself, a little off."""
    torch.manual_seed(0)
    datamodule = Experiment("Digits", "mlp_k2_packed_kl").get_datamodule()
    base, student = MLP((1, 8, 8), (10,)), PackedStudents((2, 1, 8, 8), (2, 10), MLP)
    with torch.no_grad():
        base.layers[-1].weight *= 20  # as far from each other as the predictions of a network that was trained
    student.network.load_state_dict(base.state_dict())
    with torch.no_grad():
        student.network.layers[-1].bias += 0.2 * torch.randn(10)
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


def as_if_right(outputs: Outputs) -> Outputs:
    """As if the base model, which is not trained here, were right about everything."""
    return outputs._replace(targets=outputs.base.argmax(-1))


def test_detectors_notice_what_changes_the_class_and_acting_on_it_makes_good(digits) -> None:
    model, datamodule = digits
    detector = calibrated(model, datamodule.loader("val"), datamodule.task, 0.05)
    outputs = as_if_right(outputs_of(model, datamodule.loader("test")))
    for name in ("NaN", "times −5"):
        found = detection(model, detector, outputs, with_fault(outputs, FAULTS[name]), datamodule.task)
        assert found["detected_where_it_matters"] > 0.9
        assert found["acted_on"] == pytest.approx(found["without_fault"], abs=0.03)
        assert found["ignored"] < found["acted_on"]
    found = detection(model, detector, outputs, with_fault(outputs, FAULTS["NaN"]), datamodule.task)
    assert found["detected"] == 1
    only = detection(model, detector, outputs, with_fault(outputs, FAULTS["NaN"]), datamodule.task, workers=[2])
    assert only["ignored"] == pytest.approx(only["without_fault"])  # a parity output that nobody needs
    assert only["detected_where_it_matters"] is None


def test_a_flipped_bit_of_a_weight_changes_one_weight_of_a_copy() -> None:
    network, generator = MLP((6,), (3,), hidden=(5,)), torch.Generator().manual_seed(0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    places = set()
    for _ in range(20):
        broken = WeightBitFlip(31)(network, generator).state_dict()
        changed = [(name, i) for name, value in broken.items() for i in (value != before[name]).flatten().nonzero()]
        ((name, place),) = changed
        assert broken[name].flatten()[place] == -before[name].flatten()[place]
        places.add((name, int(place)))
    assert len(places) > 5
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ParityError, match="no float32 weights"):
        WeightBitFlip(31)(torch.nn.ReLU(), generator)


def test_a_flipped_bit_of_an_activation_is_in_a_hidden_layer_of_a_copy() -> None:
    network, queries = (
        torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6)),
        torch.rand(5, 4),
    )
    with torch.no_grad():  # what the last layer gets can be read off what it puts out
        network[2].weight.copy_(torch.eye(6))
        network[2].bias.zero_()
    right = network(queries)
    for seed in range(6):
        wrong = ActivationBitFlip(31)(network, torch.Generator().manual_seed(seed))(queries)
        assert ((wrong != right).sum(1) == 1).all()
        assert torch.allclose(wrong.abs(), right.abs())  # the sign of tanh, before or behind it
    assert torch.equal(network(queries), right)


def test_faulty_networks_put_out_what_their_workers_would(digits) -> None:
    model, datamodule = digits
    loader = datamodule.loader("test")
    outputs = outputs_of(model, loader)

    def broken(network: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
        return torch.nn.Sequential(network, torch.nn.Threshold(1e9, 7.0))

    wrong = with_faulty_networks(model, loader, broken)
    assert (wrong.base == 7).all()
    assert (wrong.parity == 7).all()
    assert torch.equal(wrong.targets, outputs.targets)
    for name, fault in NETWORK_FAULTS.items():
        first, again = (with_faulty_networks(model, loader, fault, seed=3) for _ in range(2))
        assert torch.equal(first.base.nan_to_num(), again.base.nan_to_num()), name
        assert not torch.equal(first.base, outputs.base), name


def test_faults_of_networks_are_many_and_groups_that_share_one_are_not_independent(
    digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, datamodule = digits
    loader, fault = datamodule.loader("test"), NETWORK_FAULTS["exponent bit of a weight flipped"]
    assert with_faulty_networks(model, loader, fault).draw.tolist() == list(range(180))  # one for each group
    monkeypatch.setattr(faults, "DRAWS", 12)
    wrong = with_faulty_networks(model, loader, fault)
    assert 12 <= int(wrong.draw.max()) + 1 <= 24
    detector = calibrated(model, datamodule.loader("val"), datamodule.task, 0.05)
    outputs = as_if_right(outputs_of(model, loader))
    shared, own = (
        with_wrong_workers(model, detector, outputs, of, datamodule.task, 1.0)["gain"]
        for of in (wrong, wrong._replace(draw=None))
    )
    assert shared["value"] == pytest.approx(own["value"])
    assert shared["high"] - shared["low"] > own["high"] - own["low"]


def test_with_wrong_workers_acting_on_suspects_helps_and_without_any_costs_false_alarms_alone(digits) -> None:
    model, datamodule = digits
    detector = calibrated(model, datamodule.loader("val"), datamodule.task, 0.05)
    outputs = as_if_right(outputs_of(model, datamodule.loader("test")))
    wrong = with_fault(outputs, FAULTS["classes shifted"])
    right = detection(model, detector, outputs, outputs, datamodule.task)
    none, some, more = (
        with_wrong_workers(model, detector, outputs, wrong, datamodule.task, g) for g in (0.0, 0.1, 0.3)
    )
    assert none["ignored"] == pytest.approx(right["without_fault"])
    assert none["acted_on"] == pytest.approx(right["acted_on"])
    assert none["ignored"] > some["ignored"] > more["ignored"]
    assert some["gain"]["low"] > 0
    assert some["gain"]["value"] == pytest.approx(some["acted_on"] - some["ignored"])
    everything = with_wrong_workers(model, detector, outputs, wrong, datamodule.task, 1.0)
    shifted = (outputs.base.roll(1, -1).argmax(-1) == outputs.targets).double().mean()
    assert everything["ignored"] == pytest.approx(float(shifted))
    with pytest.raises(ParityError, match="probability from 0 to 1"):
        with_wrong_workers(model, detector, outputs, wrong, datamodule.task, 1.1)


def test_rates_that_cannot_be_measured_are_refused(digits) -> None:
    model, datamodule = digits
    with pytest.raises(ParityError, match="above 0 and below 1"):
        calibrated(model, datamodule.loader("val"), datamodule.task, 1.0)
    with pytest.raises(ParityError, match=r"too few for 0\.01% false"):
        calibrated(model, datamodule.loader("val"), datamodule.task, 0.0001)


def test_as_many_groups_as_are_asked_for_are_enough(digits, monkeypatch: pytest.MonkeyPatch) -> None:
    model, datamodule = digits
    outputs = outputs_of(model, datamodule.loader("val"))
    found = {count: Outputs(*(values[:count] for values in outputs[:3])) for count in (3, 4)}
    monkeypatch.setattr("parity.evaluation.detection.outputs_of", lambda _, count: found[count])
    with pytest.raises(ParityError, match=r"3 groups are too few for 30\.00% false alarms: 4 or more are needed"):
        calibrated(model, 3, datamodule.task, 0.3)
    assert calibrated(model, 4, datamodule.task, 0.3).threshold >= 0


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (Classification(3), torch.tensor([[0]])),
        (MultiLabel(2), torch.tensor([[[1, 0]]])),
        (DensePrediction(2, (2,)), torch.tensor([[[0, 0]]])),
        (BoxLocalisation(), torch.tensor([[[-0.5, -0.5, 1.0, 1.0]]])),
        (Embeddings(2).fitted(torch.eye(2)), torch.tensor([[[1.0, 0.0]]])),
        (Regression().fitted(torch.tensor([[-1.0], [1.0]])), torch.tensor([[[0.0]]])),
    ],
)
def test_what_is_not_a_number_is_not_right(task: Task, target: torch.Tensor) -> None:
    nothing = torch.full((1, 1, *task.prediction_shape), torch.nan)
    expected = task.measure(nothing, target)[0, 0, 0].double().nan_to_num(0.0)
    assert _accuracy(nothing, target, task).item() == expected
    assert expected == (0.5 if isinstance(task, MultiLabel) else 0)  # a label ranked last of two


def test_likelihoods_are_those_of_the_probabilities() -> None:
    observer = Likelihood(torch.device("cpu"))
    rebuilt, base = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    targets = torch.randint(4, (3, 2))
    observer.update(rebuilt, base, targets)
    found = observer.summary()
    assert found["base"]["nll"] == pytest.approx(float(functional.cross_entropy(base.flatten(0, 1), targets.flatten())))
    distances = rebuilt.softmax(-1) - functional.one_hot(targets, 4)
    assert found["rebuilt"]["brier"] == pytest.approx(float(distances.square().sum(-1).mean()), rel=1e-5)


def test_outputs_that_are_not_numbers_give_no_threshold(digits, monkeypatch: pytest.MonkeyPatch) -> None:
    model, datamodule = digits
    outputs = outputs_of(model, datamodule.loader("val"))
    outputs.base[: len(outputs.base) // 10] = torch.nan
    monkeypatch.setattr("parity.evaluation.detection.outputs_of", lambda *_: outputs)
    monkeypatch.setattr("parity.evaluation.detection.difference_for", lambda _: Distance())  # as of numbers
    with pytest.raises(ParityError, match=r"more than 5\.00% of \d+ groups without faults hold outputs that are not"):
        calibrated(model, datamodule.loader("val"), datamodule.task, 0.05)
    assert calibrated(model, datamodule.loader("val"), datamodule.task, 0.2).threshold >= 0
