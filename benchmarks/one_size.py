"""Which code suits networks that take queries of one size, whose copies cannot predict for a smaller one?

    python benchmarks/one_size.py

A perceptron and a small LeNet on scikit-learn's digits, and the network of curves of third_party.py, each protected by
``parity.protect`` with every code in turn, k = 4, little training, one seed. The order in which protect's "auto" tries
codes is drawn from what they lose. Ten minutes on an idle core.
"""

from typing import Any

import store
import torch
from sklearn.datasets import load_digits
from third_party import curves, trained
from torch import nn

import parity

K, CODES = 4, ("cells", "packed", "grid", "keyed", "add")
Data = Any


def perceptron() -> nn.Module:
    """Return one hidden layer of 60 units."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))


def lenet() -> nn.Module:
    """Return two convolutions and two linear layers, for images of 8 x 8 alone."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def cases() -> dict[str, tuple[nn.Module, Data, Data, int]]:
    """Return, by name, a trained network, its training and test data, and the epochs of parity models."""
    digits = load_digits()
    images, classes = torch.tensor(digits.images).float().unsqueeze(1) / 16, torch.tensor(digits.target)
    train, test = (images[:1300], classes[:1300]), (images[1300:], classes[1300:])

    def on_digits(network: nn.Module, epochs: int) -> nn.Module:
        return trained(network, *train, nn.functional.cross_entropy, epochs)

    torch.manual_seed(0)
    of_curves = curves()
    return {
        "perceptron, digits": (on_digits(perceptron(), 25), train, test, 40),
        "LeNet, digits": (on_digits(lenet(), 15), train, test, 20),
        "convolutions and linear layers, curves": (of_curves.network, of_curves.train, of_curves.test, 15),
    }


def main() -> None:
    """Measure and keep."""
    rows = []
    for name, (network, train, test, epochs) in cases().items():
        for code in CODES:
            result = parity.protect(
                network, train, k=K, code=code, max_epochs=epochs, progress=False, accelerator="cpu", augmentation=None
            )
            found = result.evaluate(test, unavailable=(), timed=False).results
            (measured,) = found["codes"]
            lost = measured["loss"]["1"]
            rows.append(dict(
                network=name, code=code, k=K, measure=found["measure"], A_a=measured["A_a"]["value"],
                loss=lost["value"], low=lost["low"], high=lost["high"], multiply_adds=measured["multiply_adds"],
                epochs=epochs,
            ))  # fmt: skip
            print(f"{name}, {code}: loses {lost['value']:.4f}, {measured['multiply_adds']:.2f} x", flush=True)
    store.write("one_size", "what codes lose for networks that take queries of one size", rows, seeds=[0])


if __name__ == "__main__":
    main()
