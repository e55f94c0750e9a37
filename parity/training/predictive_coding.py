"""Predictive coding as a learning rule: hidden states settle while the output is clamped, then the weights take a step.

Of a network of L layers f_1, ..., f_L, x_0 is the query and x_1, ..., x_{L-1} are the hidden states. The energy of one
query is the sum of those of its layers,

    E = sum_{l < L} 1/2 ||x_l - f_l(x_{l-1})||^2 + output_energy(f_L(x_{L-1}), target).

Inference is T steps of gradient descent on the states, all at once, with the state learning rate gamma; each query's
states follow that query's own energy, whatever else is in the batch. Learning is one step of the optimiser on the
energy's gradient for the weights, the states held still; that energy is the *mean* over the batch, as losses are, so
that learning rates mean the same as with backpropagation.

The setting is that of Pinchetti et al., "Benchmarking Predictive Coding Networks -- Made Simple" (2024), section 5.1:
classification has the cross-entropy as its output energy there (their PC-CE), parity training half the squared error.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.data import GroupBatch
from parity.errors import ParityError
from parity.metrics import BaseAccuracy, ReconstructionAccuracy
from parity.training.loop.lit_module import BaseLitModule, ParityLitModule
from parity.training.objectives.losses import Distance, ParityTargetLoss, SquaredError
from parity.training.objectives.optimizers import OptimizerFactory

STATE_INITS = ("forward", "normal")

Stages = Sequence[nn.Module] | nn.ModuleList


class HalfSquaredError(SquaredError):
    """Half the squared error, summed over P: the energy of a layer."""

    def forward(self, rebuilt: Tensor, reference: Tensor) -> Tensor:
        """Compare: (B, *P), (B, ...) -> (B,)."""
        return super().forward(rebuilt, reference) / 2


class MeanEnergy(nn.Module):
    """The mean over the batch of an output energy: the loss of which backpropagation is the counterpart.

    Args:
        energy: (B, *P), (B, ...) -> (B,).
    """

    def __init__(self, energy: Distance) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Compute: (B, *P), (B, ...) -> scalar."""
        return self.energy(predictions, targets).mean()


