"""The search for students: shapes within a budget, trained and compared on validation data, resumed."""

import importlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parity import models
from parity.analyses import students
from parity.analyses.student_shapes import student_shapes
from parity.errors import ParityError
from parity.evaluation.costs import multiply_adds
from parity.experiments import Experiment
from parity.models import MLP, BcosResNet, LeNet, ResNet, WhitenedConvNet

IMAGE, CLASSES = (1, 20, 20), (10,)


@pytest.mark.parametrize(
    ("student", "arguments", "names"),
    [
        (MLP, {}, ["own", "shallower", "deeper"]),
        (MLP, dict(hidden=(50,)), ["own", "deeper"]),
        (ResNet, dict(blocks=(1, 1), widths=(8, 16)), ["own", "deeper"]),
        (ResNet, dict(blocks=(2, 2), widths=(8, 16)), ["own", "shallower", "deeper"]),
        (WhitenedConvNet, dict(widths=(8, 16)), ["own", "shallower", "deeper"]),
        (LeNet, {}, ["own"]),
        (BcosResNet, dict(blocks=(1, 1, 1), width=24), ["own", "deeper"]),
    ],
)
def test_shapes_are_as_wide_as_the_budget_allows(student: Any, arguments: dict[str, Any], names: list[str]) -> None:
    budget = 0.5 * multiply_adds(student(IMAGE, CLASSES, **arguments), torch.zeros(1, *IMAGE))
    shapes = student_shapes(student, arguments, IMAGE, CLASSES, budget)
    assert [shape.name for shape in shapes if shape.side is None] == names
    assert {shape.side for shape in shapes} <= {None, 15, 10}
    for shape in shapes:
        settings = dict(shape.model)
        network = settings.pop("student")(IMAGE, CLASSES, **settings)
        assert multiply_adds(network, torch.zeros(1, *IMAGE)) == shape.multiply_adds <= budget
        assert shape.multiply_adds > 0.7 * budget


@given(share=st.floats(0.05, 1.0))
@settings(max_examples=20, deadline=None)
def test_no_shape_of_an_mlp_costs_more_than_the_budget(share: float) -> None:
    whole = multiply_adds(MLP((64,), CLASSES), torch.zeros(1, 64))
    for shape in student_shapes(MLP, {}, (64,), CLASSES, share * whole):
        assert 0 < shape.multiply_adds <= share * whole
        assert shape.side is None


def test_shapes_leave_the_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    student_shapes(MLP, {}, (64,), CLASSES, 5000)
    assert torch.equal(torch.rand(3), expected)


def test_what_has_no_widths_or_no_room_is_refused() -> None:
    def linear(query_shape: Any, prediction_shape: Any) -> nn.Module:
        return nn.Linear(query_shape[0], prediction_shape[0])

    with pytest.raises(ParityError, match="linear has no widths that could be changed"):
        student_shapes(linear, {}, (64,), CLASSES, 1e6)
    with pytest.raises(ParityError, match=r"no MLP has 3 multiply-adds or fewer for a query of shape \(64,\)"):
        student_shapes(MLP, {}, (64,), CLASSES, 3)


def test_search_compares_on_validation_data_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = Experiment("Digits", "mlp_k4_packed_kl", base_directory=tmp_path)
    found = students.search(experiment, epochs=1, budget=0.5, accelerator="cpu")
    folder = tmp_path / "Digits" / "equal_cost" / "mlp_k4_packed_kl-students"
    assert json.loads((folder / "students.json").read_text()) == {"epochs": 1, "budget": 0.5, "students": found}
    assert [row["accuracy"] for row in found] == sorted((row["accuracy"] for row in found), reverse=True)
    assert {"own", "shallower", "deeper", "own_4px"} <= {row["shape"] for row in found}
    assert all(0.3 < row["multiply_adds"] <= 0.5 for row in found)
    [own] = folder.glob("own-0.5x-1-*")
    assert not any("test" in name for name in pd.read_csv(own / "metrics.csv").columns)
    for row in found:
        [student] = folder.glob(f"{row['shape']}-0.5x-1-*")
        [validated] = pd.read_csv(student / "metrics.csv")["val/overall_top1"].dropna()
        assert row["accuracy"] == pytest.approx(validated)
    students._show(found)
    assert "A_d on validation data" in capsys.readouterr().out
    settings = eval(found[0]["model"], vars(models))
    assert settings.pop("network") is models.PackedStudents
    models.PackedStudents((4, 1, 8, 8), (4, 10), **settings)
    loop = importlib.import_module("parity.training.train_model")
    monkeypatch.setattr(loop, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert students.search(experiment, epochs=1, budget=0.5, accelerator="cpu") == found
    monkeypatch.undo()
    weights = tmp_path / "base.pt"
    torch.save(experiment.get_model().base_model.state_dict(), weights)
    other = students.search(experiment, epochs=1, budget=0.5, accelerator="cpu", base_weights=weights)
    assert {row["accuracy"] for row in other} != {row["accuracy"] for row in found}
    other = students.search(experiment, epochs=1, budget=0.4, accelerator="cpu")
    assert all(0.2 < row["multiply_adds"] <= 0.4 for row in other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(epochs=0), "--epochs counts epochs, 1 or more, not 0"),
        (dict(budget=0.0), "--budget is a share of the base model's multiply-adds, above 0, not 0.0"),
        (dict(budget=float("nan")), "--budget is a share"),
        (dict(budget=1e-9), "no MLP has 0 multiply-adds or fewer"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    experiment = Experiment("Digits", "mlp_k4_packed_kl", base_directory=tmp_path)
    with pytest.raises(ParityError, match=message):
        students.search(experiment, **arguments)
    assert not list(tmp_path.iterdir())


def test_what_packs_no_students_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="mlp_k4_cells packs no students: name an experiment such as"):
        students.search(Experiment("Digits", "mlp_k4_cells", base_directory=tmp_path))
    assert not list(tmp_path.iterdir())
