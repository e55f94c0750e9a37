"""evaluate.py --compare: codes side by side, from trained runs to files."""

import csv
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parity.errors import ParityError
from parity.experiments import Experiment
from parity.experiments.config import frozen
from parity.runs.comparison import run_comparison
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

Command = Callable[..., int]


@pytest.fixture(scope="session")
def trained(trained_digits_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parity experiments on the same base model, hardly trained."""
    runs = tmp_path_factory.mktemp("compared") / "runs"
    shutil.copytree(trained_digits_base, runs)
    for name in ("mlp_k2_add", "mlp_k4_linear_r2"):
        experiment = Experiment("Digits", name, base_directory=runs, overrides={"trainer.max_epochs": 2})
        run_training(experiment, RunOptions(hardware=Hardware("cpu")))
    return runs


@pytest.fixture(scope="module")
def comparison(trained: Path) -> dict[str, Any]:
    experiments = [Experiment("Digits", name, base_directory=trained) for name in ("mlp_k2_add", "mlp_k4_linear_r2")]
    backup = Experiment("Digits", "mlp_base", base_directory=trained)
    return run_comparison(experiments, baselines=True, backup=backup, accelerator="cpu")


def named(comparison: dict[str, Any], name: str, k: int) -> dict[str, Any]:
    (code,) = [code for code in comparison["codes"] if (code["name"], code["k"]) == (name, k)]
    return code


def test_every_code_is_there_once_for_each_k(comparison: dict[str, Any]) -> None:
    assert [(code["name"], code["k"], code["r"]) for code in comparison["codes"]] == [
        ("mlp_k2_add", 2, 1), ("mlp_k4_linear_r2", 4, 2),
        ("no redundancy", 2, 0), ("replication x2", 2, 2), ("ApproxIFER", 2, 1), ("NeRCC", 2, 1),
        ("no redundancy", 4, 0), ("replication x2", 4, 4), ("ApproxIFER", 4, 1), ("NeRCC", 4, 1),
        ("cheaper backup", 2, 2), ("cheaper backup", 4, 4), ("cascade", 2, 2), ("cascade", 4, 4),
    ]  # fmt: skip


def test_numbers_agree_with_what_must_be(comparison: dict[str, Any]) -> None:
    base = comparison["base"]
    for code in comparison["codes"]:
        assert code["groups"] * code["k"] + code["queries_left_over"] == base["queries"] == 360
        assert code["A_a"]["low"] < code["A_a"]["value"] < code["A_a"]["high"]
    replication, nothing = named(comparison, "replication x2", 2), named(comparison, "no redundancy", 2)
    assert replication["A_d"]["1"]["value"] == pytest.approx(replication["A_a"]["value"])
    assert replication["reconstruction"]["1"]["value"] == 1
    assert replication["mse"] == 0
    assert (replication["extra_workers"], replication["extra_parameters"], replication["multiply_adds"]) == (1, 0, 1)
    assert nothing["A_d"] == {}
    assert nothing["A_o"]["0.1"]["value"] < replication["A_o"]["0.1"]["value"]
    own = named(comparison, "mlp_k2_add", 2)
    assert (own["extra_workers"], own["multiply_adds"]) == (0.5, 1)
    assert own["extra_parameters"] == base["parameters"]
    assert base["parameters"] == 64 * 200 + 200 + 200 * 100 + 100 + 100 * 10 + 10
    assert base["multiply_adds"] == 64 * 200 + 200 * 100 + 100 * 10
    assert named(comparison, "mlp_k4_linear_r2", 4)["extra_parameters"] == 2 * base["parameters"]
    backup = named(comparison, "cheaper backup", 4)  # here as large as the base model, and the same
    assert backup["A_d"]["1"]["value"] == pytest.approx(backup["A_a"]["value"])


def test_what_is_confused_adds_up(comparison: dict[str, Any]) -> None:
    for code in comparison["codes"]:
        if code["name"] in ("mlp_k2_add", "ApproxIFER"):
            right = sum(row[number] for number, row in enumerate(code["confusion"]))
            total = sum(map(sum, code["confusion"]))
            assert right / total == pytest.approx(code["A_d"]["1"]["value"])
            calibration = code["calibration"]
            assert sum(calibration["count"]) == total
            for bins, accuracy in ((calibration, code["A_d"]["1"]), (calibration["base"], code["A_a"])):
                right = sum(map(float.__mul__, map(float, bins["count"]), bins["accuracy"]))
                assert right / total == pytest.approx(accuracy["value"])


def test_what_is_lost_is_paired_with_what_each_group_had(comparison: dict[str, Any]) -> None:
    for code in comparison["codes"]:
        for erased, lost in code["loss"].items():
            assert lost["value"] == pytest.approx(code["A_a"]["value"] - code["A_d"][erased]["value"])
            assert lost["low"] <= lost["value"] <= lost["high"]
    replication, nercc = named(comparison, "replication x2", 2), named(comparison, "NeRCC", 2)
    alike = replication["loss"]["1"]
    assert alike["value"] == 0
    assert 0 < alike["high"] == -alike["low"] < 0.01
    against = {(other["name"], other["k"]): other["value"] for other in nercc["against"]}
    assert set(against) == {("mlp_k2_add", 2), ("replication x2", 2), ("ApproxIFER", 2)}
    assert against["replication x2", 2] == pytest.approx(-nercc["loss"]["1"]["value"])


def test_an_exact_replica_is_calibrated_as_the_base_model(comparison: dict[str, Any]) -> None:
    calibration = named(comparison, "replication x2", 2)["calibration"]
    assert calibration["error"] == pytest.approx(calibration["base"]["error"])


def test_an_experiment_gives_what_protect_gives(trained: Path) -> None:
    result = Experiment("Digits", "mlp_k2_add", base_directory=trained).result()
    assert "when a worker is missing: A_a" in str(result)
    assert result.evaluate(timed=False).results["codes"][0]["name"] == "mlp_k2_add"
    with pytest.raises(ParityError, match="is a base model: protect it"):
        Experiment("Digits", "mlp_base", base_directory=trained).result()


def test_the_panel_shows_groups(comparison: dict[str, Any]) -> None:
    first = [code["panel"][0]["targets"] for code in comparison["codes"] if code["k"] == 2]
    assert all(targets == first[0] for targets in first), "every code sees the same groups"
    panel = named(comparison, "mlp_k2_add", 2)["panel"]
    assert len(panel) == 3
    for group in panel:
        assert [image.shape for image in group["queries"] + group["parity_queries"]] == [(8, 8)] * 3
        assert group["wrong"] == [said != true for said, true in zip(group["decoded"], group["targets"], strict=True)]


def test_batches_make_no_difference(trained: Path, comparison: dict[str, Any]) -> None:
    experiment = Experiment("Digits", "mlp_k2_add", base_directory=trained, overrides={"data.batch_size": 7})
    (code,) = run_comparison([experiment], accelerator="cpu")["codes"]
    expected = named(comparison, "mlp_k2_add", 2)
    for key in ("A_a", "A_d", "reconstruction", "A_o", "confusion"):
        assert code[key] == expected[key], key
    assert code["mse"] == pytest.approx(expected["mse"], rel=1e-5)


def test_the_same_command_gives_the_same_files(
    trained: Path, evaluate: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = []
    for name in ("first", "second"):
        status = evaluate(
            "--dataset", "Digits", "--base_directory", str(trained), "--compare", "mlp_k2_*", "mlp_k4_linear_r2",
            "--baselines", "--k", "2", "--unavailable", "0", "0.3", "--report", str(tmp_path / name),
        )  # fmt: skip
        assert status == 0
        contents.append((tmp_path / name / "results.csv").read_bytes())
    assert contents[0] == contents[1]
    rows = list(csv.DictReader((tmp_path / "first" / "results.csv").read_text().splitlines()))
    assert [row["name"] for row in rows][:3] == ["mlp_k2_add", "mlp_k4_linear_r2", "no redundancy"]
    assert {"A_o_0", "A_o_0.3", "A_d_1", "A_d_2"} <= rows[0].keys()
    assert json.loads((tmp_path / "first" / "results.json").read_text())["unavailable"] == [0, 0.3]
    assert "<script" not in (tmp_path / "first" / "report.html").read_text()
    assert "mlp_k2_add" in capsys.readouterr().out


def test_a_data_frame_in_a_notebook(trained: Path, comparison: dict[str, Any]) -> None:
    frame = Experiment("Digits", "mlp_k2_add", base_directory=trained).evaluate(accelerator="cpu")
    assert len(frame) == 1
    assert frame["A_d_1"][0] == pytest.approx(named(comparison, "mlp_k2_add", 2)["A_d"]["1"]["value"], abs=1e-6)


def test_workers_that_fail_in_pairs_lose_more(trained: Path, comparison: dict[str, Any]) -> None:
    experiment = Experiment("Digits", "mlp_k4_linear_r2", base_directory=trained)
    (code,) = run_comparison([experiment], paired=True, accelerator="cpu")["codes"]
    alone = named(comparison, "mlp_k4_linear_r2", 4)
    assert code["A_d"] == alone["A_d"]
    assert code["A_o"]["0.1"]["value"] != alone["A_o"]["0.1"]["value"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one --experiment_name to evaluate, or several to --compare"),
        (["--compare", "mlp_k3_add"], "has no checkpoints: train first"),
        (["--compare", "mlp_k2_ad"], "did you mean 'mlp_k2_add'?"),
        (["--compare", "mlp_base"], "name parity experiments, or add --baselines"),
        (["--compare", "mlp_k2_add", "--unavailable", "1.5"], "--unavailable takes a number from 0 to 1, not 1.5"),
        (["--compare", "mlp_k2_add", "--default_class", "10"], "one of the 10 classes"),
        (["--compare", "mlp_k2_add", "--backup", "mlp_k4_linear_r2"], "mlp_k4_linear_r2 is not one"),
        (["--compare", "mlp_k2_add", "--report", "/sys/report"], "/sys/report cannot be written"),
        (["--compare", "mlp_k2_add", "--wandb_logger"], "--wandb_project"),
        (["--compare", "mlp_k2_add", "--wrong", "0.1"], "--wrong goes with --experiment_name"),
        (["--experiment_name", "mlp_k2_add", "--wrong", "1.5"], "--wrong takes a number from 0 to 1, not 1.5"),
        (["--experiment_name", "mlp_k2_add", "--wrong", "0.1", "--false_alarms", "0"], "above 0 and below 1, not 0"),
        (["--experiment_name", "mlp_k2_add", "--wrong", "0.1", "--split", "val"], "without --split val"),
        (["--experiment_name", "mlp_base", "--wrong", "0.1"], "name a parity experiment"),
        (["--experiment_name", "mlp_k4_linear_r2", "--wrong", "0.1"], "60 groups are too few for 1.00% false alarms"),
    ],
)
def test_bad_input_gets_one_sentence(
    trained: Path, evaluate: Command, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--dataset", "Digits", "--base_directory", str(trained), *arguments) == 1
    assert message in capsys.readouterr().err


def test_wrong_outputs_are_looked_for_where_it_is_asked_for_and_change_no_other_figure(
    trained: Path, evaluate: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ("--dataset", "Digits", "--base_directory", str(trained), "--experiment_name", "mlp_k4_linear_r2")
    plain, wrong = tmp_path / "plain.json", tmp_path / "wrong.json"
    assert evaluate(*named, "--json", str(plain)) == 0
    assert "wrong outputs" not in capsys.readouterr().out
    assert evaluate(*named, "--wrong", "0.02", "0.2", "--false_alarms", "0.05", "--json", str(wrong)) == 0
    shown = capsys.readouterr().out
    assert "wrong outputs" in shown
    assert "g = 0.2" in shown
    results = json.loads(wrong.read_text())
    rows = {row["fault"]: row for row in results.pop("wrong")}
    assert results == json.loads(plain.read_text())
    assert rows["NaN"]["detected"] == 1
    users = rows["classes shifted"]["users"]
    assert [user["g"] for user in users] == [0.02, 0.2]
    assert results["code"]["A_a"] > users[0]["ignored"] > users[1]["ignored"]
    assert {"exponent bit of a weight flipped", "exponent bit of an activation flipped"} < rows.keys()


def test_other_base_models_are_not_compared(trained: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained, runs)
    shutil.rmtree(runs / "Digits" / "original" / "mlp_base")
    other = {"trainer.max_epochs": 1}
    run_training(
        Experiment("Digits", "mlp_base", base_directory=runs, overrides=other), RunOptions(hardware=Hardware("cpu"))
    )
    experiments = [Experiment("Digits", name, base_directory=runs) for name in ("mlp_k2_add", "mlp_base")]
    with pytest.raises(ParityError, match="base models of other weights"):
        run_comparison(experiments, accelerator="cpu")


def test_a_coder_given_as_a_partial_can_be_compared(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is what a report shows; a partial has no name."""
    experiment = Experiment("Digits", "mlp_k2_add", base_directory=trained)
    code = experiment.config["code"]
    partial = {**code, "encoder": functools.partial(code["encoder"]), "decoder": functools.partial(code["decoder"])}
    monkeypatch.setattr(experiment, "config", frozen({**experiment.config, "code": partial}))
    results = run_comparison([experiment], accelerator="cpu")
    assert results["codes"][0]["about"] == "LinearEncoder, LinearDecoder; trained"


def test_a_k_that_a_split_has_too_few_queries_for_is_refused_before_any_work(
    trained: Path, evaluate: Command, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to choose NeRCC's smoothing for k = 400 first, for ever."""
    monkeypatch.setattr(Experiment, "load_trained_model", None)
    assert evaluate(
        "--dataset", "Digits", "--base_directory", str(trained), "--compare", "mlp_base", "--baselines",
        "--k", "2", "400",
    ) == 1  # fmt: skip
    error = capsys.readouterr().err
    assert "k = 400 is too many: the 'test' split of Digits has 360 queries" in error
    assert error.count("\n") == 1


def test_a_k_beyond_what_a_code_can_have_is_refused_before_any_work(
    trained: Path, evaluate: Command, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Experiment, "load_trained_model", None)
    where = ("--dataset", "Digits", "--base_directory", str(trained))
    assert evaluate(*where, "--compare", "mlp_base", "--baselines", "--k", "101") == 1
    assert "k = 101 is too many: a coding group has at most 100 queries." in capsys.readouterr().err


@pytest.mark.parametrize("mistyped", ["mlp_k2_ad", "experiments/Digits/original/mlp_k2_ad", "mlp_k2_ad*s"])
def test_a_mistyped_run_gets_the_nearest_name_only(
    trained: Path, evaluate: Command, capsys: pytest.CaptureFixture, mistyped: str
) -> None:
    assert evaluate("--dataset", "Digits", "--base_directory", str(trained), "--compare", mistyped) == 1
    error = capsys.readouterr().err
    assert "did you mean 'mlp_k2_add'?" in error
    assert "mlp_k4" not in error
