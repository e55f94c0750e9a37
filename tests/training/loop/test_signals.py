"""A signal in the midst of training: what was learned is saved, and training resumes to the same end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError, Stopped
from parity.models import MLP
from parity.models.weights import fingerprint
from parity.tasks import Classification
from parity.training import (
    Adam,
    Hardware,
    OneCycle,
    ParityLitModule,
    ParityTargetLoss,
    ReconstructionAccuracy,
    ReconstructionLoss,
    SquaredError,
    StepOptions,
    WeightedSum,
    fit,
)
from parity.training.loggers.epoch_table import EpochTable, read_table
from parity.training.loop.signals import StopSignals

SHAPES = DigitsDataModule.QUERY_SHAPE, (10,)
EPOCHS = 3


class NoisyParity(MLP):
    """A parity model with everything that could be lost on the way: random numbers and running statistics."""

    def __init__(self) -> None:
        super().__init__(*SHAPES)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        if self.training:
            queries = queries + 0.1 * torch.randn_like(queries)
        return super().forward(self.norm(queries))


class SignalAt(pl.Callback):
    """Sends this process a signal after a burst of training or of validation."""

    def __init__(self, epoch: int, burst: int, validation: bool, signum: int) -> None:
        self.when, self.signum = (epoch, burst, validation), signum

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._send((trainer.current_epoch, batch_idx, False))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._send((trainer.current_epoch, batch_idx, True))

    def _send(self, now: tuple[int, int, bool]) -> None:
        if now == self.when:
            os.kill(os.getpid(), self.signum)


def train(folder: Path, *callbacks: pl.Callback, minutes: float | None = None) -> tuple[str, list[dict[str, str]]]:
    """Train in a folder, or resume there; 75 steps in an epoch, in 5 bursts, the last one shorter."""
    torch.manual_seed(0)
    model = CodedModel(MLP(*SHAPES), LinearEncoder(2, 1, SHAPES[0]), [NoisyParity()], LinearDecoder(2, 1, SHAPES[1]))
    loss = WeightedSum((0.5, ParityTargetLoss(nn.MSELoss())), (0.1, ReconstructionLoss(SquaredError())))
    options = StepOptions(accumulate_grad_batches=5, track_grad_norm=True)
    module = ParityLitModule(
        model, loss, ReconstructionAccuracy(Classification(10), 2), Adam(1e-3), OneCycle(), options
    )
    last = folder / "checkpoints" / "last.ckpt"
    resume_from = last if last.exists() else None
    torch.manual_seed(1 if resume_from is None else 2)
    done = torch.load(last, weights_only=True)["epoch"] + 1 if resume_from else 0
    table = EpochTable(folder / "metrics.csv", keep=done)
    with StopSignals() as stop:
        fit(
            module, DigitsDataModule(k=2, batch_size=8, num_validation=237), folder, {"max_epochs": EPOCHS},
            hardware=Hardware("cpu"), loggers=[table], callbacks=callbacks, resume_from=resume_from, stop=stop,
            save_every_minutes=minutes,
        )  # fmt: skip
    return fingerprint(model), read_table(folder / "metrics.csv")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, str]]]:
    return train(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("epoch", "burst", "validation"),
    [
        (0, 0, False),
        (0, 3, False),
        (1, 2, False),
        (1, 4, False),
        (2, 4, False),
        (0, 0, True),
        (1, 0, True),
        (2, 0, True),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_end(
    tmp_path: Path, uninterrupted: tuple[str, list[dict[str, str]]], epoch: int, burst: int, validation: bool
) -> None:
    with pytest.raises(Stopped) as stopped:
        train(tmp_path, SignalAt(epoch, burst, validation, signal.SIGTERM))
    assert stopped.value.signal == signal.SIGTERM
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    (rank,) = content["callbacks"]["Checkpoints"]["ranks"]
    assert content["epoch"] == epoch - 1
    assert len(rank["epoch"]["groups"]) == (75 if validation else min(75, 16 * (burst + 1)))
    assert train(tmp_path) == uninterrupted


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_several_signals_in_one_run(
    tmp_path: Path, uninterrupted: tuple[str, list[dict[str, str]]], signum: int
) -> None:
    handler = signal.getsignal(signum)
    for when in ((0, 1, False), (0, 2, False), (1, 0, True), (2, 3, False)):
        with pytest.raises(Stopped):
            train(tmp_path, SignalAt(*when, signum))
    assert train(tmp_path) == uninterrupted
    assert signal.getsignal(signum) == handler


def test_saving_now_and_then_changes_nothing(
    tmp_path: Path, uninterrupted: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kill(SignalAt):
        def _send(self, now: tuple[int, int, bool]) -> None:
            if now == self.when:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, Kill(1, 3, False, 0), minutes=1e-9)
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(content["callbacks"]["Checkpoints"]["ranks"][0]["epoch"]["groups"]) == 48
    assert train(tmp_path, minutes=1e-9) == uninterrupted


def test_nothing_broken_is_saved(tmp_path: Path) -> None:
    class Break(pl.Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if trainer.current_epoch == 1:
                module.step_losses[7] = torch.tensor(torch.nan)
                module.record.terms[7][1] = torch.nan

    with pytest.raises(ParityError, match=r"nan in step 8 of epoch 2 \(term 2, ReconstructionLoss\)"):
        train(tmp_path, Break(), SignalAt(1, 0, False, signal.SIGTERM))
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["epoch"] == 0
    assert content["callbacks"]["Checkpoints"]["ranks"][0]["epoch"] is None


SLOW = """
import sys, time
from parity.errors import Stopped
from parity.training.loop.signals import StopSignals

try:
    with StopSignals(grace=float(sys.argv[2])) as stop:
        if sys.argv[1] == "later":
            with stop.answered_later():
                print("ready", flush=True)
                time.sleep(60)
        print("ready", flush=True)
        time.sleep(60)
except Stopped as error:
    print(error, flush=True)
    sys.exit(3)
"""


@pytest.fixture
def slow() -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    return start


def test_outside_training_a_signal_stops_at_once(slow: Callable[..., subprocess.Popen[str]]) -> None:
    with slow("now", "60") as process:
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped by SIGTERM\n"
        assert time.monotonic() - begun < 10
        assert process.communicate(timeout=120)[0] == "", "and prints nothing else"
    assert process.returncode == 3  # Python's own end, which takes its time on a busy machine


def test_a_second_signal_ends_the_process(slow: Callable[..., subprocess.Popen[str]]) -> None:
    with slow("later", "60") as process:
        process.send_signal(signal.SIGUSR2)
        time.sleep(0.2)
        process.send_signal(signal.SIGUSR1)  # a scheduler's, at the same time
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 128 + signal.SIGUSR2


def test_the_grace_ends(slow: Callable[..., subprocess.Popen[str]]) -> None:
    with slow("later", "1") as process:
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert 0.9 < time.monotonic() - begun < 8
