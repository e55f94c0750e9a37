"""Parity models for the k whole queries that ``PackedEncoder`` sends: students, and networks in superposition.

All take a parity query of shape (k, *Q) and make predictions of shape (k, *P), which ``PositionalDecoder`` reads.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import ParityError


class PackedStudents(nn.Module):
    """Predicts for each of k whole queries on its own, with the same small network.

    Nothing is added up: what another query holds cannot disturb a prediction. k students of a k-th of the base model's
    multiply-adds cost one worker what one query costs the base model.

    Args:
        query_shape: shape of a parity query, (k, *Q).
        prediction_shape: (k, *P).
        student: makes the network: called with Q, P, and
        arguments: its keyword arguments.

    Raises:
        ParityError: these are not k queries and k predictions.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        student: Callable[..., nn.Module],
        **arguments: Any,
    ) -> None:
        super().__init__()
        _, query, prediction = _parted(type(self).__name__, query_shape, prediction_shape)
        self.network = student(query, prediction, **arguments)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, k, *Q) -> (B, k, *P)."""
        return self.network(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])


def convolution(query_shape: Sequence[int], channels: int) -> nn.Module:
    """Make a stem for images: one 3 x 3 convolution, (B, C, H, W) -> (B, channels, H, W)."""
    return nn.Conv2d(query_shape[0], channels, 3, padding=1, bias=False)


def linear(query_shape: Sequence[int], channels: int) -> nn.Module:
    """Make a stem for any queries: one linear layer, (B, *Q) -> (B, channels)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(query_shape).numel(), channels, bias=False))


class MIMONet(nn.Module):
    """Binds what a stem makes of each query to a key, adds the k up, and unbinds what one trunk makes of the sum.

    Menet et al.: "MIMONets: Multiple-Input-Multiple-Output Neural Networks Exploiting Computation in Superposition"
    (NeurIPS 2023), section 3: binding is circular convolution with a key along channels (at each pixel), unbinding
    circular correlation. Keys have spectra of modulus one, so that binding loses nothing; unbinding has keys of its
    own, since the trunk lies between. They are drawn once and stay. Both are matrix products here, which count as
    multiply-adds.

    Args:
        query_shape: shape of a parity query, (k, *Q).
        prediction_shape: (k, *P).
        stem: makes a linear stem: called with Q and ``channels``.
        channels: of what is bound.
        trunk: makes the trunk: called with the shape of the sum, (``features``,), and
        features: of what is unbound; a linear layer, the same for all positions, makes a prediction of them.
        arguments: the trunk's keyword arguments.

    Raises:
        ParityError: these are not k queries and k predictions.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        stem: Callable[[Sequence[int], int], nn.Module],
        channels: int,
        trunk: Callable[..., nn.Module],
        features: int,
        **arguments: Any,
    ) -> None:
        super().__init__()
        k, query, self.prediction_shape = _parted(type(self).__name__, query_shape, prediction_shape)
        self.stem = stem(query, channels)
        with torch.no_grad():
            stem_shape = self.stem(torch.zeros(1, *query)).shape[1:]
        self.trunk = trunk(tuple(stem_shape), (features,), **arguments)
        self.head = nn.Linear(features, torch.Size(self.prediction_shape).numel())
        self.register_buffer("keys", _bindings(k, channels, seed=0))
        self.register_buffer("unbinding", _bindings(k, features, seed=1).mT.contiguous())
        self.keys: Tensor
        self.unbinding: Tensor

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, k, *Q) -> (B, k, *P)."""
        stems = self.stem(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])  # (B, k, channels, ...)
        batch, k, channels, *pixels = stems.shape
        keys = self.keys.transpose(0, 1).flatten(1)  # (channels, k channels): binds and adds up at once
        total = (keys @ stems.reshape(batch, k * channels, -1)).view(batch, channels, *pixels)
        features = self.trunk(total.relu())
        unbound = (features @ self.unbinding.flatten(0, 1).mT).view(batch, k, -1)
        return self.head(unbound).view(batch, k, *self.prediction_shape)


class Demultiplexed(nn.Module):
    """Reads k predictions off what one trunk makes of a single parity query, by a vector for each position.

    Murahari et al.: "DataMUX: Data Multiplexing for Neural Networks" (NeurIPS 2022), section 3.2, index embeddings: a
    small network, the same for all positions, sees the trunk's features beside the position's learned vector.
    ``HadamardSumEncoder`` makes the parity queries.

    Args:
        query_shape: shape of a parity query, Q.
        prediction_shape: (k, *P).
        trunk: makes the trunk: called with Q, (``features``,), and
        features: of the trunk's output.
        index_hidden: width of the small network.
        arguments: the trunk's keyword arguments.

    Raises:
        ParityError: the prediction is not of shape (k, *P).
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        trunk: Callable[..., nn.Module],
        features: int,
        index_hidden: int,
        **arguments: Any,
    ) -> None:
        super().__init__()
        k, *shape = prediction_shape
        if not shape:
            raise ParityError(_NOT_POSITIONAL.format(name=type(self).__name__, k=k))
        self.trunk = trunk(tuple(query_shape), (features,), **arguments)
        self.shared = nn.Linear(features, index_hidden)
        self.positions = nn.Parameter(torch.randn(k, index_hidden) * index_hidden**-0.5)
        self.head = nn.Linear(index_hidden, torch.Size(shape).numel())
        self.prediction_shape = tuple(shape)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, k, *P)."""
        shared = self.shared(self.trunk(queries).relu())
        each = (shared.unsqueeze(1) + self.positions).relu()  # a linear layer of [features, position's vector], parted
        return self.head(each).unflatten(-1, self.prediction_shape)


_NOT_POSITIONAL = (
    "{name} makes k predictions, of shape (k, *P), and not what the decoder wants, of shape ({k},): "
    "give the code a PositionalDecoder."
)


def _parted(
    name: str, query_shape: Sequence[int], prediction_shape: Sequence[int]
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Part (k, *Q) and (k, *P): k, Q, P."""
    k, *prediction = prediction_shape
    if not prediction:
        raise ParityError(_NOT_POSITIONAL.format(name=name, k=k))
    if len(query_shape) < 2 or query_shape[0] != k:
        raise ParityError(
            f"{name} takes k = {k} whole queries, of shape (k, *Q), not {tuple(query_shape)}: give the code a "
            "PackedEncoder."
        )
    return k, tuple(query_shape[1:]), tuple(prediction)


def _bindings(k: int, size: int, seed: int) -> Tensor:
    """Return matrices (k, size, size) of circular convolution with keys whose spectra have modulus one."""
    generator = torch.Generator().manual_seed(seed)
    angles = torch.rand(k, size // 2 + 1, generator=generator, dtype=torch.float64) * 2 * torch.pi
    angles[:, 0] = 0  # the mean, and the highest frequency of an even size, are real
    if size % 2 == 0:
        angles[:, -1] = 0
    keys = torch.fft.irfft(torch.polar(torch.ones_like(angles), angles), n=size)
    shifts = (torch.arange(size)[:, None] - torch.arange(size)) % size
    return keys[:, shifts].float()
