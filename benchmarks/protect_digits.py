"""What ``parity.protect`` loses on Digits: the networks of docs/protect.md, trained by a plain loop.

    python benchmarks/protect_digits.py            some minutes

Writes benchmarks/results/protect_digits.json, a row for each network, k and code: what is lost on test data when a
worker is missing, with its paired interval.
"""

from typing import Any

import store
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import parity

BASE_EPOCHS, EPOCHS, SEED = 30, 100, 0


def cnn() -> nn.Module:
    """Two convolutions of batch normalisation, and dropout: the network of the page."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    """A layer of 60 units, for images of one size."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))


CASES = ((cnn, 2, "cells"), (cnn, 4, "cells"), (cnn, 4, "add"), (mlp, 4, "cells"), (mlp, 4, "grid"), (mlp, 4, "add"))


def train(network: nn.Module, queries: Tensor, targets: Tensor) -> nn.Module:
    """Train by a plain loop whose learning rate falls to zero, so that the accuracy hardly depends on rounding."""
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, BASE_EPOCHS * -(-len(queries) // 64))
    for _ in range(BASE_EPOCHS):
        for rows in torch.randperm(len(queries)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(queries[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    """Train, protect and measure; each row is kept as soon as it is known."""
    digits = load_digits()
    images, classes = torch.tensor(digits.images).float().unsqueeze(1) / 16, torch.tensor(digits.target)
    torch.manual_seed(SEED)
    data, val, test = ((images[rows], classes[rows]) for rows in torch.randperm(1797).split([1200, 240, 357]))
    networks = {}
    for make in (cnn, mlp):
        torch.manual_seed(SEED)
        networks[make] = train(make(), *data)
    rows: list[dict[str, Any]] = []
    for make, k, code in CASES:
        result = parity.protect(networks[make], data, val, k=k, code=code, max_epochs=EPOCHS, seed=SEED, progress=False)
        measured = result.evaluate(test, timed=False).frame.iloc[0]
        figures = {"A_a": "A_a", "A_d": "A_d_1", "loss": "loss_1", "low": "loss_1_low", "high": "loss_1_high"}
        rows.append(
            {"network": make.__name__.upper(), "k": k, "code": code, "epochs": EPOCHS}
            | {name: float(measured[column]) for name, column in figures.items()}
        )
        print(rows[-1], flush=True)
        store.write("protect_digits", "parity.protect of networks that a plain loop trained on Digits", rows, seeds=[0])


if __name__ == "__main__":
    main()
