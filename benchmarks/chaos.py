"""Disturb small runs again and again: do they end as if nothing had happened?

    python benchmarks/chaos.py [--events 300] [--minutes 60] [--ddp 2] [--seed 1 --add]

Digits' mlp_k2_add is trained, ``train_model`` called, a run evaluated and a study run, each once undisturbed and then
over and over with a disturbance, each time followed by the same command. In the end all must be as undisturbed, bit by
bit: weights, optimiser, random states, tables, test metrics, evaluations; every file with a checkpoint's name, looked
at after each disturbance, must load, and nothing else may be left. Half of the trainings save within their epochs too.

Importing torch and Lightning costs more than these runs. So they are forked from a process that has both: the command's
own main function, in a process of its own. The disturbances, at random times unless something else is said:

- SIGKILL, SIGTERM, SIGINT, SIGHUP
- SIGKILL at a random step of what is done to the disk (writing a piece of a checkpoint, flushing, linking, renaming,
  removing), or within the writing of a checkpoint, counted in the process itself. Of the latter there is proof: a part
  of a file, under its temporary name
- SIGSTOP for longer than the lock's period; a process of another "host" (a UTS namespace) takes the run over, and is
  killed too, half of the times; the first one is continued meanwhile, and must end in its one sentence
- the lock is removed, or replaced by another's
- a lock of another host that is from the future, as after the clock was set back
- standard output is closed
- the disk is full, or becomes read-only: a small one in memory, as root
- one of the two processes of ``python train.py --devices 2`` is killed (``--ddp``)

What one sitting is too short for is done in several, of other seeds: ``--add`` adds its counts to those kept.
"""

import argparse
import ctypes
import importlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytorch_lightning as pl
import sklearn.datasets  # noqa: F401  # as parity.runs.training below: so that forked processes have it
import torch

from parity.analyses.command_line import get_parser as study_parser
from parity.analyses.command_line import main as study_main
from parity.analyses.study import kind_named
from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.command_line import run_command
from parity.commands import evaluate, train
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.evaluation import report  # noqa: F401
from parity.experiments import Experiment
from parity.models import MLP
from parity.models.weights import read_file
from parity.runs import evaluation, training  # noqa: F401
from parity.storage.locks import NAME, PERIOD
from parity.training import train_model

ROOT = Path(__file__).parents[1]
EPOCHS = 8
PIECES = 16
"""In so many pieces a forked process writes a checkpoint."""
SECONDS = 3.0
"""The lock's period here."""
_CLONE_NEWUTS = 0x04000000

KILL, STEP, WRITE = "SIGKILL", "SIGKILL at a step on the disk", "SIGKILL within a checkpoint's writing"
TERM, INT, HUP = "SIGTERM", "SIGINT", "SIGHUP"
STOP = "SIGSTOP, taken over from another host, SIGCONT"
LOCK, CLOCK = "the lock removed or replaced", "a lock from the future"
CLOSED, FULL, READ_ONLY = "standard output closed", "the disk full", "the disk read-only"
DDP = "one of two processes of DDP killed"
KINDS = (KILL, STEP, WRITE, TERM, INT, HUP, STOP, LOCK, CLOCK, CLOSED, FULL, READ_ONLY)
SIGNALS = {KILL: signal.SIGKILL, TERM: signal.SIGTERM, INT: signal.SIGINT, HUP: signal.SIGHUP}
STATUSES = {
    TERM: {143, -signal.SIGTERM}, INT: {130, -signal.SIGINT}, HUP: {-signal.SIGHUP}, LOCK: {1}, FULL: {1},
    READ_ONLY: {1},
}  # fmt: skip
"""How a process may end that is disturbed so, beside 0, the end of its work, and SIGKILL."""


