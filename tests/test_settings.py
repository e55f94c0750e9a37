"""Paths as users write them."""

from pathlib import Path

import pytest

from parity.errors import ParityError
from parity.experiments import Experiment
from parity.settings import user_path


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs") == tmp_path / "runs"
    assert user_path("~") == tmp_path
    assert user_path("a/~/b") == Path("a/~/b")
    assert Experiment("Digits", "mlp_base", base_directory="~/runs").save_dir.is_relative_to(tmp_path / "runs")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/runs", "a\0b", f"a/{'n' * 256}", f"a/{'é' * 128}", "a/" * 2100])
def test_a_path_that_no_file_can_have(path: str) -> None:
    with pytest.raises(ParityError):
        user_path(path)


@pytest.mark.parametrize("name", ["n" * 256, "é" * 128, "a\0b", "a/b"])
def test_a_run_name_that_no_folder_can_have(name: str) -> None:
    with pytest.raises(ParityError):
        Experiment("Digits", "mlp_base", run_name=name)


def test_the_command_that_trains_a_run_has_all_that_makes_it(tmp_path: Path) -> None:
    run = Experiment(
        "Digits", "mlp_base", base_directory=tmp_path / "my runs", run_name="mine", seed=5,
        overrides={"trainer.max_epochs": 3, "optimizer.lr": "0.1"},
    )  # fmt: skip
    assert run.command() == (
        f"python -m parity train --dataset Digits --experiment_name mlp_base --base_directory '{tmp_path}/my runs' "
        "--seed 5 --run_name mine --set trainer.max_epochs=3 optimizer.lr=0.1"
    )
    assert Experiment("Digits", "mlp_base", seed=5).command().endswith("mlp_base --seed 5")
