"""The losses that fit a task, by what its predictions parametrise."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from parity.tasks import Task
from parity.tasks.base import Likelihood
from parity.training.objectives.losses import BinaryCrossEntropy, CrossEntropy, KLDivergence, SquaredError

_TO_TARGETS: Mapping[Likelihood, Callable[[], nn.Module]] = {
    "categorical": CrossEntropy,
    "bernoulli": BinaryCrossEntropy,
    "gaussian": SquaredError,
}
_TO_PREDICTIONS: Mapping[Likelihood, Callable[[float], nn.Module]] = {
    "categorical": KLDivergence,
    "bernoulli": BinaryCrossEntropy,
    "gaussian": lambda temperature: SquaredError(),
}


def distance_to_targets(task: Task) -> nn.Module:
    """Return the distance (B, *P), (B, ...) -> (B,) of predictions from true targets."""
    return _TO_TARGETS[task.likelihood]()


def distance_to_predictions(task: Task, temperature: float) -> nn.Module:
    """Return the distance (B, *P), (B, *P) -> (B,) of predictions from a base model's."""
    return _TO_PREDICTIONS[task.likelihood](temperature)


class MeanOver(nn.Module):
    """The mean over a batch of a distance to targets: a base model's loss.

    Args:
        distance: of each prediction.
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch: (B, *P), (B, ...) -> ()."""
        return self.distance(predictions, targets).mean()


def base_loss(task: Task | None) -> nn.Module:
    """Return what a base model is trained on; the squared error where nothing is known of its targets."""
    if task is None or task.likelihood == "gaussian":
        return nn.MSELoss()
    return nn.CrossEntropyLoss() if task.likelihood == "categorical" else MeanOver(distance_to_targets(task))
