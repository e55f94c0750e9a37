"""What happens in a network's layers on one batch: energies, variances, gradients."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from parity.training.predictive_coding import PredictiveCoding, Stages, ZeroDivergenceInference


def layer_profile(rule: PredictiveCoding, stages: Stages, queries: Tensor, targets: Tensor) -> dict[str, Any]:
    """Measure each layer on a batch, in 64 bits, without changing anything.

    In 32 bits, what a small gamma moves the first states by is lost in their rounding, and so is their energy.

    Args:
        rule: predictive coding; with 0 steps it is backpropagation: forward values, and the loss as the only energy.
        stages: the network's layers.
        queries: (B, *Q).
        targets: (B, ...).

    Returns:
        Plain numbers: ``energy``, T + 1 lists of L means over the batch; ``variance``, as many, of each layer's state
        over the batch and its units, the last layer's being of its prediction; ``gradient``, L norms.
    """
    stages = copy.deepcopy(nn.ModuleList(stages)).double()
    queries, targets = queries.double(), targets.double() if targets.is_floating_point() else targets
    energies, variances = [], []
    for states in rule.inference(stages, queries, targets, rule.steps):
        with torch.no_grad():
            energies.append(rule.energies(stages, states, targets).mean(0).tolist())
            outputs = [*states[1:], stages[-1](states[-1])]
            variances.append([float(output.var()) for output in outputs])
    learning = rule if rule.steps else ZeroDivergenceInference(rule.output_energy)
    with torch.enable_grad():
        energy = learning(stages, queries, targets)
        per_layer = [torch.autograd.grad(energy, list(stage.parameters()), retain_graph=True) for stage in stages]
    norms = [float(torch.nn.utils.get_total_norm(gradients)) for gradients in per_layer]
    return {"energy": energies, "variance": variances, "gradient": norms}
