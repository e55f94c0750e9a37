"""Data and networks as users have them: small, and trained for seconds."""

from typing import NamedTuple

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


class OwnDigits(NamedTuple):
    """Digits without our datamodule."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def digits() -> OwnDigits:
    data = load_digits()
    queries, targets = torch.tensor(data.images).float().unsqueeze(1) / 16, torch.tensor(data.target)
    order = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))
    train, val, test = order[:1200], order[1200:1440], order[1440:]
    return OwnDigits(*((queries[rows], targets[rows]) for rows in (train, val, test)))


def small_cnn() -> nn.Module:
    """A network with batch normalisation and dropout that takes images of any sides."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 10),
    )  # fmt: skip


def trained(network: nn.Module, queries: Tensor, targets: Tensor, epochs: int) -> nn.Module:
    """Train a network by a plain loop."""
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for start in range(0, len(queries), 64):
            optimizer.zero_grad()
            rows = slice(start, start + 64)
            nn.functional.cross_entropy(network(queries[rows]), targets[rows]).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def cnn(digits: OwnDigits) -> nn.Module:
    torch.manual_seed(0)
    return trained(small_cnn(), *digits.train, epochs=15)


@pytest.fixture(scope="session")
def mlp(digits: OwnDigits) -> nn.Module:
    """A network that takes images of one size alone."""
    torch.manual_seed(0)
    return trained(nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10)), *digits.train, 15)