class PredictiveCoding(nn.Module):
    """The energy of a batch after inference: its gradient for the weights is predictive coding's.

    Args:
        output_energy: of the last layer, (predictions (B, *P), targets (B, ...)) -> (B,).
        state_lr: gamma, the learning rate of hidden states.
        steps: T, of inference.
        state_init: hidden states begin at their 'forward' values, or as 'normal' noise.
        noise: standard deviation of that noise.

    Raises:
        ParityError: numbers that make no sense, or an unknown ``state_init``.
    """

    def __init__(
        self,
        output_energy: Distance,
        state_lr: float = 0.1,
        steps: int = 8,
        state_init: str = "forward",
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        if state_lr < 0 or steps < 0:
            raise ParityError(f"inference takes a state_lr and steps of at least 0, not {state_lr:g} and {steps}.")
        if state_init not in STATE_INITS:
            raise ParityError(f"hidden states begin {' or '.join(STATE_INITS)}, not '{state_init}'.")
        self.output_energy = output_energy
        self.state_lr, self.steps, self.state_init, self.noise = state_lr, steps, state_init, noise

    def forward(self, stages: Stages, queries: Tensor, targets: Tensor) -> Tensor:
        """Infer, then return the energy that the weights are to lower.

        Args:
            stages: f_1, ..., f_L.
            queries: (B, *Q).
            targets: (B, ...), what the output is clamped to.

        Returns:
            Scalar, the mean over the batch; it depends on the weights, not on the states.
        """
        learns_at = self.learning_steps(len(stages))
        terms = []
        for step, states in enumerate(self.inference(stages, queries, targets, max(learns_at))):
            due = [layer for layer, when in enumerate(learns_at, 1) if when == step]
            terms += [self.layer_energy(stages, states, targets, layer).mean() for layer in due]
        return torch.stack(terms).sum()

    def learning_steps(self, num_layers: int) -> list[int]:
        """Return after how many steps of inference the weights of each layer learn: after the last, here."""
        return [self.steps] * num_layers

    def inference(self, stages: Stages, queries: Tensor, targets: Tensor, steps: int) -> Iterator[list[Tensor]]:
        """Yield the states x_0, ..., x_{L-1} before inference and after each of its steps: steps + 1 times.

        Args:
            stages, queries, targets: as in ``forward``.
            steps: how many.
        """
        states = self._initial_states(stages, queries)
        yield states
        for _ in range(steps):
            hidden = [state.detach().requires_grad_() for state in states[1:]]
            with torch.enable_grad():
                energy = self.energies(stages, [queries, *hidden], targets).sum()
            gradients = torch.autograd.grad(energy, hidden) if hidden else ()
            moved = zip(hidden, gradients, strict=True)
            states = [queries, *(state.detach() - self.state_lr * gradient for state, gradient in moved)]
            yield states

    @torch.no_grad()
    def _initial_states(self, stages: Stages, queries: Tensor) -> list[Tensor]:
        states = [queries]
        for stage in stages[:-1]:
            states.append(stage(states[-1]))
        if self.state_init == "normal":
            states[1:] = [self.noise * torch.randn_like(state) for state in states[1:]]
        return states

    def energies(self, stages: Stages, states: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Return each query's energy of each layer: states x_0, ..., x_{L-1} -> (B, L)."""
        layers = range(1, len(stages) + 1)
        return torch.stack([self.layer_energy(stages, states, targets, layer) for layer in layers], dim=1)

    def layer_energy(self, stages: Stages, states: Sequence[Tensor], targets: Tensor, layer: int) -> Tensor:
        """Return each query's energy of one layer, counted from 1: (B,)."""
        prediction = stages[layer - 1](states[layer - 1])
        if layer == len(stages):
            return self.output_energy(prediction, targets)
        return (states[layer] - prediction).square().flatten(1).sum(1) / 2


class ZeroDivergenceInference(PredictiveCoding):
    """Predictive coding whose weight updates are backpropagation's: gamma = 1, and layer l learns at step L - l.

    Song, Lukasiewicz, Xu, Bogacz: "Can the Brain Do Backpropagation? -- Exact Implementation of Backpropagation in
    Predictive Coding Networks" (NeurIPS 2020).

    Args:
        output_energy: as in ``PredictiveCoding``.
    """

    def __init__(self, output_energy: Distance) -> None:
        super().__init__(output_energy, state_lr=1.0)

    def learning_steps(self, num_layers: int) -> list[int]:
        return [num_layers - layer for layer in range(1, num_layers + 1)]


class PredictiveCodingLitModule(BaseLitModule):
    """Trains a base model by predictive coding, in the loop and with the options of ``BaseLitModule``.

    Validation has no inference: its loss is the output energy of the network's own predictions.

    Args:
        model: network, (B, *Q) -> (B, *P), whose ``stages`` are its layers.
        rule: how it learns.
        accuracy, optimizer, others: as in ``BurstModule``.
    """

    def __init__(
        self,
        model: nn.Module,
        rule: PredictiveCoding,
        accuracy: BaseAccuracy,
        optimizer: OptimizerFactory,
        **others: Any,
    ) -> None:
        super().__init__(model, MeanEnergy(_checked(rule).output_energy), accuracy, optimizer, **others)
        self.rule = rule

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        if split != "train":
            return super().batch_terms(batch, split)
        queries, targets = batch.queries.flatten(0, 1), batch.targets.flatten(0, 1)
        energy = self.rule(stages_of(self.model), queries, targets)
        with torch.no_grad():
            predictions = self.model(queries)
        return {"energy": energy}, (predictions, targets)


class ParityPredictiveCodingLitModule(ParityLitModule):
    """Trains the parity models of a coded model by predictive coding: their outputs are clamped to the parity targets.

    Args:
        model: the coded model; its parity models' ``stages`` are their layers.
        rule: how they learn.
        accuracy, optimizer, others: as in ``BurstModule``.
    """

    def __init__(
        self,
        model: CodedModel,
        rule: PredictiveCoding,
        accuracy: ReconstructionAccuracy,
        optimizer: OptimizerFactory,
        **others: Any,
    ) -> None:
        loss = ParityTargetLoss(MeanEnergy(_checked(rule).output_energy))
        super().__init__(model, loss, accuracy, optimizer, **others)
        self.rule = rule

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        if split != "train":
            return super().batch_terms(batch, split)
        predictions = self._predictions[split](batch).float()
        _, parity_queries = self.model.encoder.dispatch(batch.queries)
        targets = self.model.decoder.parity_targets(predictions)
        energies = {
            f"energy of parity model {number}": self.rule(stages_of(model), asked, target)
            for number, (model, asked, target) in enumerate(
                zip(self.model.parity_models, parity_queries.unbind(1), targets.unbind(1), strict=True), 1
            )
        }
        with torch.no_grad():
            parity_outputs = self.model.parity_outputs(parity_queries)
        return energies, (predictions, parity_outputs, batch.targets)


def _checked(rule: object) -> PredictiveCoding:
    if not isinstance(rule, PredictiveCoding):
        raise ParityError(
            "predictive coding is trained by a rule in place of a criterion, PredictiveCoding(CrossEntropy()) of "
            f"parity.training.predictive_coding, not by a {type(rule).__name__}."
        )
    return rule


def stages_of(model: nn.Module) -> nn.ModuleList:
    """Return a network's layers, of which it is the composition.

    Raises:
        ParityError: it does not have them.
    """
    stages = getattr(model, "stages", None)
    if not isinstance(stages, nn.ModuleList):
        raise ParityError(
            f"{type(model).__name__} does not list its layers: predictive coding needs a network with "
            "'stages', such as LayeredMLP."
        )
    return stages
