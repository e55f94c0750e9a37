"""What a training takes by default: the loss and the accuracy, by the model and the task."""

from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import Decoder
from parity.metrics import Accuracy, BaseAccuracy, ReconstructionAccuracy
from parity.tasks import Task
from parity.training.objectives.losses import ParityTargetLoss, ReconstructionLoss, SquaredError
from parity.training.objectives.of_tasks import base_loss


class TargetsAndReconstructions(nn.Module):
    """Squared distance of parity predictions from their exact targets, and of what is rebuilt from base predictions.

    ``parity_weight * ParityTargetLoss(nn.MSELoss()) + reconstruction_weight * ReconstructionLoss(SquaredError())``;
    the weights are keywords, so that policies can change them. A term of weight 0 is not computed.

    Args:
        parity_weight, reconstruction_weight: unless a policy sets them.
    """

    def __init__(self, parity_weight: float = 1.0, reconstruction_weight: float = 0.0) -> None:
        super().__init__()
        self.parity_weight, self.reconstruction_weight = parity_weight, reconstruction_weight
        self.parity, self.reconstruction = ParityTargetLoss(nn.MSELoss()), ReconstructionLoss(SquaredError())

    def forward(
        self,
        decoder: Decoder,
        predictions: Tensor,
        parity_outputs: Tensor,
        targets: Tensor,
        *,
        parity_weight: float | None = None,
        reconstruction_weight: float | None = None,
    ) -> Tensor:
        """Compute the loss of a batch; see ``parity.training.objectives.losses``."""
        weighted = (
            (self.parity_weight if parity_weight is None else parity_weight, self.parity),
            (
                self.reconstruction_weight if reconstruction_weight is None else reconstruction_weight,
                self.reconstruction,
            ),
        )
        terms = [
            weight * loss(decoder, predictions, parity_outputs, targets)
            for weight, loss in weighted
            if isinstance(weight, Tensor) or weight != 0
        ]
        return sum(terms[1:], terms[0]) if terms else 0 * parity_outputs.sum()


def default_criterion(model: nn.Module, task: Task | None) -> nn.Module:
    """Return what is minimised: exact parity targets where the decoder has them, else what is rebuilt.

    A base model's fits the task: the cross-entropy of classes or labels, else the squared error.
    """
    if not isinstance(model, CodedModel):
        return base_loss(task)
    if type(model.decoder).parity_targets is Decoder.parity_targets:
        return TargetsAndReconstructions(parity_weight=0.0, reconstruction_weight=1.0)
    return TargetsAndReconstructions()


def accuracy_of(model: nn.Module, task: Task | None) -> Accuracy:
    """Return what is counted while a model is trained."""
    if task is None:
        return Uncounted()
    return ReconstructionAccuracy(task, model.k) if isinstance(model, CodedModel) else BaseAccuracy(task)


class Uncounted(Accuracy):
    """The accuracy of an unknown task: there is the loss alone."""

    monitor = "loss"

    def __init__(self) -> None:
        super().__init__()
        self.shown = {"loss": "loss"}

    def update(self, *outputs: Tensor) -> None:
        """Count nothing."""

    def compute(self) -> dict[str, Tensor]:
        return {}
