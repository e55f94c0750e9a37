"""One command for all command lines, from any folder, and the list of what can be trained."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import parity
from parity.__main__ import main
from parity.experiments import Experiment, listing
from parity.terminal import console

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", ["train", "evaluate", "submit"])
def test_each_command_has_help_of_its_own_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: parity {command} ")


def test_an_unknown_command_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["tain"])
    assert end.value.code == 2
    assert "'train'" in capsys.readouterr().err


def test_the_command_trains_and_evaluates_from_a_folder_of_its_own(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    which = ["--dataset", "Digits", "--experiment_name", "mlp_base", "--accelerator", "cpu"]
    command = [sys.executable, "-m", "parity"]
    train = [*command, "train", *which, "--set", "trainer.max_epochs=2"]
    subprocess.run(train, cwd=tmp_path, env=environment, check=True, capture_output=True)
    made_with = json.loads((tmp_path / "experiments/Digits/original/mlp_base/config.json").read_text())["made_with"]
    assert made_with["parity"] == parity.__version__
    assert "torch" in made_with
    done = subprocess.run([*command, "evaluate", *which], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\d+ / 360 correct", done.stdout)


def test_a_run_of_another_version_is_resumed(train: Callable[..., int]) -> None:
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_base", "--set")
    assert train(*arguments, "trainer.max_epochs=1") == 0
    file = Experiment("Digits", "mlp_base").save_dir / "config.json"
    stored = json.loads(file.read_text())
    stored["made_with"]["parity"] = "0.0.1"
    file.write_text(json.dumps(stored))
    assert train(*arguments, "trainer.max_epochs=2") == 0
    assert json.loads(file.read_text())["made_with"]["parity"] == parity.__version__


def test_the_list_has_what_each_experiment_is_and_whether_it_is_trained(
    train: Callable[..., int], digits_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--list", "--dataset", "Digits", "--base_directory", str(digits_base))
    assert train(*asked, "--json") == 0
    rows = {row["experiment"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["mlp_base"]["trained"]
    assert not rows["mlp_k2_add"]["trained"]
    coder = {name: rows["mlp_k4_cells_r2"][name] for name in ("collection", "k", "r", "encoder")}
    assert coder == {"collection": "positional", "k": 4, "r": 2, "encoder": "LearnedGridEncoder"}
    assert train(*asked) == 0
    table = capsys.readouterr().out
    assert re.search(r"mlp_base .* A_a 0\.\d{4} .* yes", table)
    assert re.search(r"mlp_k2_add .* A_d 0\.\d{4} ", table)
    assert not re.search(r"mlp_k2_add .* yes", table)


def test_the_list_wraps_at_the_terminals_width(capsys: pytest.CaptureFixture[str]) -> None:
    listing.show(listing.rows("Digits", Path("experiments")), console(width=60))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any("mlp_k4_cells_kl_r2" in line for line in lines)


def test_json_without_list_is_refused(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--json") == 1
    assert "--list" in capsys.readouterr().err
