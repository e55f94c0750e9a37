"""TensorBoard's files, read back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from parity.experiments import Experiment
from parity.training.loggers.epoch_table import TENSORBOARD, tensorboard_logger

event_file_writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """Values by epoch, of every metric; none twice, but for test metrics of a run that is made longer."""
    events = event_accumulator.EventAccumulator(str(run / TENSORBOARD)).Reload()
    values = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert all(len(dict(pairs)) == len(pairs) for tag, pairs in values.items() if not tag.startswith("test/"))
    return {tag: dict(pairs) for tag, pairs in values.items()}


def test_tensorboard_has_every_metric_by_epoch_also_of_a_run_that_goes_on(
    train: Callable[..., int], digits_base: Path
) -> None:
    command = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(digits_base))
    for epochs in (2, 4):
        options = ("--run_name", "tensorboard", "--tensorboard_logger", "--set", f"trainer.max_epochs={epochs}")
        assert train(*command, *options) == 0
    experiment = Experiment(digits_base / "Digits" / "original" / "tensorboard")
    table: dict[str, dict[int, float]] = {}
    for row in experiment.load_metrics():
        for name, value in row.items():
            table.setdefault(name, {})[int(row["epoch"])] = pytest.approx(value)
    epochs_of = table.pop("epoch")
    assert list(epochs_of) == [1, 2, 3, 4]
    assert scalars(experiment.save_dir) == table

    again = (*command, "--run_name", "tensorboard", "--tensorboard_logger", "--force-no-resume")
    assert train(*again, "--set", "trainer.max_epochs=1") == 0
    assert list(scalars(experiment.save_dir)["train/loss"]) == [1]


def test_tensorboard_shows_an_epoch_that_is_trained_twice_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Event files are named by second and then by a counter, and 10 sorts before 9: both parts within a second.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    for done, epochs, value in ((0, (1, 2, 3), 1.0), (2, (3, 4), 2.0)):  # killed before epoch 3's checkpoint
        part = tensorboard_logger(tmp_path, done)
        for epoch in epochs:
            part.log_metrics({"loss": value}, step=epoch)
            part.save()
        part.finalize("failed" if done == 0 else "success")
    assert scalars(tmp_path) == {"loss": {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}}
