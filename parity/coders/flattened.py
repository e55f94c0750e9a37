"""The sum that the original PyTorch code makes of images with several channels, for comparison with its figures.

https://github.com/Thesys-lab/parity-models, train/parity_model_trainer.py: groups of RGB images are viewed as k rows
of a third of their numbers each before they are encoded.
"""

from torch import Tensor

from parity.coders.base import Encoder, Shape
from parity.errors import ParityError


class FlattenedChannelSumEncoder(Encoder):
    """Sums runs of k channels of the flattened group: not addition, but what the original's RGB figures are of.

    The k·C channels of a group, query after query, are cut into C runs of k, and each run is summed into one channel
    of the parity query. For RGB and k = 2 these are R0 + G0, B0 + R1 and G1 + B1; for k = 3 three grey images, one of
    each query. With one channel it is addition. The parity target is the sum of the predictions all the same, so the
    decoder is that of addition, ``LinearDecoder``.

    It is here to compare with published figures only: ``LinearEncoder`` adds red to red, as the papers describe.

    Args:
        r: 1.
        query_shape: (C, H, W).

    Raises:
        ParityError: another r, or a query that is not an image.
    """

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        if r != 1:
            raise ParityError(f"the sum of flattened channels does any k with r = 1, not r = {r}.")
        if len(self.query_shape) != 3:
            raise ParityError(
                f"the sum of flattened channels needs images (C, H, W), but a query here has shape {self.query_shape}."
            )

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, C, H, W) -> parity queries (G, 1, C, H, W)."""
        runs = queries.flatten(1, 2).unflatten(1, (self.query_shape[0], self.k))
        return runs.sum(2).unsqueeze(1)
