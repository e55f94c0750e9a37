"""Every code, small, around networks of 8 x 8 pixels."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    BerrutDecoder,
    BerrutEncoder,
    CombiningDecoder,
    ConcatenationEncoder,
    ConvolutionalEncoder,
    Decoder,
    Encoder,
    FlattenedChannelSumEncoder,
    GridEncoder,
    KeyedSumEncoder,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    MLPDecoder,
    MLPEncoder,
    NeRCCDecoder,
    NeRCCEncoder,
    PositionalDecoder,
    ReplicationDecoder,
    ReplicationEncoder,
    Shift,
    Symmetry,
)
from parity.data.loaders import Scaling
from parity.export import CardFacts, Preprocessing
from parity.models import MLP, PerCell

QUERY, PREDICTION = (3, 8, 8), (5,)
CARD = CardFacts("small", "The base model predicts noise.", "nothing", {"A_a": 0.25}, class_names=tuple("abcde"))

CODES: dict[str, tuple[type[Encoder], type[Decoder], int, int, dict[str, object]]] = {
    "add": (LinearEncoder, LinearDecoder, 2, 1, {}),
    "linear_r2": (LinearEncoder, LinearDecoder, 4, 2, {}),
    "linear_r3": (LinearEncoder, LinearDecoder, 3, 3, {}),
    "concat_k2": (ConcatenationEncoder, LinearDecoder, 2, 1, {}),
    "concat_k4": (ConcatenationEncoder, LinearDecoder, 4, 1, {}),
    "flattened_add": (FlattenedChannelSumEncoder, LinearDecoder, 2, 1, {}),
    "grid_r2": (GridEncoder, PositionalDecoder, 3, 2, {}),
    "cells": (LearnedGridEncoder, PositionalDecoder, 4, 1, {}),
    "cells_combining": (LearnedGridEncoder, CombiningDecoder, 2, 1, {}),
    "keyed": (KeyedSumEncoder, PositionalDecoder, 2, 2, {}),
    "keyed_symmetry": (KeyedSumEncoder, LinearDecoder, 2, 1, {"key": Symmetry()}),
    "keyed_shift": (KeyedSumEncoder, PositionalDecoder, 2, 1, {"key": Shift()}),
    "learned": (MLPEncoder, MLPDecoder, 2, 1, {}),
    "learned_convolutions": (ConvolutionalEncoder, MLPDecoder, 2, 2, {}),
    "berrut": (BerrutEncoder, BerrutDecoder, 3, 2, {}),
    "nercc": (NeRCCEncoder, NeRCCDecoder, 3, 2, {}),
    "replication": (ReplicationEncoder, ReplicationDecoder, 2, 2, {}),
    "no_redundancy": (ReplicationEncoder, ReplicationDecoder, 2, 0, {}),
    "backup": (BackupEncoder, BackupDecoder, 2, 2, {}),
}


def network() -> nn.Module:
    """A base model with what evaluation mode changes."""
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 5))
    return nn.Sequential(*layers)


def make(name: str) -> CodedModel:
    """Return a coded model whose parameters are random numbers."""
    encoder_class, decoder_class, k, r, options = CODES[name]
    make_encoder: Callable[..., Encoder] = encoder_class
    encoder, decoder = make_encoder(k, r, QUERY, **options), decoder_class(k, r, PREDICTION)
    shape = decoder.parity_shape(PREDICTION)
    base = network()
    if name.startswith("learned"):
        parity_models = [base] * r
    elif name == "backup":
        parity_models = [MLP(QUERY, shape, hidden=(6,))] * r
    elif "cells" in name or "grid" in name:
        parity_models = [PerCell(QUERY, shape, MLP, hidden=(6,)) for _ in range(encoder.parity_workers)]
    else:
        parity_models = [MLP(QUERY, shape, hidden=(6,)) for _ in range(encoder.parity_workers)]
    model = CodedModel(base, encoder, parity_models, decoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    return model.eval()


def preprocessing() -> Preprocessing:
    """Return that of pixels, with a mean and a deviation for each channel."""
    return Preprocessing(QUERY, torch.uint8, Scaling(255.0, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)), "red, green, blue")


def all_patterns(n: int) -> Tensor:
    """Return bool (2^n, n)."""
    return torch.tensor(list(itertools.product((True, False), repeat=n)))


def stored_queries(groups: int, k: int) -> Tensor:
    """Return uint8 (G k, *Q)."""
    return torch.randint(0, 256, (groups * k, *QUERY), dtype=torch.uint8)


class Exported(NamedTuple):
    """A code, its artefact, and a group of stored queries for each of the 2^n erasure patterns."""

    folder: Path
    model: CodedModel
    stored: Tensor
    available: Tensor

    @property
    def queries(self) -> Tensor:
        """What networks see: (G, k, *Q)."""
        return preprocessing()(self.stored).unflatten(0, (-1, self.model.k))