class Fuse:
    """Ends this process with SIGKILL before a step of what it does to the disk.

    Args:
        steps: after how many, pieces of checkpoints among them; None never.
        pieces: after how many pieces of checkpoints; None never.
    """

    def __init__(self, steps: int | None, pieces: int | None) -> None:
        self.steps, self.pieces = steps, pieces
        for name in ("fsync", "link", "replace", "rename", "unlink", "mkdir", "rmdir"):
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


@dataclass(frozen=True)
class Way:
    """How a forked process is started.

    Args:
        fuse: steps and pieces after which it is killed.
        host: the name of the host that it is on; None is this one.
        closed: its standard output is a pipe that nobody reads.
    """

    fuse: tuple[int | None, int | None] = (None, None)
    host: str | None = None
    closed: bool = False


class Subject:
    """Something that is started, disturbed, and started again.

    Args:
        folder: of all that it writes.
        kinds: of the disturbances that it is for.
    """

    kinds: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_name(f"{folder.name}.log")

    def work(self) -> int:
        """Do it, in a process of its own; return the exit status."""
        raise NotImplementedError

    def result(self) -> Any:
        """Return all that counts in the end."""
        raise NotImplementedError

    def run_folder(self) -> Path:
        """Return the folder that has the lock."""
        return self.folder

    def start(self, way: Way = Way()) -> int:
        """Start it in a forked process; return that one's id."""
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            self._redirect(way.closed)
            if way.host is not None:
                be_on_host(way.host)
            if way.fuse != (None, None):
                Fuse(*way.fuse)
            status = self.work()
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(status)

    def _redirect(self, closed: bool) -> None:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if closed:
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)


