"""Seeds and sweeps: runs of one experiment, named by what differs, and one row for all seeds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parity.command_line import parse_overrides
from parity.commands import evaluate as command
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.experiments.variants import run_by_name, sweep_points, variants

Command = Callable[..., int]


@pytest.fixture(scope="module")
def runs(trained_digits_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(trained_digits_base, tmp_path_factory.mktemp("seeds") / "runs")


def options(runs: Path, *more: str) -> tuple[str, ...]:
    return ("--dataset", "Digits", "--base_directory", str(runs), *more)


def test_three_seeds_have_the_mean_and_spread_of_three_runs(
    runs: Path, train: Command, evaluate: Command, tmp_path: Path
) -> None:
    seeds = ("--seeds", "0", "1", "2")
    epochs = ("--set", "trainer.max_epochs=2")
    assert train(*options(runs, "--experiment_name", "mlp_k2_add", *seeds, *epochs)) == 0
    file = tmp_path / "all.json"
    compared = options(runs, "--compare", "mlp_k2_add", *seeds, *epochs, "--json", str(file))
    assert evaluate(*compared, "--report", str(tmp_path / "report"), "--format", "svg", "pdf", "latex", "parquet") == 0
    (code,) = json.loads(file.read_text())["codes"]

    alone = []
    for seed in range(3):
        one = tmp_path / f"{seed}.json"
        evaluate(*options(runs, "--compare", f"mlp_k2_add-seed={seed}", "--json", str(one)))
        (found,) = json.loads(one.read_text())["codes"]
        assert found["name"] == f"mlp_k2_add-seed={seed}"
        alone.append(found["A_d"]["1"]["value"])
    assert code["name"] == "mlp_k2_add"
    assert code["A_d"]["1"]["value"] == pytest.approx(np.mean(alone))
    assert code["A_d"]["1"]["sd"] == pytest.approx(np.std(alone, ddof=1))

    file.unlink()
    evaluate(*options(runs, "--experiment_name", "mlp_k2_add", *seeds, "--json", str(file)))
    assert json.loads(file.read_text())["codes"][0]["A_d"] == code["A_d"]

    report = tmp_path / "report"
    assert {"results.tex", "results.parquet", "results.csv"} <= {path.name for path in report.iterdir()}
    assert {path.suffix for path in (report / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    assert r"\toprule" in (report / "results.tex").read_text()


def test_a_sweep_names_its_runs_by_what_differs(runs: Path) -> None:
    points = sweep_points(["code.k=2,3", "optimizer.lr=0.1"])
    made = variants("Digits", "mlp_k2_add", base_directory=runs, points=points, seeds=[None, 7])
    assert [experiment.run_name for experiment in made] == [
        "mlp_k2_add-code.k=2-optimizer.lr=0.1", "mlp_k2_add-code.k=2-optimizer.lr=0.1-seed=7",
        "mlp_k2_add-code.k=3-optimizer.lr=0.1", "mlp_k2_add-code.k=3-optimizer.lr=0.1-seed=7",
    ]  # fmt: skip
    assert [experiment.config["code"]["k"] for experiment in made] == [2, 2, 3, 3]
    with pytest.raises(ParityError, match=r"code\.k=2,3,4"):
        sweep_points(["code.k"])


def test_a_key_or_a_value_is_given_once(runs: Path) -> None:
    for texts in (["code.k=2,3", "code.k=4"], ["code.k=2,2"], ["code.k=2, 2"]):
        with pytest.raises(ParityError, match="each key once and different values, unlike"):
            sweep_points(texts)
    assert sweep_points(["optimizer.lr=0.1 , 0.2"]) == [{"optimizer.lr": "0.1"}, {"optimizer.lr": "0.2"}]
    with pytest.raises(ParityError, match=r"--set has 'code.k' twice, 2 and 3"):
        parse_overrides(["code.k=2", "optimizer.lr=1", "code.k=3"])
    with pytest.raises(ParityError, match=r"'code.k' is in --sweep and in --set"):
        variants(
            "Digits", "mlp_k2_add", base_directory=runs, points=sweep_points(["code.k=2,3"]), overrides={"code.k": "4"}
        )


def test_the_one_run_of_a_sweep_of_one_value_has_the_name_that_is_given() -> None:
    (made,) = variants("Digits", "mlp_k2_add", run_name="mine", points=sweep_points(["optimizer.lr=0.1"]))
    assert (made.run_name, made.overrides) == ("mine", {"optimizer.lr": "0.1"})


def test_values_of_a_sweep_that_are_written_differently_differ() -> None:
    with pytest.raises(ParityError, match=r"optimizer\.lr=0\.1 and optimizer\.lr=1e-1 are the same: leave one out"):
        variants("Digits", "mlp_k2_add", points=sweep_points(["optimizer.lr=0.1,0.2,1e-1"]), seeds=[None, 7])


def test_another_k_is_part_of_a_runs_name() -> None:
    experiment = Experiment("Digits", "mlp_k2_add", overrides={"code.k": "3"})
    assert experiment.run_name == "mlp_k2_add-code.k=3"
    assert experiment.save_dir.name == experiment.run_name
    assert "--run_name" not in experiment.command()
    for unchanged in ({"trainer.max_epochs": 3}, {"code.k": "2"}):
        assert Experiment("Digits", "mlp_k2_add", overrides=unchanged).run_name == "mlp_k2_add"


def test_a_run_is_found_by_its_folder_and_by_its_name(runs: Path) -> None:
    folder = runs / "Digits" / "original" / "mlp_base"
    for name in (str(folder), "mlp_base"):
        found = run_by_name("Digits", name, runs)
        assert found is not None
        assert found.experiment_name == "mlp_base"
    assert run_by_name("Digits", "nothing", runs) is None


@pytest.mark.parametrize("name", ["[x]", "a*b", "what?"])
def test_a_run_is_found_by_a_name_that_could_be_a_glob(runs: Path, name: str) -> None:
    folder = runs / "Digits" / "original"
    shutil.copytree(folder / "mlp_base", folder / name)
    parser = command.get_parser()
    for named in (name, str(folder / name)):
        args = parser.parse_args(["--dataset", "Digits", "--base_directory", str(runs), "--compare", named])
        (found,) = command._found(args, named)
        assert found.run_name == name
    (found,) = command._found(args, "mlp_bas[e]")
    assert found.run_name == "mlp_base"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--dataset", "MNIST"), "is a run of Digits: name that with --dataset"),
        (("--collection", "other"), "is a run of original: name that with --collection"),
        (("--seed", "0"), "--seed would be ignored for"),
        (("--seeds", "1", "2"), "--seeds would be ignored for"),
        (("--sweep", "code.k=2"), "--sweep would be ignored for"),
        (("--run_name", "mine"), "--run_name would be ignored for"),
        (("--set", "loss.x=1"), "the config has no 'loss.x' to override"),
    ],
)
def test_what_does_not_apply_to_a_run_that_is_compared_is_refused(
    runs: Path, evaluate: Command, options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # It was ignored: the run was compared all the same, as one of another data set.
    folder = shutil.copytree(runs / "Digits" / "original" / "mlp_base", runs.parent / "a b", dirs_exist_ok=True)
    dataset = () if "--dataset" in options else ("--dataset", "Digits")
    assert evaluate(*dataset, *options, "--baselines", "--compare", str(folder)) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
