"""export.py: a trained run as an artefact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parity import zoo
from parity.experiments import Experiment
from parity.export import load
from parity.runs.training import RunOptions, run_training
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