def be_on_host(name: str) -> None:
    """Put this process on a host of another name, in a UTS namespace; needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = name.encode()
    if libc.unshare(_CLONE_NEWUTS) or libc.sethostname(encoded, len(encoded)):
        raise OSError(ctypes.get_errno(), "a host cannot be pretended here")


class Training(Subject):
    """The command ``parity train``, every other run with saves within epochs."""

    kinds = KINDS
    number = itertools.count()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.within_epochs = next(self.number) % 2 == 1

    def arguments(self) -> list[str]:
        """Return the command line."""
        minutes = ("--save_every_minutes", "1e-9") if self.within_epochs else ()
        return ["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(self.folder.parent),
                "--run_name", self.folder.name, "--accelerator", "cpu", *minutes,
                "--set", f"trainer.max_epochs={EPOCHS}", "data.batch_size=8"]  # fmt: skip

    def work(self) -> int:
        return run_command(train.main, train.get_parser().parse_args(self.arguments()))

    def run(self) -> Experiment:
        """Return the run."""
        overrides = {"trainer.max_epochs": EPOCHS, "data.batch_size": 8}
        return Experiment(
            "Digits", "mlp_k2_add", base_directory=self.folder.parent, run_name=self.folder.name, overrides=overrides
        )

    def run_folder(self) -> Path:
        return self.run().save_dir

    def result(self) -> Any:
        folder = self.run_folder()
        tables = [(folder / name).read_text() for name in ("metrics.csv", "test_metrics.json")]
        return {"tables": tables, **contents(folder / "checkpoints"), "files": names(folder)}


class Call(Subject):
    """The function ``train_model``."""

    kinds = (KILL, STEP, WRITE, INT, HUP, STOP, LOCK, CLOSED, FULL)

    def work(self) -> int:
        pl.seed_everything(0, verbose=False)
        shapes = DigitsDataModule.QUERY_SHAPE, (10,)
        coders = LinearEncoder(2, 1, shapes[0]), [MLP(*shapes)], LinearDecoder(2, 1, shapes[1])
        model = CodedModel(MLP(*shapes), *coders)
        data = DigitsDataModule(k=2, batch_size=8, num_validation=237)
        try:
            train_model(
                model, data, 4, lr=1e-3, accelerator="cpu", checkpoints_path=self.folder, log_path=self.folder,
                save_every_minutes=1e-9,
            )  # fmt: skip
        except ParityError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        except KeyboardInterrupt:
            return 130
        return 0

    def result(self) -> Any:
        own = [name for name in names(self.folder) if "tfevents" not in name]  # a file for each start
        return {"table": (self.folder / "metrics.csv").read_text(), **contents(self.folder), "files": own}


class Evaluation(Subject):
    """The command ``parity evaluate``, of a run that is trained."""

    kinds = (KILL, STEP, TERM, INT, HUP, CLOSED)
    of: Training

    def work(self) -> int:
        self.folder.mkdir(exist_ok=True)
        options = self.of.arguments()[:8]
        parser = evaluate.get_parser()
        return run_command(
            evaluate.main, parser.parse_args([*options, "--accelerator", "cpu", "--json", f"{self.folder}/all.json"])
        )

    def result(self) -> Any:
        kept = self.of.run_folder() / "evaluation_test_best.json"
        return [json.loads(path.read_text()) for path in (self.folder / "all.json", kept)]


class StudyOfTrials(Subject):
    """A study of four trials, in one process."""

    kinds = (KILL, STEP, TERM, INT, HUP, CLOSED)

    def work(self) -> int:
        options = ["--widths", "8", "16", "--lr", "0.01", "0.1", "--seeds", "1", "--epochs", "2", "--jobs", "0",
                   "--steps_per_epoch", "3", "--rule", "bp", "--optimizer", "sgd", "--id", "study"]  # fmt: skip
        parser = study_parser(kind_named("training_stability"))
        return run_command(study_main, parser.parse_args([*options, "--artifacts", str(self.folder)]))

    def run_folder(self) -> Path:
        return self.folder / "training_stability" / "study"

    def result(self) -> Any:
        results = {path.name: json.loads(path.read_text()) for path in self.run_folder().glob("trials/*.json")}
        for each in results.values():
            each.pop("seconds")
        return {"trials": results, "files": [name for name in names(self.run_folder()) if not name.endswith(".log")]}


SUBJECTS: tuple[type[Subject], ...] = (Training, Call, Evaluation, StudyOfTrials)


def contents(folder: Path) -> dict[str, Any]:
    """Return what counts in the checkpoints of a folder."""
    found: dict[str, Any] = {}
    for name in ("last", "best"):
        content = read_file(folder / f"{name}.ckpt")
        keys = ["epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks", "run"]
        found |= {f"{key} in {name}.ckpt": content[key] for key in keys}
    return found


def names(folder: Path) -> list[str]:
    """Return the names of all that is in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def same(one: Any, other: Any) -> bool:
    """Return whether plain values and tensors are the same, bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def status_of(pid: int, wait: bool = True) -> int | None:
    """Return a process's exit status; None while it runs."""
    ended, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk in memory on a folder, and yield whether that is possible."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", "size=400m", "parity-chaos", str(folder)]
    can = not subprocess.run(["mount", *options], capture_output=True, check=False).returncode
    try:
        yield can
    finally:
        if can:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


