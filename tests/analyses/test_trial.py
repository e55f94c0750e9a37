from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parity.analyses.grid import Trial
from parity.analyses.probe import layer_profile
from parity.analyses.trial import _diverged_epoch, run_trial
from parity.models.layered_mlp import LayeredMLP
from parity.training import CrossEntropy
from parity.training.predictive_coding import PredictiveCoding

BP = Trial(rule="bp", state_lr=None, steps=None, state_init=None, width=32, lr=0.01, epochs=6)
PC = Trial(width=32, lr=0.01, state_lr=0.03, epochs=6)


@pytest.mark.parametrize("trial", [BP, PC], ids=["bp", "pc"])
def test_two_moons_is_learned(trial: Trial, tmp_path: Path) -> None:
    result = run_trial(trial, tmp_path)
    assert result["accuracy"] >= 0.95
    assert not result["diverged"]
    assert len(result["train_losses"]) == len(result["gradient_norms"]) == 6
    steps = 1 if trial.rule == "bp" else 9
    assert [len(result["end"]["energy"]), len(result["end"]["variance"])] == [steps, steps]
    assert all(norm > 0 for norm in result["end"]["gradient"])


def test_a_trial_is_repeatable(tmp_path: Path) -> None:
    short = replace(PC, epochs=1, state_init="normal")
    one, other = (run_trial(short, tmp_path) for _ in range(2))
    assert one | {"seconds": 0} == other | {"seconds": 0}
    assert run_trial(replace(short, seed=1), tmp_path)["loss"] != one["loss"]


@pytest.mark.parametrize("rule", ["bp", "pc"])
def test_a_parity_model_is_trained_of_a_base_model_that_is_kept(rule: str, tmp_path: Path) -> None:
    trial = replace(BP if rule == "bp" else PC, parity=True, epochs=3)
    result = run_trial(trial, tmp_path)
    (base,) = (tmp_path / "bases").iterdir()
    before = base.stat().st_mtime_ns
    assert result["reconstruction_accuracy"] > 0.6  # a sum of two points does not tell them apart
    assert result["loss"] < result["untrained_loss"]
    run_trial(replace(trial, epochs=1), tmp_path)
    assert base.stat().st_mtime_ns == before


def test_a_training_that_blows_up_is_a_result(tmp_path: Path) -> None:
    result = run_trial(replace(BP, optimizer="sgd", lr=1e12), tmp_path)
    assert (result["diverged"], result["diverged_epoch"]) == (True, 1)
    assert result["train_losses"] == [None]
    assert result["accuracy"] < 0.95


@pytest.mark.parametrize(
    ("losses", "epoch"),
    [([1.0, 0.5], None), ([9.0, 0.5], None), ([0.5, 9.0, 9.0], 2), ([9.0, 0.5, 9.0], 3), ([0.5, float("nan")], 2)],
)
def test_divergence_is_what_it_ends_in(losses: list[float], epoch: int | None) -> None:
    assert _diverged_epoch(losses, untrained=1.0) == epoch


def test_constant_layer_size_resizes_queries() -> None:
    network = LayeredMLP((1, 28, 28), (196,), [196, 196], resized_to=14)
    assert [parameter.shape for parameter in network.parameters() if parameter.dim() == 2] == [(196, 196)] * 3
    assert network(torch.rand(5, 1, 28, 28)).shape == (5, 196)


def test_a_profile_tells_of_every_layer_and_changes_nothing() -> None:
    network = LayeredMLP((2,), (2,), [8, 8])
    queries, targets = torch.randn(16, 2), torch.randint(0, 2, (16,))
    weights = [parameter.clone() for parameter in network.parameters()]
    profile = layer_profile(PredictiveCoding(CrossEntropy(), 0.1, steps=3), network.stages, queries, targets)
    assert torch.tensor(profile["energy"]).shape == torch.tensor(profile["variance"]).shape == (4, 3)
    assert profile["energy"][0][:2] == [0, 0]
    assert profile["energy"][0][2] == pytest.approx(CrossEntropy()(network(queries), targets).mean().item())
    assert profile["variance"][0][2] == pytest.approx(network(queries).var().item())
    loss = CrossEntropy()(network(queries), targets).mean()
    exact = [torch.autograd.grad(loss, list(stage.parameters()), retain_graph=True) for stage in network.stages]
    backpropagation = layer_profile(PredictiveCoding(CrossEntropy(), steps=0), network.stages, queries, targets)
    norms = [float(torch.nn.utils.get_total_norm(gradients)) for gradients in exact]
    assert backpropagation["gradient"] == pytest.approx(norms)
    assert profile["gradient"] != pytest.approx(norms)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(*pair) for pair in zip(weights, network.parameters(), strict=True))
