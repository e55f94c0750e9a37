"""A small convolutional network for boxes."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from parity.errors import ParityError


class BoxNetwork(nn.Module):
    """Convolutions that halve the image, and two linear layers that see every position of what is left.

    A mean over positions, as residual networks end with, would lose where things are. Each stage is a 3 x 3 convolution
    of stride 2, batch normalisation and ReLU; ReLU is between the linear layers too.

    Args:
        query_shape: shape Q of a query, (C, H, W).
        prediction_shape: shape P of a prediction, e.g. ``(4,)``.
        widths: channels of each stage.
        hidden: width between the linear layers.

    Raises:
        ParityError: the queries are not images, or there is no stage.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        if len(query_shape) != 3:
            raise ParityError(f"BoxNetwork takes images (C, H, W), not queries of shape {tuple(query_shape)}.")
        if not widths:
            raise ParityError("BoxNetwork has 1 stage or more, and widths = () names none.")
        channels, height, width = query_shape
        layers: list[nn.Module] = []
        for out_channels in widths:
            layers += [
                nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
            channels, height, width = out_channels, -(-height // 2), -(-width // 2)
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.ReLU(inplace=True))
        self.box = nn.Linear(hidden, math.prod(prediction_shape))
        self.prediction_shape = tuple(prediction_shape)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return self.box(self.hidden(self.features(queries))).view(queries.shape[0], *self.prediction_shape)