@dataclass
class Chaos:
    """What was done, and what was seen."""

    disk: Path
    is_disk: bool
    rng: random.Random
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    in_a_write: int = 0
    loaded: int = 0
    runs: set[str] = field(default_factory=set)
    ended_in_a_sentence: int = 0
    seconds: dict[type[Subject], float] = field(default_factory=dict)

    def kinds(self, subject: Subject) -> list[str]:
        """Return the disturbances that can be done here to a subject."""
        impossible = set() if self.is_disk else {STOP, FULL, READ_ONLY}
        return [kind for kind in subject.kinds if kind not in impossible]

    def look(self, subject: Subject) -> None:
        """Load every file that has a checkpoint's name."""
        for path in subject.run_folder().rglob("*.ckpt"):
            if not path.parent.name.startswith(".writer."):
                read_file(path)
                self.loaded += 1
        if aside := list(subject.run_folder().rglob("*.damaged*")):
            raise SystemExit(f"{aside[0]} was set aside")

    def moment(self, subject: Subject, pid: int) -> int | None:
        """Wait for a random time, or until a process has ended; return its status then."""
        end = time.monotonic() + self.rng.uniform(0, self.seconds[type(subject)])
        while (status := status_of(pid, wait=False)) is None and time.monotonic() < end:
            time.sleep(0.02)
        return status

    def disturb(self, subject: Subject, kind: str) -> bool:
        """Start something, or resume it, and disturb it in some way; return whether it came to its end all the same."""
        way = Way(closed=kind == CLOSED)
        if kind == STEP:
            way = Way((self.rng.randrange(150), None))
        elif kind == WRITE:
            way = Way((None, self.rng.randrange(2 * PIECES)))
        if kind == CLOCK and (lock := subject.run_folder() / NAME).exists():
            foreign = json.loads(lock.read_text()) | {"host": "another"}
            lock.write_text(json.dumps(foreign))
            os.utime(lock, (time.time() + 3600,) * 2)
        began = subject.log.stat().st_size if subject.log.exists() else 0
        pid = subject.start(way)
        status = status_of(pid) if kind in (STEP, WRITE, CLOSED) else self.moment(subject, pid)
        came_in_time = status is None or status == -signal.SIGKILL or kind == CLOSED
        if status is None:
            status = self._act(subject, kind, pid)
        if status not in {0, -signal.SIGKILL} | STATUSES.get(kind, set()):
            with subject.log.open() as log:
                log.seek(began)
                raise SystemExit(f"{subject.folder.name}, {kind}: ended with status {status}:\n{log.read()}")
        self.events[type(subject).__name__, kind] += came_in_time
        self.runs.add(subject.folder.name)
        self.in_a_write += any(subject.run_folder().rglob(".writer.*/last.ckpt"))
        self.look(subject)
        total = self.events.total()
        late = "" if came_in_time else " (it had ended before, which does not count)"
        print(f"event {total}, {subject.folder.name}: {kind}, status {status}{late}", flush=True)
        return status == 0

    def _act(self, subject: Subject, kind: str, pid: int) -> int | None:
        if kind in SIGNALS:
            os.kill(pid, SIGNALS[kind])
        elif kind == CLOCK:
            os.kill(pid, signal.SIGKILL)
        elif kind == STOP:
            return self._take_over(subject, pid)
        elif kind == LOCK:
            self._replace_lock(subject)
            status = status_of(pid)
            with suppress(FileNotFoundError):
                if "forged" in (lock := subject.run_folder() / NAME).read_text():
                    lock.unlink()
            self.ended_in_a_sentence += status == 1
            return status
        elif kind == FULL:
            with (self.disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
                while True:
                    filler.write(bytes(1 << 20))
            status = status_of(pid)
            (self.disk / "filler").unlink()
            return status
        elif kind == READ_ONLY:
            self._remount("ro", pid)
            status = status_of(pid)
            self._remount("rw", None)
            return status
        return status_of(pid)

    def _take_over(self, subject: Subject, first: int) -> int | None:
        """Stop a process until it counts as dead, let another take over, and continue the first one meanwhile."""
        os.kill(first, signal.SIGSTOP)
        time.sleep(1.3 * SECONDS)
        second = subject.start(Way(host="second"))
        status = self.moment(subject, second)
        os.kill(first, signal.SIGCONT)
        if status is None and self.rng.random() < 0.5:
            os.kill(second, signal.SIGKILL)
        status = status_of(second) if status is None else status
        outcome = status_of(first)
        if outcome not in (0, 1):
            raise SystemExit(f"{subject.folder.name}: continued, it ended with {outcome}:\n{subject.log.read_text()}")
        self.ended_in_a_sentence += outcome == 1
        if status == 1 and outcome == 0:  # continued before the other had taken the lock, which refused that one
            return outcome
        if status != 0:
            time.sleep(1.3 * SECONDS)  # to the next process, that host's lock is alive for a period
        return status

    def _replace_lock(self, subject: Subject) -> None:
        lock = subject.run_folder() / NAME
        with suppress(FileNotFoundError):
            lock.unlink()
            if self.rng.random() < 0.5:
                lock.write_text(json.dumps({"host": "forged", "pid": 1, "lock": "forged"}))

    def _remount(self, mode: str, pid: int | None) -> None:
        while subprocess.run(
            ["mount", "-o", f"remount,{mode}", str(self.disk)], capture_output=True, check=False
        ).returncode:
            if pid is not None and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.005)  # a file is being written


