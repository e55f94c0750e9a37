"""What training minimises: objects that a config passes as ``loss``."""

from torch import Tensor, nn

from parity.coders import Decoder


class ParityTargetLoss(nn.Module):
    """Distance between parity predictions and what perfect parity models would say.

    Kosaian, Rashmi, Venkataraman (SOSP 2019), section 4.3. With r > 1 it is the mean over the parity models.

    Args:
        distance: a loss that averages over all entries, e.g. ``nn.MSELoss()``.
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, decoder: Decoder, predictions: Tensor, parity_outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            decoder: of the code.
            predictions: (G, k, *P), the base model's.
            parity_outputs: (G, r, *P').
            targets: (G, k, ...), true labels; not used by this loss.

        Returns:
            scalar.
        """
        return self.distance(parity_outputs, decoder.parity_targets(predictions))
