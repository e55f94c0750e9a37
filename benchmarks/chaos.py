"""Kill a small run again and again: does it end as if nothing had happened?

    python benchmarks/chaos.py [--kills 50] [--real 5]

Trains Digits' mlp_k2_add once undisturbed, then over and over with SIGKILL at random moments, each time followed by the
same command. In the end weights, optimiser, random states, the table of metrics and the test metrics must be the
undisturbed run's, bit by bit; and every file with a checkpoint's name, looked at after each kill and while the run
trains, must load. Half of the time the run saves within its epochs too, after each burst of steps.

Importing torch and Lightning costs more than the run. So most runs are forked from a process that has both: train.py's
own main function, in a process of its own. They are killed

- after a random time, from outside;
- at a random step of what they do to the disk (writing a piece of a checkpoint, flushing, linking, renaming, removing),
  counted in the process itself, which sends itself the signal before that step;
- within the writing of a checkpoint, by the same means. Of that there is proof: a part of a file, under its temporary
  name.

The others (``--real``) are the command itself, ``python train.py``, killed from outside while they train; every second
one as soon as the temporary name of a checkpoint is seen. About 5 minutes on 2 cores.
"""

import argparse
import importlib.util
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import sklearn.datasets  # noqa: F401  # as parity.runs.training below: so that forked processes have it
import torch

from parity.command_line import run_command
from parity.experiments import Experiment
from parity.models.weights import read_file
from parity.runs import training  # noqa: F401

ROOT = Path(__file__).parents[1]
EPOCHS = 8
PIECES = 16
"""In so many pieces a forked process writes a checkpoint."""

KINDS = ("after a random time", "at a step of what it does to the disk", "while writing a checkpoint")
REAL_KINDS = ("train.py, after a random time", "train.py, on sight of a temporary name")
RESULT = ("metrics.csv", "test_metrics.json")


def arguments(base_directory: Path, run_name: str, within_epochs: bool) -> list[str]:
    """Return the command line of the run."""
    minutes = ("--save_every_minutes", "1e-9") if within_epochs else ()
    return ["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(base_directory),
            "--run_name", run_name, "--accelerator", "cpu", *minutes,
            "--set", f"trainer.max_epochs={EPOCHS}", "data.batch_size=8"]  # fmt: skip


def run_of(base_directory: Path, run_name: str) -> Experiment:
    """Return the run that such a command line trains."""
    overrides = {"trainer.max_epochs": EPOCHS, "data.batch_size": 8}
    return Experiment("Digits", "mlp_k2_add", base_directory=base_directory, run_name=run_name, overrides=overrides)


def script() -> ModuleType:
    """Import train.py."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Fuse:
    """Ends this process with SIGKILL before a step of what it does to the disk.

    Args:
        steps: after how many, pieces of checkpoints among them; None never.
        pieces: after how many pieces of checkpoints; None never.
    """

    def __init__(self, steps: int | None, pieces: int | None) -> None:
        self.steps, self.pieces = steps, pieces
        for name in ("fsync", "link", "replace", "unlink", "mkdir"):
            setattr(os, name, self._counted(getattr(os, name)))
        self._save = torch.save
        torch.save = self._save_in_pieces  # type: ignore[assignment]

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*positional: Any, **named: Any) -> Any:
            self._step()
            return function(*positional, **named)

        return counted

    def _step(self) -> None:
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _save_in_pieces(self, content: Any, file: BinaryIO) -> None:
        whole = io.BytesIO()
        self._save(content, whole)
        data = whole.getbuffer()
        size = -(-len(data) // PIECES)
        for start in range(0, len(data), size):
            self._step()
            if self.pieces is not None:
                self.pieces -= 1
                if self.pieces < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            file.write(data[start : start + size])
            file.flush()


def forked(train: ModuleType, command: list[str], output: Path, fuse: tuple[int | None, int | None]) -> int:
    """Start train.py's main function in a forked process; return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if fuse != (None, None):
            Fuse(*fuse)
        status = run_command(train.main, train.get_parser().parse_args(command))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def status_of(pid: int, wait: bool) -> int | None:
    """Return a process's exit status; None while it runs."""
    ended, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


