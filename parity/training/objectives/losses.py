"""What training minimises: objects that a config passes as ``loss``.

A loss of a coded model is called with

``decoder``          of the code
``predictions``      (G, k, *P), the base model's
``parity_outputs``   (G, r, *P'), the parity models'
``targets``          (G, k, ...), true labels

and returns a scalar.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity import erasures
from parity.coders import Decoder
from parity.errors import ParityError


class ParityTargetLoss(nn.Module):
    """Distance between parity predictions and those of perfect parity models.

    Kosaian, Rashmi, Venkataraman (SOSP 2019), section 4.3. With r > 1 it is the mean over the parity models.

    Args:
        distance: a loss that averages over all entries, e.g. ``nn.MSELoss()``.
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, decoder: Decoder, predictions: Tensor, parity_outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch; see the head of this file."""
        return self.distance(parity_outputs, decoder.parity_targets(predictions))


class Distance(Protocol):
    """Compares what is rebuilt, (B, *P), with base predictions (B, *P) or true labels (B, ...): (B,), one each."""

    def __call__(self, rebuilt: Tensor, reference: Tensor) -> Tensor: ...


class SquaredError(nn.Module):
    """Squared error, summed over P; a class as reference is the one-hot vector, a class of a pixel too."""

    def forward(self, rebuilt: Tensor, reference: Tensor) -> Tensor:
        """Compare: (B, *P), (B, ...) -> (B,).

        Raises:
            ParityError: the reference is of another shape; torch would broadcast one to the other.
        """
        if not reference.is_floating_point():
            reference = reference if reference.shape == rebuilt.shape else _one_hot(reference, rebuilt)
        if reference.shape != rebuilt.shape:
            raise ParityError(
                f"the squared error compares values one by one, and predictions have the shape {tuple(rebuilt.shape)} "
                f"where targets have {tuple(reference.shape)}: give both the same shape, as targets.unsqueeze(1) does."
            )
        return (rebuilt - reference).square().flatten(1).sum(1)


class KLDivergence(nn.Module):
    """Divergence of what is rebuilt from the reference's class probabilities: sum over classes of p log(p / q).

    Args:
        temperature: T, by which both logits are divided first; the divergence is multiplied by T^2, so that gradients
            keep their size (Hinton, Vinyals, Dean: "Distilling the Knowledge in a Neural Network", 2015, section 2).
            It does nothing to a class as reference.

    Of dense predictions (C, *S) it is the mean over pixels.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, rebuilt: Tensor, reference: Tensor) -> Tensor:
        """Compare: logits (B, C, *S), logits (B, C, *S) or classes (B, *S) -> (B,)."""
        if not reference.is_floating_point():
            return _mean_of_each(functional.cross_entropy(rebuilt, reference, reduction="none"))
        logs, probabilities = (rebuilt / self.temperature).log_softmax(1), (reference / self.temperature).softmax(1)
        divergences = functional.kl_div(logs, probabilities, reduction="none").sum(1)
        return _mean_of_each(divergences) * self.temperature**2

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


class CrossEntropy(nn.Module):
    """Cross-entropy of what is rebuilt with the reference's class probabilities, or with a class.

    Of dense predictions (C, *S) it is the mean over pixels; those whose class is negative, as of none, count as 0.
    """

    def forward(self, rebuilt: Tensor, reference: Tensor) -> Tensor:
        """Compare: logits (B, C, *S), logits (B, C, *S) or classes (B, *S) -> (B,)."""
        probabilities = reference.softmax(1) if reference.is_floating_point() else _one_hot(reference, rebuilt)
        return _mean_of_each(functional.cross_entropy(rebuilt, probabilities, reduction="none"))


