"""How many images per second do training batches come in, next to torchvision's way, and what does CIFAR-10 cost?

    python benchmarks/data_throughput.py [--rounds 5] [--workers 2]

In turn, an epoch each: (a) CIFAR-10 cut, mirrored and scaled in batches by us, and image by image by torchvision's
transforms in a DataLoader with worker processes; (b) photographs of cats and dogs read and cut to 224 pixels, by our
worker processes and by torchvision's ImageFolder with as many. Starting the processes counts, on both sides. Only the
ratios mean something: absolute figures differ between machines, and on a shared one between minutes: so the median of
the rounds counts. (c) is the memory that loading CIFAR-10 takes at its peak, in a process of its own. About 3 minutes
on 2 cores; both data sets must be under DATA_ROOT.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import store
import tables
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from parity.data.cifar import CIFAR10DataModule
from parity.data.folders import CatVsDogDataModule

BATCH = 128  # images: 64 groups of 2


class PerSample(Dataset):
    """CIFAR-10 as torchvision's class hands it out: one PIL image at a time, transformed."""

    def __init__(self, images: Tensor, targets: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.targets, self.transform = images.permute(0, 2, 3, 1).numpy(), targets.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[place])), self.targets[place]


def rate(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return images per second of an epoch."""
    start, images = time.perf_counter(), 0
    for queries, _ in batches:
        images += len(queries)
    return images / (time.perf_counter() - start)


def ours(data: CIFAR10DataModule | CatVsDogDataModule) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch of our training."""
    for batch in data.loader("train"):
        yield batch.queries.flatten(0, 1), batch.targets


def augmentation(workers: int) -> dict[str, Callable[[], float]]:
    """(a)"""
    data = CIFAR10DataModule(k=2, batch_size=BATCH // 2, num_validation=0)
    loader = data.loader("train")
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.MEAN, data.STD),
        ]
    )
    theirs = DataLoader(PerSample(loader.queries, loader.targets, transform), BATCH, shuffle=True, num_workers=workers)
    return {"theirs": lambda: rate(theirs), "ours": lambda: rate(ours(data))}


def decoding(workers: int) -> dict[str, Callable[[], float]]:
    """(b)"""
    data = CatVsDogDataModule(k=2, batch_size=BATCH // 2, num_workers=workers)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.MEAN, data.STD),
        ]
    )
    folder = ImageFolder(str(data.root() / "train"), transform)
    theirs = DataLoader(folder, BATCH, shuffle=True, num_workers=workers)
    return {"theirs": lambda: rate(theirs), "ours": lambda: rate(ours(data))}


def memory() -> dict[str, float]:
    """(c): MiB of CIFAR-10's images, and how much this process grew by loading them, at its peak."""

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    Path("/proc/self/clear_refs").write_text("5")  # forgets how high VmHWM has been
    before = status("VmRSS")
    data = CIFAR10DataModule()
    images = sum(data.loader(split).queries.nbytes for split in ("train", "test"))
    return {"images": images / 2**20, "growth": (status("VmHWM") - before) / 2**10}


def main(rounds: int, workers: int) -> None:
    """Alternate, then print medians and ratios."""
    child = subprocess.run([sys.executable, __file__, "--child"], stdout=subprocess.PIPE, check=True)
    grown = json.loads(child.stdout)
    print(f"memory: {grown}", flush=True)
    rows: list[dict[str, Any]] = []
    for what, make in {
        "CIFAR-10, crop and flip of 3 x 32 x 32": augmentation,
        "CatVsDog, read and cut to 3 x 224 x 224": decoding,
    }.items():
        measures = make(workers)
        results: dict[str, list[float]] = {name: [] for name in measures}
        for number in range(rounds):
            for name, measure in measures.items():
                results[name].append(measure())
                print(f"round {number + 1}/{rounds} {what}, {name}: {results[name][-1]:.0f} images/s", flush=True)
        theirs, our = (statistics.median(results[name]) for name in ("theirs", "ours"))
        ratio = statistics.median(b / a for a, b in zip(results["theirs"], results["ours"], strict=True))
        beside = f"torchvision, {workers} processes"
        about = f"images per second, {what}"
        rows.append({"what": about, "beside": beside, "theirs": theirs, "ours": our, "ratio": ratio, "reach": None})
    images, growth = grown["images"], grown["growth"]
    peak = {"what": "MiB at the peak of loading CIFAR-10", "beside": "its bytes", "theirs": images, "ours": growth}
    rows.append({**peak, "ratio": growth / images, "reach": None})
    store.write("data_throughput", f"Training images per second, median of {rounds}, and memory", rows)
    print(tables.TABLES["data_throughput"]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(memory()))
    else:
        main(args.rounds, args.workers)
