"""export.py: a trained run as an artefact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parity import zoo
from parity.data import TensorDataModule
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.export import load
from parity.runs.export import _predicted
from parity.runs.serving import load_servable
from parity.runs.training import RunOptions, run_training
from parity.tasks import BoxLocalisation, Classification, DensePrediction, Embeddings, MultiLabel, Regression, Task
from parity.training import Hardware

Command = Callable[..., int]
RUNS = ("--base_directory", "runs", "--dataset", "Digits", "--experiment_name")


@pytest.fixture
def runs(trained_digits_base: Path) -> Path:
    """The base model, and a code for it that is hardly trained."""
    shutil.copytree(trained_digits_base, "runs")
    experiment = Experiment("Digits", "mlp_k2_add", base_directory="runs", overrides={"trainer.max_epochs": 2})
    run_training(experiment, RunOptions(hardware=Hardware("cpu")))
    return Path("runs")


def test_a_run_becomes_an_artefact(export: Command, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--no-onnx", "--licence", "data=CC BY 4.0", "--name", "digits", "--output", "mine")
    assert export(*RUNS, "mlp_k2_add", *options) == 0
    assert "model_card.md" in capsys.readouterr().out
    experiment = Experiment("Digits", "mlp_k2_add", base_directory="runs")
    model, datamodule = experiment.load_trained_model(), experiment.get_datamodule()
    queries, _, _ = next(iter(datamodule.loader("test")))
    available = torch.tensor([False, True, True]).expand(len(queries), -1)
    coded = load("mine")
    with torch.no_grad():
        assert torch.equal(coded(queries, available), model(queries, available))
    manifest = coded.manifest
    assert (manifest["name"], manifest["licences"]) == ("digits", {"data": "CC BY 4.0"})
    assert manifest["input_range"] == [0.0, 1.0]
    assert manifest["command"].startswith("python -m parity train --dataset Digits --experiment_name mlp_k2_add --set")
    measured = experiment.load_test_metrics()["test/overall_top1"]
    assert manifest["accuracies"]["A_d"]["1"]["overall_top1"] == pytest.approx(measured)
    stored = json.loads((experiment.save_dir / "config.json").read_text())["base_weights_sha256"]
    assert stored in manifest["provenance"]


def test_weights_become_an_artefact_without_their_run(export: Command, tmp_path: Path) -> None:
    """As those of the zoo do, where the package has changed since."""
    shipped = zoo.folder("digits-mlp-k2-add")
    options = ("--weights", str(shipped / "weights.safetensors"), "--no-onnx", "--output", "mine")
    assert export(*RUNS, "mlp_k2_add", *options) == 0
    made, expected = load("mine").manifest, load(shipped).manifest
    assert (tmp_path / "mine" / "weights.safetensors").read_bytes() == (shipped / "weights.safetensors").read_bytes()
    assert made["accuracies"]["A_d"] == expected["accuracies"]["A_d"]
    assert made["provenance"] == "the file weights.safetensors"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base_directory", "runs", "--dataset", "Digits"], "name a --dataset and an --experiment_name"),
        ([*RUNS, "mlp_k3_add"], "train first, with python -m parity train"),
        ([*RUNS, "mlp_base"], "mlp_base is a base model, which has no code"),
        ([*RUNS, "mlp_k2_ad"], "did you mean 'mlp_k2_add'?"),
        ([*RUNS, "mlp_k3_add", "--licence", "CC0"], "--licence takes OF=LICENCE"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    arguments: list[str], message: str, export: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(*arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


class OfTask(TensorDataModule):
    QUERY_SHAPE, NUM_CLASSES = (8,), 3

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._own = task

    @property
    def dataset(self) -> str:
        return "Houses"

    @property
    def task(self) -> Task:
        return self._own


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (Classification(3), "which of 3 classes a query of Houses is of"),
        (MultiLabel(5), "which of 5 labels a query of Houses has"),
        (Regression((1,)), "a number for a query of Houses"),
        (Regression((2, 3)), "numbers of shape (2, 3) for a query of Houses"),
        (BoxLocalisation(), "the box of the object in an image of Houses, as (x, y, w, h)"),
        (DensePrediction(4, (8, 9)), "which of 4 classes each of 8 x 9 parts of a query is of"),
        (Embeddings(16), "an embedding of 16 numbers of a query of Houses"),
    ],
)
def test_the_card_names_what_is_predicted(task: Task, sentence: str) -> None:
    # Every task but classification was "the box of the object in an image".
    assert _predicted(OfTask(task)) == sentence


def test_there_is_no_default_class_where_no_class_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment("Digits", "mlp_k2_add")
    model = experiment.get_model()
    monkeypatch.setattr(experiment, "load_trained_model", lambda *_: model)
    monkeypatch.setattr(experiment, "get_datamodule", lambda **_: OfTask(BoxLocalisation()))
    with pytest.raises(
        ParityError, match="--default_class is for networks that predict a class, and Digits mlp_k2_add"
    ):
        load_servable(experiment, default_class=2)
