"""What tests share: small runs on Digits, real MNIST where it is laid out, and the command lines in this process."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings as hypothesis_settings

from parity import settings
from parity.command_line import parsed, run_command
from parity.experiments import catalogue

ROOT = Path(__file__).parents[1]
HOW_TO_GET_MNIST = "MNIST is not under DATA_ROOT: ../shared/prepare_data.sh data, or run train.py --dataset MNIST once"

torch.set_num_threads(1)  # networks here are small: a second thread waits more than it works

hypothesis_settings.register_profile("parity", deadline=None, max_examples=25, derandomize=True)
hypothesis_settings.load_profile("parity")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder, with the data where it was."""
    monkeypatch.setattr(settings, "DATA_ROOT", (ROOT / settings.DATA_ROOT).resolve())
    monkeypatch.setattr(catalogue, "_added_paths", list(catalogue._added_paths))  # what a test adds is its own
    monkeypatch.chdir(tmp_path)


def need(path: Path, message: str) -> Path:
    """Return a path that must be there in CI; elsewhere the test is skipped with a line that says how to get it."""
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{message} (in CI this test must run)")
        pytest.skip(message)
    return path


@pytest.fixture
def mnist() -> Path:
    """The folder of real MNIST."""
    return need((ROOT / settings.DATA_ROOT).resolve() / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", HOW_TO_GET_MNIST)


@pytest.fixture
def published_weights() -> Path:
    """The published MNIST base model."""
    shared = Path(os.environ.get("PARITY_SHARED", ROOT.parent / "shared"))
    return need(shared / "weights" / "mnist-base-mlp.t7", "the published base model is not at ../shared/weights")


Command = Callable[..., int]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve() -> Command:
    """serve.py in this process; one that serves does not return."""
    script = _script("serve")
    return lambda *args: run_command(script.main, parsed(script.get_parser(), args))


@pytest.fixture
def train() -> Command:
    """train.py in this process, on the CPU: train('--dataset', 'Digits', ...) -> exit status."""
    script = _script("train")
    return lambda *args: run_command(script.main, parsed(script.get_parser(), ["--accelerator", "cpu", *args]))


@pytest.fixture
def evaluate() -> Command:
    """evaluate.py in this process."""
    script = _script("evaluate")
    return lambda *args: run_command(script.main, parsed(script.get_parser(), ["--accelerator", "cpu", *args]))


@pytest.fixture
def export() -> Command:
    """export.py in this process."""
    script = _script("export")
    return lambda *args: run_command(script.main, parsed(script.get_parser(), ["--accelerator", "cpu", *args]))


@pytest.fixture(scope="session")
def trained_digits_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base directory in which Digits' base model is trained, shortly; to be copied, not written to."""
    from parity.experiments import Experiment
    from parity.runs.training import RunOptions, run_training
    from parity.training import Hardware

    folder = tmp_path_factory.mktemp("runs")
    base = Experiment("Digits", "mlp_base", base_directory=folder, overrides={"trainer.max_epochs": 10})
    run_training(base, RunOptions(hardware=Hardware("cpu")))
    return folder


@pytest.fixture
def digits_base(trained_digits_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test's own copy of it."""
    return shutil.copytree(trained_digits_base, tmp_path_factory.mktemp("own") / "runs")
