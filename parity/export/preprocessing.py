"""What turns stored queries into what networks see, as a program and in words."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.data.loaders import Scaling


class Preprocessing(nn.Module):
    """(stored / divisor - mean) / std: what a deployed code does with queries before it encodes them.

    Args:
        query_shape: Q, of stored queries too.
        dtype: of stored queries.
        divisor: e.g. 255 for pixels.
        mean, std: one for each channel, (C,) of queries (C, H, W); by default 0 and 1.
        channels: what the channels are, in their order, e.g. 'RGB'.
        source: how a stored query is made of a file, for people.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        divisor: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels: str = "as in the training data",
        source: str = "",
    ) -> None:
        super().__init__()
        self.query_shape, self.dtype = tuple(query_shape), dtype
        self.mean, self.std = mean, std
        self.channels, self.source = channels, source
        self.scaling = Scaling(divisor, mean, std)

    def forward(self, stored: Tensor) -> Tensor:
        """Scale stored queries (B, *Q) to floats (B, *Q)."""
        return self.scaling(stored.to(torch.float32, copy=True))  # which overwrites floats

    def describe(self) -> dict[str, Any]:
        """Return what is done as plain values."""
        name = str(self.dtype).removeprefix("torch.")
        steps = [f"take {name} queries of shape {self.query_shape}", "convert to float32"]
        if self.scaling.divisor != 1.0:
            steps.append(f"divide by {self.scaling.divisor:g}")
        if self.mean is not None:
            steps.append(f"subtract {_listed(self.mean)} from the channels")
        if self.std is not None:
            steps.append(f"divide the channels by {_listed(self.std)}")
        return {
            "dtype": name,
            "shape": list(self.query_shape),
            "divisor": self.scaling.divisor,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "channels": self.channels,
            "in_words": ", ".join(steps),
            "source": self.source,
        }


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
