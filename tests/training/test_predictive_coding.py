import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.toy import TwoMoonsDataModule
from parity.errors import ParityError
from parity.models import MLP
from parity.models.layered_mlp import LayeredMLP
from parity.tasks import Classification
from parity.training import (
    SGD,
    BaseAccuracy,
    BaseLitModule,
    CrossEntropy,
    Hardware,
    ParityLitModule,
    ParityTargetLoss,
    ReconstructionAccuracy,
    fit,
    train_model,
)
from parity.training.loop.lit_module import BurstModule
from parity.training.objectives.losses import Distance
from parity.training.predictive_coding import (
    HalfSquaredError,
    MeanEnergy,
    ParityPredictiveCodingLitModule,
    PredictiveCoding,
    PredictiveCodingLitModule,
    ZeroDivergenceInference,
)

SHAPES = (4,), (3,)
MOONS = (2,), (2,)


def batch(energy: Distance) -> tuple[Tensor, Tensor]:
    targets = torch.randn(7, 3).double() if isinstance(energy, HalfSquaredError) else torch.randint(0, 3, (7,))
    return torch.randn(7, 4).double(), targets


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.mark.parametrize("energy", [CrossEntropy(), HalfSquaredError()], ids=["cross-entropy", "squared"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "hard_tanh"])
@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_zero_divergence_inference_is_backpropagation(layers: int, activation: str, energy: Distance) -> None:
    network = LayeredMLP(*SHAPES, [8] * (layers - 1), activation).double()
    queries, targets = batch(energy)
    expected = gradients(energy(network(queries), targets).mean(), network)
    found = gradients(ZeroDivergenceInference(energy)(network.stages, queries, targets), network)
    assert relative_error(found, expected) < 1e-12
    settled = gradients(PredictiveCoding(energy, 0.1)(network.stages, queries, targets), network)
    assert layers == 1 or relative_error(settled, expected) > 1e-3, "with states that settle it is a rule of its own"


@pytest.mark.parametrize("state_init", ["forward", "normal"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_energy_falls_with_every_step_of_a_small_rate(activation: str, state_init: str) -> None:
    rule = PredictiveCoding(CrossEntropy(), 0.02, state_init=state_init)
    network = LayeredMLP(*SHAPES, [16] * 3, activation).double()
    queries, targets = batch(rule.output_energy)
    energies = [
        rule.energies(network.stages, states, targets).sum(1)
        for states in rule.inference(network.stages, queries, targets, 50)
    ]
    assert all((after < before).all() for before, after in itertools.pairwise(energies))


def test_forward_states_have_no_energy_but_the_output_s() -> None:
    rule = PredictiveCoding(CrossEntropy())
    network = LayeredMLP(*SHAPES, [8, 8]).double()
    queries, targets = batch(rule.output_energy)
    states = next(rule.inference(network.stages, queries, targets, 0))
    energies = rule.energies(network.stages, states, targets)
    assert energies[:, :-1].abs().max() == 0
    torch.testing.assert_close(energies[:, -1], CrossEntropy()(network(queries), targets))


def test_a_query_s_states_do_not_depend_on_the_batch() -> None:
    rule = PredictiveCoding(CrossEntropy(), 0.3)
    network = LayeredMLP(*SHAPES, [8, 8]).double()
    queries, targets = batch(rule.output_energy)
    *_, together = rule.inference(network.stages, queries, targets, 8)
    *_, alone = rule.inference(network.stages, queries[2:3], targets[2:3], 8)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one[0], other[2], rtol=1e-12, atol=1e-12)


def trained(module: BurstModule, k: int, folder: Path) -> list[Tensor]:
    datamodule = TwoMoonsDataModule(k=k, batch_size=64, steps_per_epoch=10)
    fit(module, datamodule, folder, {"max_epochs": 2}, hardware=Hardware("cpu"))
    return [value.clone() for value in module.model.state_dict().values()]


@pytest.mark.parametrize("k", [1, 2], ids=["base", "parity"])
def test_the_training_loop_takes_the_rule_s_steps(k: int, tmp_path: Path) -> None:
    """With zero-divergence inference, two epochs of ``fit`` end where those of backpropagation do."""
    ends = []
    for rule in (None, ZeroDivergenceInference(CrossEntropy() if k == 1 else HalfSquaredError())):
        torch.manual_seed(0)
        network: nn.Module = LayeredMLP(*MOONS, [16, 16])
        task, optimizer = Classification(2), SGD(0.05)
        module: BurstModule
        if k == 1:
            accuracy = BaseAccuracy(task)
            loss = MeanEnergy(CrossEntropy())
            bp = BaseLitModule(network, loss, accuracy, optimizer)
            module = bp if rule is None else PredictiveCodingLitModule(network, rule, accuracy, optimizer)
        else:
            base = LayeredMLP(*MOONS, [16])
            model = CodedModel(base, LinearEncoder(2, 1, (2,)), [network], LinearDecoder(2, 1, (2,)))
            rebuilt = ReconstructionAccuracy(task, 2)
            target_loss = ParityTargetLoss(MeanEnergy(HalfSquaredError()))
            bp_parity = ParityLitModule(model, target_loss, rebuilt, optimizer)
            module = bp_parity if rule is None else ParityPredictiveCodingLitModule(model, rule, rebuilt, optimizer)
        before = [value.clone() for value in module.model.state_dict().values()]
        after = trained(module, k, tmp_path / str(rule is None))
        assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
        ends.append(after)
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_network_that_does_not_tell_its_layers_is_an_error(tmp_path: Path) -> None:
    rule = PredictiveCoding(CrossEntropy())
    module = PredictiveCodingLitModule(MLP(*MOONS), rule, BaseAccuracy(Classification(2)), SGD())
    with pytest.raises(ParityError, match="'stages'"):
        trained(module, 1, tmp_path)


@pytest.mark.parametrize("wrong", [{"state_lr": -1.0}, {"steps": -1}, {"state_init": "zero"}])
def test_rates_that_make_no_sense_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ParityError):
        PredictiveCoding(CrossEntropy(), **wrong)  # type: ignore[arg-type]


def test_train_model_takes_the_rule_as_its_criterion() -> None:
    torch.manual_seed(0)
    data = [(torch.randn(8, 1, 4, 4), torch.randint(0, 3, (8,))) for _ in range(4)]
    model = LayeredMLP((1, 4, 4), (3,), hidden=(5,))
    options = dict(lit_module=PredictiveCodingLitModule, progress=False)
    history = train_model(model, data, 2, criterion=PredictiveCoding(CrossEntropy()), **options).history
    assert history[1]["train/loss"] < history[0]["train/loss"]
    with pytest.raises(ParityError, match=r"PredictiveCoding\(CrossEntropy\(\)\) .*, not by a CrossEntropyLoss"):
        train_model(model, data, 1, **options)
