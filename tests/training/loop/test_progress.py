"""What is printed of a run where there is no terminal."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from parity.models import MLP
from parity.training import BaseLitModule, train_model
from parity.training.loop import progress
from parity.training.loop.epoch_record import EpochRecord
from parity.training.loop.progress import TrainingProgress


def batches() -> list[Any]:
    return [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))]


def lines_of(epochs: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", seconds)
    lines: list[str] = []
    bars = TrainingProgress({}, print_line=lines.append)
    module = BaseLitModule.__new__(BaseLitModule)
    nn.Module.__init__(module)
    module.record = EpochRecord()
    module.record.losses.append(torch.tensor(0.5))
    trainer: Any = SimpleNamespace(current_epoch=0, max_epochs=epochs, callback_metrics={})
    bars.on_train_start(trainer, module)
    for trainer.current_epoch in range(epochs):
        bars.on_train_epoch_end(trainer, module)
    bars.on_train_end(trainer, module)
    return lines


def test_200_epochs_into_a_pipe_are_not_200_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_of(200, 1e9, monkeypatch) == ["epoch 1/200, loss 0.5", "epoch 200/200, loss 0.5"]
    assert len(lines_of(5, 0.0, monkeypatch)) == 5


def test_train_model_prints_lines_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    train_model(MLP((3,), (2,)), batches(), 2)
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    train_model(MLP((3,), (2,)), batches(), 2, progress=False)
    assert capsys.readouterr().out == ""