class BinaryCrossEntropy(nn.Module):
    """Cross-entropy of labels that are each on their own, summed over them.

    Args:
        temperature: as ``KLDivergence``'s: both logits are divided by it; it does nothing to labels as reference.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, rebuilt: Tensor, reference: Tensor) -> Tensor:
        """Compare: logits (B, L), logits (B, L) or labels, integers (B, L) -> (B,)."""
        towards_logits = reference.is_floating_point()
        temperature = self.temperature if towards_logits else 1.0
        present = (reference / temperature).sigmoid() if towards_logits else reference.to(rebuilt.dtype)
        entropies = functional.binary_cross_entropy_with_logits(rebuilt / temperature, present, reduction="none")
        return entropies.sum(1) * temperature**2

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


class UniformOffLabels(nn.Module):
    """Binary cross-entropy of each class with 1 for the true one and 1 / C for the C - 1 others; the mean over classes.

    The loss of B-cos networks for single classes (Böhle et al., TPAMI 2024; the code of B-cos-v2), as
    the loss of a base model wrapped in ``MeanOver``.

    Args:
        off_label: the target of the other classes; by default 1 / C.
    """

    def __init__(self, off_label: float | None = None) -> None:
        super().__init__()
        self.off_label = off_label

    def forward(self, rebuilt: Tensor, reference: Tensor) -> Tensor:
        """Compare: logits (B, C), logits (B, C) or classes (B,) -> (B,)."""
        if reference.is_floating_point():
            targets = reference.sigmoid()
        else:
            off_label = 1 / rebuilt.shape[1] if self.off_label is None else self.off_label
            targets = _one_hot(reference, rebuilt).clamp(min=off_label)
        entropies = functional.binary_cross_entropy_with_logits(rebuilt, targets, reduction="none")
        return _mean_of_each(entropies)

    def extra_repr(self) -> str:
        return f"off_label={self.off_label}"


def _one_hot(classes: Tensor, rebuilt: Tensor) -> Tensor:
    """Return classes (B, *S) as (B, C, *S); zeros where one is negative, which stands for none."""
    numbered = functional.one_hot(classes.clamp(min=0), rebuilt.shape[1]).movedim(-1, 1)
    return (numbered * (classes >= 0).unsqueeze(1)).to(rebuilt.dtype)


def _mean_of_each(values: Tensor) -> Tensor:
    """Return the mean of each query's: (B, *S) -> (B,)."""
    return values.reshape(len(values), -1).mean(1)


Patterns = Callable[[int, int], Tensor]


def up_to_r_missing(k: int, r: int) -> Tensor:
    """Return the patterns in which 1 to r of the k predictions, and nothing else, are missing: bool (E, n)."""
    return torch.cat([erasures.missing_predictions(k, k + r, erased) for erased in range(1, min(k, r) + 1)])


def parities_alone(k: int, r: int) -> Tensor:
    """Return the patterns in which all k predictions are missing and one parity output or more arrived: bool (E, n)."""
    arrived = torch.cat([erasures.patterns(r, erased) for erased in range(r)])
    return torch.cat([arrived.new_zeros(len(arrived), k), arrived], dim=1)


class ReconstructionLoss(nn.Module):
    """Distance between reconstructions and base predictions; the mean over the predictions that are missing.

    Kosaian, Rashmi, Venkataraman: "Learning a Code" (arXiv 1806.01259), section 3.

    Args:
        distance: e.g. ``SquaredError()``, ``KLDivergence()``, ``CrossEntropy()``.
        patterns: the erasure patterns that every group is decoded under: (k, r) -> bool (E, n), in each of which a
            prediction is missing. By default those in which 1 to r of the predictions, and nothing else, are; for a
            positional code ``parities_alone`` trains all positions at once.
    """

    def __init__(self, distance: Distance, patterns: Patterns = up_to_r_missing) -> None:
        super().__init__()
        self.distance, self.patterns = distance, patterns

    def forward(self, decoder: Decoder, predictions: Tensor, parity_outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch; see the head of this file.

        Raises:
            ParityError: the code cannot rebuild all that is missing under one of the patterns.
        """
        patterns = decoder.patterns_of(self.patterns, predictions.device)
        groups, count = len(predictions), len(patterns)
        rebuilt = decoder.decode(
            predictions.repeat_interleave(count, dim=0),
            parity_outputs.repeat_interleave(count, dim=0),
            patterns.repeat(groups, 1),
        )
        reference = self.reference(predictions, targets).repeat_interleave(count, dim=0)
        distances = self.distance(rebuilt.flatten(0, 1), reference.flatten(0, 1)).view(groups, count, -1)
        missing = ~patterns[:, : decoder.k]
        return (distances * missing).sum() / (groups * missing.sum())

    def reference(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return what reconstructions are compared with: (G, k, ...)."""
        return predictions


class LabelReconstructionLoss(ReconstructionLoss):
    """The same against the true labels."""

    def reference(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return targets


class WeightedSum(nn.Module):
    """Sum of losses, each times its weight.

    Args:
        terms: (weight, loss) pairs.
    """

    def __init__(self, *terms: tuple[float, nn.Module]) -> None:
        super().__init__()
        self.weights = tuple(weight for weight, _ in terms)
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(self, decoder: Decoder, predictions: Tensor, parity_outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch; see the head of this file."""
        return torch.stack(list(self.terms(decoder, predictions, parity_outputs, targets).values())).sum()

    def terms(self, *arguments: Any) -> dict[str, Tensor]:
        """Compute each term, times its weight, by a name of its own."""
        return {
            f"term {number}, {type(loss).__name__}": weight * loss(*arguments)
            for number, (weight, loss) in enumerate(zip(self.weights, self.losses, strict=True), 1)
        }

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def loss_terms(loss: Callable[..., Tensor], *arguments: Any) -> dict[str, Tensor]:
    """Return the scalars that a loss is the sum of, by name; most are one."""
    if isinstance(loss, WeightedSum):
        return loss.terms(*arguments)
    return {type(loss).__name__: loss(*arguments)}
