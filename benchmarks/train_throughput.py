"""How do our epochs compare with a bare PyTorch loop's, how soon does training start, and what does saving cost?

    python benchmarks/train_throughput.py [--rounds 5]

Runs in turn, each in a process of its own: (a) a bare loop, the same maths (k = 2, MLP, 64 groups, base predictions
looked up, the loss and nothing else), with PyTorch's default Adam and with its fused one, (b) our training as train.py
runs it, with fused Adam (metrics, CSV logger, progress bar on a terminal, checkpoints) and (c) the imports of torch and
Lightning alone. Only the ratios mean something: absolute times differ between machines, and on a shared one between
minutes: so the fastest of ten epochs counts, and the median of the rounds' ratios. What saving costs is measured within
(b): the seconds that the checkpoints take after each epoch, all of them until they are on the disk, as a share of the
other seconds of the same epoch, with its validation; of the epochs of a run the median counts. About 4 minutes on 2
cores.
"""

import argparse
import functools
import json
import operator
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EPOCHS = 10
CHILDREN = {
    "plain": "bare loop, Adam",
    "fused": "bare loop, fused Adam",
    "ours": "our training",
    "imports": "imports of torch and Lightning",
}


def bare(_: Path, fused: bool) -> dict[str, object]:
    """The loop that one would write by hand."""
    import torch
    from torch import nn
    from torchvision.datasets import MNIST

    from parity import settings

    torch.manual_seed(0)
    images = MNIST(str(settings.DATA_ROOT), train=True).data[:55000].contiguous()

    def mlp() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10)
        )

    base, parity = mlp(), mlp()
    with torch.no_grad():
        predictions = torch.cat([base(part.float() / 255) for part in images.split(1000)])
    optimizer = torch.optim.Adam(parity.parameters(), lr=1e-3, weight_decay=1e-5, fused=fused)
    seconds = []
    for _epoch in range(EPOCHS):
        start = time.perf_counter()
        for groups in torch.randperm(55000).view(-1, 2).split(64):
            queries = images[groups].float().div_(255)
            loss = nn.functional.mse_loss(parity(queries.sum(1)), predictions[groups].sum(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return {"epochs": seconds}


def ours(folder: Path) -> dict[str, object]:
    """What ``train.py --dataset MNIST --experiment_name mlp_k2_add`` does, with a clock in it."""
    import pytorch_lightning as pl
    import torch

    from parity.experiments import Experiment
    from parity.models import MLP
    from parity.runs.training import RunOptions, run_training
    from parity.training import Hardware
    from parity.training.loop.checkpoints import Checkpoints

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.first_step: float | None = None
            self.others: list[float] = []
            self.saving: list[float] = []

        def on_train_epoch_start(self, *_: object) -> None:
            self.start = time.perf_counter()

        def on_train_batch_start(self, *_: object) -> None:
            if self.first_step is None:
                self.first_step = time.time()

        def on_validation_start(self, *_: object) -> None:
            self.seconds.append(time.perf_counter() - self.start)

    save = Checkpoints.on_train_epoch_end

    def timed_save(*arguments: Any) -> None:
        start = time.perf_counter()
        save(*arguments)
        clock.saving.append(time.perf_counter() - start)
        clock.others.append(start - clock.start)

    Checkpoints.on_train_epoch_end = timed_save  # type: ignore[assignment, method-assign]
    torch.manual_seed(0)
    weights = folder / "base.pt"
    torch.save(MLP((1, 28, 28), (10,)).state_dict(), weights)
    clock = Clock()
    experiment = Experiment(
        "MNIST", "mlp_k2_add", base_directory=folder / "runs", overrides={"trainer.max_epochs": EPOCHS}
    )
    run_training(experiment, RunOptions(hardware=Hardware("cpu"), callbacks=[clock]), weights)
    return {"epochs": clock.seconds, "first_step": clock.first_step, "others": clock.others, "saving": clock.saving}


def imports(_: Path) -> dict[str, object]:
    """What nobody can do without."""
    import pytorch_lightning  # noqa: F401
    import torch  # noqa: F401

    return {"first_step": time.time()}


def run_child(name: str) -> dict[str, float]:
    """Run one of the above in a process of its own, on a terminal, and return what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        command = [sys.executable, __file__, "--child", name, folder]
        terminal, end = pty.openpty()
        with subprocess.Popen(command, stdout=end, stderr=end, env={**os.environ, "TERM": "xterm"}) as process:
            os.close(end)
            output = b""
            while True:
                try:
                    chunk = os.read(terminal, 65536)
                except OSError:  # the other end is closed
                    break
                if not chunk:
                    break
                output += chunk
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        os.close(terminal)
        result = Path(folder, "result.json")
        if not result.exists():
            raise SystemExit(f"{name} failed:\n{output.decode(errors='replace')}")
        measured = json.loads(result.read_text())
    values = {"memory": usage.ru_maxrss / 1024}
    if "epochs" in measured:
        values["epoch"] = min(measured["epochs"])  # the one that neighbours disturbed least
    if "saving" in measured:
        values["saving"] = statistics.median(measured["saving"])
        values["others"] = statistics.median(measured["others"])
        values["share"] = statistics.median(map(operator.truediv, measured["saving"], measured["others"]))
    if measured.get("first_step"):
        values["first_step"] = measured["first_step"] - start
    return values


def main(rounds: int) -> None:
    """Alternate, then print medians and ratios."""
    import store  # here, so that the processes that are measured do not import it
    import tables

    results: dict[str, list[dict[str, float]]] = {name: [] for name in CHILDREN}
    for number in range(rounds):
        for name in CHILDREN:
            results[name].append(run_child(name))
            print(f"round {number + 1}/{rounds} {CHILDREN[name]}: {results[name][-1]}", flush=True)

    def median(name: str, value: str) -> float:
        return statistics.median(result[value] for result in results[name])

    def ratio(value: str, over: str) -> float:
        return statistics.median(a[value] / b[value] for a, b in zip(results["ours"], results[over], strict=True))

    def row(what: str, value: str, over: str, reach: float) -> dict[str, object]:
        sides = {"theirs": median(over, value), "ours": median("ours", value), "ratio": ratio(value, over)}
        return {"what": what, "beside": CHILDREN[over], **sides, "reach": reach}

    saving = {
        "what": "seconds that saving takes after an epoch with validation, median",
        "beside": "the epoch without saving",
        "theirs": median("ours", "others"),
        "ours": median("ours", "saving"),
        "ratio": median("ours", "share"),
        "reach": 0.05,
    }
    rows = [
        row("seconds per training epoch, fastest of 10", "epoch", "fused", 1.10),
        row("seconds per training epoch, fastest of 10", "epoch", "plain", 0.95),
        row("peak memory, MiB", "memory", "fused", 1.5),
        row("seconds from process start to the first optimiser step", "first_step", "imports", 1.6),
        saving,
    ]
    store.write(
        "train_throughput", "Training of mlp_k2_add on MNIST beside a bare PyTorch loop of the same maths", rows
    )
    print(tables.TABLES["train_throughput"]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, folder = args.child
        children: dict[str, Callable[[Path], dict[str, object]]] = {
            "plain": functools.partial(bare, fused=False),
            "fused": functools.partial(bare, fused=True),
            "ours": ours,
            "imports": imports,
        }
        measured = children[name](Path(folder))
        Path(folder, "result.json").write_text(json.dumps(measured))
    else:
        main(args.rounds)