def ddp_events(folder: Path, count: int, rng: random.Random) -> None:
    """Train with two processes, kill one of them so many times, and compare the end with an undisturbed one."""
    results = []
    for name in ("undisturbed2", "disturbed2"):
        subject = Training(folder / name)
        subject.within_epochs = name == "disturbed2"
        command = [sys.executable, str(ROOT / "train.py"), *subject.arguments(), "--devices", "2"]
        kills = count if name == "disturbed2" else 0
        while True:
            rows = len(subject.run().load_metrics())
            with subject.log.open("a") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            while kills and process.poll() is None and len(subject.run().load_metrics()) <= rows:
                time.sleep(0.02)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            if kills and process.poll() is None and (both := [*map(int, children.read_text().split())]):
                time.sleep(rng.uniform(0, 0.3))
                with suppress(ProcessLookupError):
                    os.kill(rng.choice([process.pid, *both]), signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(120)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the other one, if it has not ended by itself
                kills -= 1
                print(f"one of two processes killed, {kills} to go", flush=True)
            if process.wait() == 0:
                break
            if not kills and name == "undisturbed2":
                raise SystemExit(subject.log.read_text())
        results.append(subject.result())
    if not same(*results):
        raise SystemExit("two processes, disturbed: not the same end")


def prepare(subject: type[Subject], disk: Path, chaos: Chaos) -> Any:
    """Run a subject undisturbed, twice: how long that takes is known then; return its result."""
    undisturbed = subject(disk / f"{subject.__name__}-undisturbed")
    if isinstance(undisturbed, Training):
        Evaluation.of = undisturbed
    for _ in range(2 if subject is Training else 1):  # the first one trains the base model, too
        shutil.rmtree(undisturbed.run_folder(), ignore_errors=True)
        began = time.monotonic()
        if status := status_of(undisturbed.start()):
            raise SystemExit(f"undisturbed, it ended with {status}:\n{undisturbed.log.read_text()}")
        chaos.seconds[subject] = time.monotonic() - began
    return undisturbed.result()


def main(
    events: int, minutes: float, ddp: int, seed: int, folder: Path, keep: bool, add: bool, only: Sequence[str]
) -> None:
    """Do all of it, and print what came of it; raise where something was lost."""
    torch.set_num_threads(1)
    os.environ[PERIOD] = str(SECONDS)
    began = time.monotonic()
    with small_disk(folder / "disk") as is_disk:
        chaos = Chaos(folder / "disk", is_disk, random.Random(seed))
        wanted_subjects = [subject for subject in SUBJECTS if subject.__name__ in only or subject is Training]
        expected = {subject: prepare(subject, chaos.disk, chaos) for subject in wanted_subjects}
        number, differing = 0, []
        cycles = {}
        for subject_class in expected:
            kinds = chaos.kinds(subject_class(chaos.disk / "none"))
            start = 5 * seed % len(kinds)  # so that several short sittings come to all of them
            cycles[subject_class] = itertools.cycle(kinds[start:] + kinds[:start])
        all_in_order = [Training, Call, Training, Evaluation, Training, StudyOfTrials]
        order = itertools.cycle([subject for subject in all_in_order if subject.__name__ in only])
        while chaos.events.total() < events and time.monotonic() - began < 60 * minutes:
            number += 1
            subject = next(order)(chaos.disk / f"run{number}")
            disturbed = 0
            while not chaos.disturb(subject, next(cycles[type(subject)])):
                disturbed += 1
                if chaos.events.total() >= events or disturbed > 8:
                    break
            if status_of(subject.start()) != 0:
                raise SystemExit(f"undisturbed again, it did not end well:\n{subject.log.read_text()}")
            chaos.look(subject)
            found, wanted = subject.result(), expected[type(subject)]
            if not same(found, wanted):
                where = differences(found, wanted)
                differing.append(f"{subject.folder.name} ({type(subject).__name__}): {where}")
                print(differing[-1], flush=True)
            elif not isinstance(subject, Evaluation):
                shutil.rmtree(subject.run_folder())
        if ddp:
            ddp_events(chaos.disk, ddp, chaos.rng)
            chaos.events["Training", DDP] += ddp
    counts = figures(chaos, time.monotonic() - began)
    if differing:
        raise SystemExit("\n".join(["not the same ends:", *differing]))
    if keep:
        tables, store = (importlib.import_module(name) for name in ("tables", "store"))
        before = store.read("chaos") if add else {"rows": [], "seeds": []}
        for row in before["rows"]:
            counts[row["what"]] += row["value"]
        rows = [{"what": what, "value": value} for what, value in counts.items()]
        seeds = [*before["seeds"], seed]
        store.write("chaos", "Small runs disturbed, resumed, compared with undisturbed ones", rows, seeds=seeds)
        print(tables.TABLES["chaos"]())
    print(
        f"{chaos.events.total()} disturbances, {chaos.in_a_write} during a checkpoint's write, "
        f"{chaos.ended_in_a_sentence} after a lost lock, bit-identical: yes, {round(time.monotonic() - began)} s"
    )


def differences(found: Any, wanted: Any) -> list[str]:
    """Return what differs, by its key; of lists, what is in one of them alone."""
    if isinstance(wanted, dict):
        return [
            f"{key}: {differences(found.get(key), wanted[key])}"
            for key in wanted
            if not same(found.get(key), wanted[key])
        ]
    if isinstance(wanted, list) and isinstance(found, list):
        return [str(each) for each in (*found, *wanted) if (each in found) != (each in wanted)][:6]
    return []


def figures(chaos: Chaos, seconds: float) -> Counter[str]:
    """Return what was done and seen, in words and in order; nothing of it was lost."""
    by_kind: Counter[str] = Counter()
    by_subject: Counter[str] = Counter()
    for (name, kind), count in chaos.events.items():
        by_kind[kind] += count
        by_subject[name] += count
    counts = {
        "disturbances": chaos.events.total(),
        **{f"- {kind}": by_kind[kind] for kind in (*KINDS, DDP)},
        "of them while a run is trained": by_subject["Training"],
        "of them in train_model": by_subject["Call"],
        "of them in an evaluation": by_subject["Evaluation"],
        "of them in a study": by_subject["StudyOfTrials"],
        "runs": len(chaos.runs),
        "left a part of a checkpoint under its temporary name": chaos.in_a_write,
        "had lost their lock, and ended in a sentence": chaos.ended_in_a_sentence,
        "files with a checkpoint's name, loaded": chaos.loaded,
        "of them not loadable": 0,
        "ends that were not bit-identical to the undisturbed one": 0,
        "seconds": round(seconds),
    }
    return Counter(counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=600, help="no further run after so many")
    parser.add_argument("--ddp", type=int, default=2, help="kills of one of two processes, in the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--add", action="store_true", help="add the counts to those in benchmarks/results")
    names_of_all = [subject.__name__ for subject in SUBJECTS]
    parser.add_argument("--only", nargs="+", choices=names_of_all, default=names_of_all, help="disturb these alone")
    parser.add_argument("--keep_no_figures", action="store_true", help="leave benchmarks/results as it is")
    parser.add_argument("--folder", type=Path, help="keep the logs there")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        main(
            args.events, args.minutes, args.ddp, args.seed, args.folder or Path(temporary), not args.keep_no_figures,
            args.add, args.only,
        )  # fmt: skip
