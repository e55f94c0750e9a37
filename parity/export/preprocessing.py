"""What turns stored queries into what networks see, as a program and in words."""

import inspect
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from parity.data import GroupDataModule
from parity.data.loaders import Ids, Scaling

_CHANNELS = {1: "one", 3: "in the order of the training data: red, green, blue where it was read from image files"}


class Preprocessing(nn.Module):
    """What a deployed code does with stored queries before it encodes them.

    Args:
        query_shape: Q, of stored queries too.
        dtype: of stored queries.
        scaling: (B, *Q) of floats -> (B, *Q), e.g. ``Scaling(255, mean, std)``; None leaves them.
        channels: what the channels are, in their order.
        source: how a stored query is made of a file, for people.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        scaling: nn.Module | None = None,
        channels: str = "as in the training data",
        source: str = "",
    ) -> None:
        super().__init__()
        self.query_shape, self.dtype = tuple(query_shape), dtype
        self.channels, self.source = channels, source
        self.scaling = scaling

    @classmethod
    def of(cls, datamodule: GroupDataModule, split: str = "val") -> Self:
        """Return that of a datamodule's queries.

        Raises:
            ParityError: the data of the split is not there.
        """
        loader = datamodule.loader(split)
        channels = _CHANNELS.get(datamodule.query_shape[0]) if len(datamodule.query_shape) == 3 else None
        source = " ".join((inspect.getdoc(type(datamodule)) or "").partition("\n\n")[0].split())
        return cls(
            datamodule.query_shape, loader.stored_dtype, loader.scaling, channels or "as in the training data", source
        )

    def forward(self, stored: Tensor) -> Tensor:
        """Scale stored queries (B, *Q) to floats (B, *Q); ids of tokens stay integers."""
        if isinstance(self.scaling, Ids):
            return self.scaling(stored)
        queries = stored.to(torch.float32, copy=True)  # a scaling may overwrite floats
        return queries if self.scaling is None else self.scaling(queries)

    def describe(self) -> dict[str, Any]:
        """Return what is done as plain values."""
        dtype = str(self.dtype).removeprefix("torch.")
        divisor, mean, std = 1.0, None, None
        steps = [f"take {dtype} numbers of shape {self.query_shape}", "convert them to float32"]
        if isinstance(self.scaling, Scaling):
            divisor = self.scaling.divisor
            if divisor != 1:
                steps.append(f"divide by {divisor:g}")
            if self.scaling.is_shifted:
                mean, std = (_shares(buffer, divisor) for buffer in (self.scaling.mean, self.scaling.std))
                steps += [f"subtract {_listed(mean)}", f"divide by {_listed(std)}, a number for each channel"]
        elif isinstance(self.scaling, Ids):
            below = "" if self.scaling.vocabulary is None else f" below {self.scaling.vocabulary}"
            steps = [f"take {dtype} ids{below} of shape {self.query_shape}", "convert them to int64"]
        elif self.scaling is not None:
            steps.append(f"apply {type(self.scaling).__name__}")
        return {
            "dtype": dtype,
            "shape": list(self.query_shape),
            "divisor": divisor,
            "ids_below": self.scaling.vocabulary if isinstance(self.scaling, Ids) else None,
            "mean": mean,
            "std": std,
            "channels": self.channels,
            "in_words": ", ".join(steps),
            "source": self.source,
        }


def _shares(buffer: Tensor, divisor: float) -> list[float]:
    return [round(value / divisor, 6) for value in buffer.flatten().tolist()]


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
