"""Protects a network by two codes, one after the other, and may kill itself on the way.

    python protect_twice.py FOLDER [MOMENT N]

MOMENT is one of ``MOMENTS``; the process ends by SIGKILL at the N-th time that it comes. What an undisturbed process
has at its end is written to FOLDER/end.pt.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

import parity
from parity.storage import files

CODES = ("cells", "add")


class Network(nn.Module):
    """A small network for images of any sides, whose calls are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).relu().mean((-1, -2)))


MOMENTS: dict[str, tuple[Any, str]] = {
    "base predictions": (Network, "forward"),
    "step": (torch.optim.AdamW, "step"),
    "before a file has its name": (files, "flush"),
    "after a file has its name": (files, "flush_folder"),
    "evaluation": (importlib.import_module("parity.protection.protect"), "evaluate"),
}
"""Of each, what is called when it comes."""


def killed_at(moment: str, times: int) -> None:
    """End this process by SIGKILL when the moment comes for the N-th time."""
    owner, name = MOMENTS[moment]
    function: Callable[..., Any] = getattr(owner, name)
    seen = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, counted)


def main(folder: Path, *killed: str) -> None:
    """Protect, and write what there is at the end."""
    digits = load_digits()
    images, classes = torch.tensor(digits.images).float().unsqueeze(1) / 16, torch.tensor(digits.target)
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[:512]), classes[:512]).backward()
        optimizer.step()
    if killed:
        killed_at(killed[0], int(killed[1]))
    end = {}
    for code in CODES:
        result = parity.protect(
            network, (images[:512], classes[:512]), (images[512:768], classes[512:768]), k=2, code=code, max_epochs=3,
            checkpoints_path=folder / code, progress=False, accelerator="cpu",
        )  # fmt: skip
        end[code] = {"weights": result.coded_model.state_dict(), "history": result.history, "words": str(result)}
    torch.save(end, folder / "end.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
