#!/usr/bin/env python
"""Protect networks that a plain loop has trained on CIFAR-10: a small CNN and torchvision's ResNet-18, at k = 2 and 4.

    python benchmarks/protect_cifar.py                                            hours on 2 cores, minutes on a GPU
    python benchmarks/protect_cifar.py --networks cnn --images 10000 --base_epochs 20                  half an hour

CIFAR-10 lies as image files under DATA_ROOT/CIFAR10/{train,test}/<class>/. Everything but what stands in ``protected``
is a user's own: data by torchvision, a network, a loop. Writes benchmarks/results/protect_cifar/<network>.json, a row
for each k and code: what is lost, with its paired interval.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import store
import torch
from torch import Tensor, nn
from torchvision import datasets, models, transforms

import parity

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def small_cnn() -> nn.Module:
    """Four convolutions of batch normalisation, 5 million multiply-adds, and dropout."""

    def block(channels: int, made: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, made, 3, stride, padding=1), nn.BatchNorm2d(made), nn.ReLU()]

    return nn.Sequential(
        *block(3, 16, 1), *block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10),
    )  # fmt: skip


def resnet18() -> nn.Module:
    """ResNet-18 as torchvision has it."""
    return models.resnet18(num_classes=10)


NETWORKS = {"cnn": small_cnn, "resnet18": resnet18}


def images(root: Path, split: str, most: int | None) -> tuple[Tensor, Tensor]:
    """Read CIFAR-10: images (N, 3, 32, 32) as networks see them, and classes; at most so many."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    folder = datasets.ImageFolder(str(root / "CIFAR10" / split), transform)
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))[:most].tolist()
    pairs = [folder[index] for index in order]
    return torch.stack([image for image, _ in pairs]), torch.tensor([target for _, target in pairs])


def train(network: nn.Module, queries: Tensor, targets: Tensor, epochs: int, device: torch.device) -> nn.Module:
    """Train by a plain loop: SGD with one cycle, images mirrored and moved at random."""
    network.to(device).train()
    move = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * -(-len(queries) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(queries)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(move(queries[rows]).to(device)), targets[rows].to(device)).backward()
            optimizer.step()
            schedule.step()
    return network.cpu().eval()


def protected(
    network: nn.Module, data: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], k: int, code: str, epochs: int | None
) -> tuple["parity.evaluation.evaluation.Evaluation", float]:
    """Protect a network, and evaluate it; the seconds are of the protection."""
    begun = time.perf_counter()
    result = parity.protect(network, data, k=k, code=code, max_epochs=epochs)
    return result.evaluate(test, timed=False), time.perf_counter() - begun


def main() -> None:
    """Train, protect and measure; each row is kept as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--ks", nargs="+", type=int, default=[2, 4], metavar="K")
    parser.add_argument("--codes", nargs="+", default=["add", "auto"], metavar="CODE")
    parser.add_argument("--images", type=int, metavar="N", help="number of training images (default: all)")
    parser.add_argument("--base_epochs", type=int, default=30, metavar="N", help="epochs of the plain loop")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of protect (default: its recipe's)")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = Path(os.environ.get("DATA_ROOT", "data"))
    data, test = images(root, "train", args.images), images(root, "test", None)
    for name in args.networks:
        rows: list[dict[str, Any]] = []
        torch.manual_seed(0)
        network = train(NETWORKS[name](), *data, args.base_epochs, device)
        for k in args.ks:
            for code in args.codes:
                evaluation, seconds = protected(network, data, test, k, code, args.epochs)
                measured = evaluation.frame.iloc[0]
                rows.append(
                    {
                        "network": name,
                        "k": k,
                        "code": str(measured["name"]),
                        "images": len(data[0]),
                        "base_epochs": args.base_epochs,
                        "epochs": args.epochs,
                        "A_a": float(measured["A_a"]),
                        "loss": float(measured["loss_1"]),
                        "low": float(measured["loss_1_low"]),
                        "high": float(measured["loss_1_high"]),
                        "in_words": str(evaluation),
                        "minutes": seconds / 60,
                    }
                )
                print(rows[-1], flush=True)
                store.write(
                    f"protect_cifar/{name}", "parity.protect of a network that a plain loop trained on CIFAR-10", rows
                )


if __name__ == "__main__":
    main()
