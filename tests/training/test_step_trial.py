"""Objects that a user hands over and that cannot be trained with: one sentence, before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.models import MLP
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware, train_model

QUERY = (1, 4, 4)
QUERIES, CLASSES = torch.rand(6, *QUERY), torch.arange(6) % 3
BATCHES = [(QUERIES, CLASSES)]


def network() -> nn.Module:
    return MLP(QUERY, (3,), hidden=(4,))


class Returning(nn.Module):
    """A network whose prediction is turned into something else."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.change = network(), change

    def forward(self, queries: Tensor) -> Any:
        return self.change(self.network(queries))


def refused(message: str, model: Any = None, data: Any = BATCHES, **options: Any) -> None:
    model = network() if model is None else model
    with pytest.raises(ParityError, match=message):
        train_model(model, data, 1, **{"accelerator": "cpu", "progress": False, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda output: (output, output), "the network returns a tuple, expected one tensor"),
        (lambda output: {"out": output}, "the network returns a dict, expected one tensor"),
        (lambda output: output.to(torch.complex64), "the network returns complex64, expected floats"),
        (lambda output: output.argmax(1), "the network returns int64, expected floats"),
        (lambda output: output * torch.nan, "the network's predictions for the first batch are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("part", ["base", "base of a code", "parity model"])
def test_outputs_that_cannot_be_trained_on_are_named(change: Any, message: str, part: str) -> None:
    odd = Returning(change)
    if part == "base":
        refused(f"^{message}", odd)
        return
    networks = (odd, network()) if part == "base of a code" else (network(), odd)
    model = CodedModel(networks[0], LinearEncoder(2, 1, QUERY), networks[1:], LinearDecoder(2, 1, (3,)))
    refused(f"^{message}", model, [(QUERIES.unflatten(0, (3, 2)), CLASSES.unflatten(0, (3, 2)))])


@pytest.mark.parametrize(
    ("model", "criterion"),
    [
        (Returning(lambda output: output.detach()), None),
        (None, lambda predictions, targets: (predictions.argmax(1) == targets).float().mean()),
    ],
)
def test_a_loss_that_nothing_trained_changes_is_named(model: Any, criterion: Any) -> None:
    refused("the loss does not depend on what is trained", model, criterion=criterion)


def test_targets_to_validate_on_are_as_those_to_train_on() -> None:
    refused(
        r"the first batch of val_data: targets are int64 of shape \(\), and to train on float32 of shape \(3,\)",
        data=[(QUERIES, torch.rand(6, 3))],
        val_data=BATCHES,
    )
    refused("cannot take the targets of the first batch of val_data", data=[(QUERIES, torch.rand(6, 3))],
            val_data=[(QUERIES, torch.rand(6, 2))])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", lambda queries: queries, "model should be a network"),
        ("task", 10, "task should be a Task"),
        ("validate", "accuracy", "validate should be called with the model"),
        ("lit_module", pl.LightningModule, "lit_module should be a subclass of"),
        ("callbacks", [pl.Callback], "callbacks should be Lightning's, made already"),
        ("callbacks", 3, "callbacks should be Lightning's, made already, not .3."),
        ("resume", "no", "resume should be True or False, not 'no'"),
        ("progress", 1, "progress should be True or False, not 1"),
        ("accelerator", None, "the accelerator 'None' is not supported"),
        ("checkpoints_path", 3, "a path is a text or a Path, and not 3"),
        ("checkpoint_every", 0, "checkpoint_every must be 1 or more, not 0"),
        ("checkpoint_every", 1.5, "checkpoint_every must be 1 or more, not 1.5"),
        ("checkpoint_every", "2", "checkpoint_every must be 1 or more, not '2'"),
        ("save_every_minutes", "a", "save_every_minutes must be above 0, not 'a'"),
        ("save_every_minutes", -1, "save_every_minutes must be above 0, not -1"),
        ("gradient_clip_val", float("nan"), "gradient_clip_val must be a number above 0, not nan"),
        ("lr", True, "'lr' is a number or a policy, not True"),
    ],
)
def test_an_argument_of_another_kind_is_named(name: str, value: Any, message: str, tmp_path: Path) -> None:
    refused(message, **{name: value})
    assert not list(tmp_path.iterdir())


def test_a_datamodule_whose_hooks_would_not_be_called_is_refused() -> None:
    class Scaled(pl.LightningDataModule):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(TensorDataset(QUERIES, CLASSES), 3)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] * 100, batch[1]

    refused("Scaled.on_after_batch_transfer would not be called", data=Scaled())


def test_a_loss_that_fails_is_named_before_the_base_model_is_trained(tmp_path: Path) -> None:
    def broken(decoder: Any, predictions: Tensor, parity_outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("mine")

    experiment = Experiment("Digits", "mlp_k2_add", base_directory=tmp_path / "runs")
    experiment.config = {**experiment.config, "loss": broken}
    with pytest.raises(ParityError, match=r"the criterion function cannot take the targets .*\(ValueError: mine\)"):
        run_training(experiment, RunOptions(hardware=Hardware("cpu")))
    assert not (tmp_path / "runs").exists()