@dataclass
class Chaos:
    """What was done, and what was seen."""

    folder: Path
    rng: random.Random
    train: ModuleType
    kills: Counter[str] = field(default_factory=Counter)
    in_a_write: int = 0
    within_an_epoch: int = 0
    loaded: int = 0

    def look(self, run: Experiment) -> None:
        """Load every file that has a checkpoint's name."""
        for path in (run.save_dir / "checkpoints").glob("*.ckpt"):
            read_file(path)
            self.loaded += 1
        if aside := list(run.save_dir.rglob("*.damaged*")):
            raise SystemExit(f"{aside[0]} was set aside")

    def note_kill(self, run: Experiment, kind: str, pid: int) -> None:
        """Count a kill, and look at what it left."""
        self.kills[kind] += 1
        checkpoints = run.save_dir / "checkpoints"
        self.in_a_write += (checkpoints / f".last.ckpt.{pid}.tmp").exists()
        self.look(run)
        if (checkpoints / "last.ckpt").exists():
            (rank,) = read_file(checkpoints / "last.ckpt")["callbacks"]["Checkpoints"]["ranks"]
            self.within_an_epoch += rank["epoch"] is not None
        print(f"kill {self.kills.total()} of {run.run_name}, in epoch {len(run.load_metrics())}: {kind}", flush=True)

    def start(self, run: Experiment, within_epochs: bool, kind: str | None) -> bool:
        """Start the run, or resume it, and kill it in some way; return whether it came to its end before that."""
        command = arguments(self.folder, run.run_name, within_epochs)
        steps = self.rng.randrange(100) if kind == KINDS[1] else None
        pieces = self.rng.randrange(2 * PIECES) if kind == KINDS[2] else None
        output = self.folder / f"{run.run_name}.log"
        began = time.monotonic()
        pid = forked(self.train, command, output, (steps, pieces))
        if kind == KINDS[0]:
            end = began + self.rng.uniform(0, 3 * self.seconds_to_begin)
            while (status := status_of(pid, wait=False)) is None and time.monotonic() < end:
                self.look(run)
                time.sleep(0.05)
            if status is None:
                os.kill(pid, signal.SIGKILL)
                status = status_of(pid, wait=True)
        else:
            status = status_of(pid, wait=True)
        return self._is_over(run, pid, status, output, kind)

    def _is_over(self, run: Experiment, pid: int, status: int | None, output: Path, kind: str | None) -> bool:
        if status == 0:
            return True
        if status != -signal.SIGKILL or kind is None:
            raise SystemExit(f"{run.run_name} ended with status {status}:\n{output.read_text()}")
        self.note_kill(run, kind, pid)
        return False

    seconds_to_begin: float = 1.0

    def start_really(self, run: Experiment, within_epochs: bool, kind: str) -> bool:
        """Do so with ``python train.py``."""
        output = self.folder / f"{run.run_name}.log"
        command = [sys.executable, str(ROOT / "train.py"), *arguments(self.folder, run.run_name, within_epochs)]
        checkpoints, rows = run.save_dir / "checkpoints", len(run.load_metrics())
        with output.open("a") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            while process.poll() is None and len(run.load_metrics()) <= rows:
                time.sleep(0.005)
            end = time.monotonic() + self.rng.uniform(0, 0.3)
            while process.poll() is None:
                if kind == REAL_KINDS[0] and time.monotonic() > end:
                    break
                if kind == REAL_KINDS[1] and (checkpoints / f".last.ckpt.{process.pid}.tmp").exists():
                    break
            process.kill()
        return self._is_over(run, process.pid, process.returncode, output, kind)


def same(one: Any, other: Any) -> bool:
    """Tell whether plain values and tensors are the same, bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def differences(run: Experiment, undisturbed: Experiment) -> list[str]:
    """Return what is not the same in two finished runs."""
    different = [
        name for name in RESULT if (run.save_dir / name).read_bytes() != (undisturbed.save_dir / name).read_bytes()
    ]
    for name in ("last", "best", "previous"):
        contents = [read_file(each.checkpoint(name)) for each in (run, undisturbed)]
        keys = ["epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks"]
        if name == "previous":  # it may be of within the last epoch
            keys = []
        different += [f"{key} in {name}.ckpt" for key in keys if not same(contents[0][key], contents[1][key])]
    names = [sorted(path.name for path in each.save_dir.rglob("*")) for each in (run, undisturbed)]
    if names[0] != names[1]:
        different.append(f"files {names[0]}")
    return different


def main(kills: int, real: int, seed: int, folder: Path) -> None:
    """Do all of it, and print what came of it; raise where something was lost."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    chaos = Chaos(folder, random.Random(seed), script())
    undisturbed = run_of(folder, "undisturbed")
    chaos.start(undisturbed, False, None)  # trains the base model, too
    again = time.monotonic()
    chaos.start(undisturbed, False, None)
    chaos.seconds_to_begin = time.monotonic() - again
    differing: list[str] = []
    runs = 0
    while chaos.kills.total() < kills:
        runs += 1
        run = run_of(folder, f"run{runs}")
        over = False
        while not over and (done := chaos.kills.total()) < kills:
            within_epochs = done // len(KINDS) % 2 == 1
            if done < kills - real:
                over = chaos.start(run, within_epochs, KINDS[done % len(KINDS)])
            else:
                over = chaos.start_really(run, within_epochs, REAL_KINDS[done % len(REAL_KINDS)])
        if not over:
            chaos.start(run, False, None)
        chaos.look(run)
        differing += [f"{run.run_name}: {what}" for what in differences(run, undisturbed)]
    seconds = time.monotonic() - began
    counts = {
        f"kills with SIGKILL, in {runs} runs of {EPOCHS} epochs": chaos.kills.total(),
        **{f"- {kind}": chaos.kills[kind] for kind in (*KINDS, *REAL_KINDS)},
        "left a part of a checkpoint under its temporary name": chaos.in_a_write,
        "had saved within an epoch last": chaos.within_an_epoch,
        "files with a checkpoint's name, loaded": chaos.loaded,
        "of them not loadable": 0,
        "weights and metrics bit-identical to the undisturbed run's": "no" if differing else "yes",
        "seconds": round(seconds),
    }
    print(
        f"{chaos.kills.total()} kills, {chaos.in_a_write} during a checkpoint's write, {chaos.within_an_epoch} with a "
        f"save within an epoch, bit-identical: {'no' if differing else 'yes'}, {seconds:.0f} s"
    )
    if differing or not chaos.in_a_write:
        raise SystemExit("\n".join(differing) or "no checkpoint was being written: these kills prove little")
    if kills >= 50:
        import store
        import tables

        rows = [{"what": what, "value": value} for what, value in counts.items()]
        store.write("chaos", "Runs killed with SIGKILL, resumed, compared with an undisturbed run", rows, seeds=[seed])
        print(tables.TABLES["chaos"]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--real", type=int, default=5, help="kills of python train.py among them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the runs there")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        main(args.kills, args.real, args.seed, args.folder or Path(temporary))
