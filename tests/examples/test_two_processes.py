"""examples/two_processes: a lost prediction is rebuilt by a parity model in another process, asked over HTTP."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from parity.coded_model import CodedModel
from parity.export import save
from tests.export.codes import CARD, make, preprocessing, stored_queries

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_processes"
ENVIRONMENT = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def model() -> CodedModel:
    torch.manual_seed(0)
    return make("cells_combining")


@pytest.fixture(scope="module")
def artefact(model: CodedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("two") / "mine", model, preprocessing(), CARD, onnx=False)


@pytest.fixture(scope="module")
def worker(artefact: Path) -> Iterator[str]:
    """The parity model's address."""
    command = [sys.executable, str(EXAMPLE / "parity_worker.py"), str(artefact), "--port", "0"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.kill()
    process.wait()
    process.stdout.close()


def frontend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("frontend", EXAMPLE / "frontend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_lost_prediction_is_rebuilt(model: CodedModel, artefact: Path, worker: str) -> None:
    stored = stored_queries(1, 2)
    predictions, there = frontend().Frontend(artefact, [worker], patience=60.0)(stored, [1])
    available = torch.tensor([[True, False, True]])
    with torch.no_grad():
        expected = model(preprocessing()(stored)[None], available)[0]
    assert there.tolist() == [True, True]
    assert torch.allclose(predictions, expected, atol=1e-5)


def test_without_a_parity_model_what_arrived_is_answered(artefact: Path) -> None:
    predictions, there = frontend().Frontend(artefact, ["http://127.0.0.1:9"])(stored_queries(1, 2), [1])
    assert there.tolist() == [True, False]
    assert predictions.isnan().any(1).tolist() == [False, True]


def test_the_command_prints_what_became_of_each_query(artefact: Path, worker: str) -> None:
    command = [
        sys.executable,
        str(EXAMPLE / "frontend.py"),
        str(artefact),
        "--parity",
        worker,
        "--lose",
        "0",
        "--patience",
        "60",
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["query 0: rebuilt", "query 1: arrived"]
