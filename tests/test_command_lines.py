"""The command lines as a user meets them: what they print, what they leave, and what bad input gets."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parity.experiments import Experiment
from parity.models.weights import fingerprint

ROOT = Path(__file__).parents[1]
Command = Callable[..., int]


def test_train_then_evaluate(train: Command, evaluate: Command, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--set", "trainer.max_epochs=2")
    assert train("--dataset", "Digits", "--experiment_name", "mlp_base") == 0
    assert train("--dataset", "Digits", "--experiment_name", "mlp_k[23]_add", *short, "--test_every_epoch") == 0
    folder = Path("experiments/Digits/original/mlp_k2_add")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "config.json", "metrics.csv", "test_metrics.json",
    ]  # fmt: skip
    assert (folder.parent / "mlp_k3_add" / "test_metrics.json").exists()
    assert all("test/overall_top1" in row for row in Experiment(folder).load_metrics())

    capsys.readouterr()
    assert evaluate("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--json", "out.json") == 0
    printed = capsys.readouterr().out
    results = json.loads(Path("out.json").read_text())
    assert f"{results['base']['in_words']}" in printed
    assert "A_o(f)" in printed
    assert set(results["code"]["A_o"]) == {"0.0", "0.01", "0.05", "0.1"}
    # The same number as training's own test pass: two ways to count the same.
    trained = Experiment(folder).load_test_metrics()["test/overall_top1"]
    assert results["code"]["A_d"]["1"]["overall_top1"] == pytest.approx(trained)

    weights = folder.parent / "mlp_base" / "checkpoints" / "best.ckpt"
    assert evaluate("--dataset", "Digits", "--experiment_name", "mlp_base", "--weights", str(weights)) == 0
    assert f"{results['base']['in_words']}" in capsys.readouterr().out


def test_dry_run_writes_nothing(train: Command) -> None:
    assert train("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--fast_dev_run") == 0
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "Digit", "--experiment_name", "mlp_base"], "did you mean 'Digits'?"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_ad"], "did you mean 'mlp_k2_add'?"),
        (["--dataset", "Digits"], "name a --dataset and an --experiment_name"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--set", "trainer.epochs=3"], "trainer.max_epochs"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--set", "nonsense"], "KEY.PATH=VALUE"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "data.batch_size=0"], "at least 1"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "data.num_validation=1436"], "too few"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_concat", "--set", "code.k=3"], "k = 2 or 4"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k4_linear_r2", "--set", "code.r=5"], "r = 2 or 3"),
        (
            ["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "base=mlp_bas"],
            "did you mean 'mlp_base'?",
        ),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_weights", "none.pt"], "no file none.pt"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--resume_from", "none.ckpt"], "no file none.ckpt"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--accelerator", "warp"], "'warp' is not supported"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--wandb_logger"], "--wandb_project"),
        (
            ["--dataset", "Digits", "--experiment_name", "mlp_base", "--seed", "-1"],
            "--seed takes a whole number from 0",
        ),
        *(
            (["--dataset", "Digits", "--experiment_name", "mlp_base", *option], f"{option[0]} would be ignored without")
            for option in (["--wandb_checkpoint"], ["--wandb_id", "x"], ["--wandb_name", "x"], ["--wandb_project", "x"])
        ),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--run_name", ".."], "name of one folder"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--run_name", "n" * 256], "at most 255 bytes"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--base_directory", "n" * 256], "at most 255 bytes"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--resume_from", "a\0b"], "control character"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--grace", "nan"], "--grace takes a number from 0"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--devices", "two"], "not 'two'"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--base_weights", "x"], "trains a base model"),
        (
            ["--dataset", "Digits", "--experiment_name", "mlp_base", "--checkpoint_every", "0"],
            "--checkpoint_every takes a whole number from 1",
        ),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "base=mlp_k3_add"], "is not a base model"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "code.k=0"], "at least 1 query"),
        (["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "optimizer.lr=-1"], "learning rate"),
        (
            ["--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "optimizer.weight_decay=-1"],
            "cannot be made",
        ),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--set", "trainer.max_epochs=0"], "above 0"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--set", "trainer.gradient_clip_val=x"], "above 0"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--set", "trainer.precision=64-true"], "32-true"),
        (["--dataset", "Digits", "--experiment_name", "mlp_base", "--experiments_path", "nowhere"], "is not a folder"),
        (
            ["--dataset", "Digits", "--experiment_name", "mlp_base", "--amp", "--set", "trainer.precision=16-mixed"],
            "--amp is --set trainer.precision=bf16-mixed, and --set gives it another value",
        ),
        (
            ["--dataset", "Digits", "--experiment_name", "mlp_base", "--amp", "--sweep", "trainer.precision=32-true"],
            "and --sweep gives that too",
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    train: Command, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(Path().iterdir())


def test_missing_data_says_where_it_was_looked_for(
    train: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torchvision

    from parity import settings

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "empty")
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", no_network)
    assert train("--dataset", "FashionMNIST", "--experiment_name", "mlp_base") == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "empty" / "FashionMNIST" / "raw") in error
    assert "DATA_ROOT" in error
    assert not list(tmp_path.glob("empty/*"))


def test_evaluate_names_what_does_not_fit(
    train: Command, evaluate: Command, digits_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--dataset", "Digits", "--base_directory", str(digits_base))
    short = ("--set", "trainer.max_epochs=1", "data.num_validation=100")
    assert train(*where, "--experiment_name", "mlp_k2_add", "--run_name", "named", *short) == 0
    named = (*where, "--run_name", "named")
    assert evaluate(*named, "--experiment_name", "mlp_k3_add") == 1
    assert "is a run of mlp_k2_add" in capsys.readouterr().err
    assert evaluate(*named, "--experiment_name", "mlp_k2_add", "--reload", "../../named/checkpoints/last") == 1
    assert "has no checkpoint" in capsys.readouterr().err
    assert evaluate(*named, "--experiment_name", "mlp_k2_add", "--json", str(digits_base)) == 1
    assert "is a folder" in capsys.readouterr().err
    val = (*named, "--experiment_name", "mlp_k2_add", "--split", "val", "--set", "data.batch_size=8")
    assert evaluate(*val) == 0
    assert "/ 100 correct" in capsys.readouterr().out  # the run's own validation split


def test_results_are_shown_before_the_run_keeps_them(
    evaluate: Command, digits_base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError("gone")

    monkeypatch.setattr("parity.storage.files.write_json", fail)
    evaluate("--dataset", "Digits", "--base_directory", str(digits_base), "--experiment_name", "mlp_base")
    assert "base model" in capsys.readouterr().out


def test_own_checkpoint_as_base_weights(train: Command, digits_base: Path) -> None:
    weights = digits_base / "Digits" / "original" / "mlp_base" / "checkpoints" / "best.ckpt"
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_weights", str(weights))
    assert train(*arguments, "--set", "trainer.max_epochs=1") == 0
    assert not Path("experiments/Digits/original/mlp_base").exists()


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("option", ["--base_weights", "--resume_from"])
def test_a_pickle_that_runs_code_is_refused(
    train: Command, option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, write in (("torch.pt", lambda path: torch.save({"state_dict": Malicious()}, path)),
                        ("plain.pkl", lambda path: path.write_bytes(pickle.dumps(Malicious())))):  # fmt: skip
        file = tmp_path / name
        write(file)
        assert train("--dataset", "Digits", "--experiment_name", "mlp_k2_add", option, str(file)) == 1
        assert name in capsys.readouterr().err
        assert not Path("ran").exists()
        assert not Path("experiments").exists()


def test_list_and_print_config(train: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--list", "--dataset", "Digits") == 0
    assert "mlp_k2_add" in capsys.readouterr().out
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "optimizer.lr=0.5")
    assert train(*arguments, "--print_config") == 0
    assert json.loads(capsys.readouterr().out)["mlp_k2_add"]["optimizer"]["lr"] == 0.5
    assert not list(Path().iterdir())


def test_mixed_precision_and_tensorboard(train: Command, digits_base: Path) -> None:
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(digits_base))
    options = ("--amp", "--tensorboard_logger", "--no-csv_logger", "--run_name", "amp")
    assert train(*arguments, *options, "--set", "trainer.max_epochs=1") == 0
    folder = digits_base / "Digits" / "original" / "amp"
    assert list((folder / "tensorboard").glob("events*"))
    assert not (folder / "metrics.csv").exists()
    assert json.loads((folder / "config.json").read_text())["config"]["trainer"]["precision"] == "bf16-mixed"


def test_wandb_offline(train: Command, digits_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(digits_base))
    options = ("--wandb_logger", "--wandb_project", "test", "--run_name", "wandb", "--set", "trainer.max_epochs=1")
    assert train(*arguments, *options) == 0
    assert list((digits_base / "Digits" / "original" / "wandb").glob("wandb/offline-run-*/run-*.wandb"))


def test_a_killed_run_goes_on_to_the_same_end(digits_base: Path) -> None:
    """The real thing: train.py in a process of its own, killed without warning, and the same command again."""
    command = [sys.executable, str(ROOT / "train.py"), "--dataset", "Digits", "--experiment_name", "mlp_k2_add",
               "--base_directory", str(digits_base), "--accelerator", "cpu",
               "--set", "trainer.max_epochs=60"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = [*command, "--run_name", "killed"]
    table = digits_base / "Digits" / "original" / "killed" / "metrics.csv"
    with subprocess.Popen(killed, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (table.exists() and len(table.read_text().splitlines()) > 5) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (table.parent / "test_metrics.json").exists(), "the run was over before the kill"
    again = subprocess.run(killed, env=environment, capture_output=True, text=True, check=True)
    assert "resuming after epoch" in again.stdout
    subprocess.run([*command, "--run_name", "whole"], env=environment, stdout=subprocess.DEVNULL, check=True)
    runs = [Experiment(table.parent.with_name(name)) for name in ("killed", "whole")]
    assert fingerprint(runs[0].load_trained_model("last")) == fingerprint(runs[1].load_trained_model("last"))
    assert runs[0].load_metrics() == runs[1].load_metrics()
    assert runs[0].load_test_metrics() == runs[1].load_test_metrics()


LEFTOVERS = "SLURM_PROCID=2 SLURM_NTASKS=4 SLURM_JOB_ID=7 LOCAL_RANK=1 RANK=3 WORLD_SIZE=4 MASTER_ADDR=nowhere"


def run(*arguments: str, environment: str = "") -> "subprocess.CompletedProcess[str]":
    """train.py in a process of its own, with its output in pipes."""
    options = ["--dataset", "Digits", "--experiment_name", "mlp_base", "--accelerator", "cpu"]
    variables = dict(pair.split("=") for pair in environment.split())
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *options, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_a_single_process_trains_and_prints_whatever_ranks_lie_in_the_environment() -> None:
    done = run(
        "--set", "trainer.max_epochs=5",
        environment=f"{LEFTOVERS} SLURM_STEP_ID=0 TORCHELASTIC_RUN_ID=x FORCE_COLOR=1 PYTHONIOENCODING=ascii",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"epoch (\d)/5", done.stdout)[:1] == ["1"]
    assert "epoch 5/5" in done.stdout
    assert "best epoch" in done.stdout
    assert "\x1b" not in done.stdout
    assert len(Experiment("experiments/Digits/original/mlp_base").load_metrics()) == 5


def test_few_files_may_be_open_and_nobody_is_at_home() -> None:
    command = f"ulimit -n 48; unset HOME; exec {sys.executable} {ROOT / 'train.py'} --dataset Digits"
    done = subprocess.run(
        ["sh", "-c", f"{command} --experiment_name mlp_base --accelerator cpu --set trainer.max_epochs=1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 1/1" in done.stdout


def test_two_devices_in_a_batch_script_without_srun_train() -> None:
    done = run("--devices", "2", "--set", "trainer.max_epochs=1", environment=f"{LEFTOVERS} SLURM_NTASKS_PER_NODE=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("epoch 1/1") == 1


def test_in_a_call_with_several_names_one_that_is_refused_stops_no_other(
    train: Command, digits_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--dataset", "Digits", "--base_directory", str(digits_base), "--set", "trainer.max_epochs=1", "code.k=3")
    assert train(*where, "--experiment_name", "mlp_k2_add") == 0
    capsys.readouterr()
    names = ("mlp_k2_concat", "mlp_k2_add", "mlp_k3_add")
    # Of the other two, one cannot do this k, and one has begun with another learning rate.
    assert train(*where, "optimizer.lr=0.01", "--experiment_name", *names) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: 2 of 3 runs were refused. mlp_k2_concat-code.k=3: ")
    assert "k = 2 or 4" in error
    assert "mlp_k2_add-code.k=3: the run in" in error
    assert error.count("\n") == 1
    assert (digits_base / "Digits" / "original" / "mlp_k3_add" / "test_metrics.json").exists()


def test_an_error_of_a_users_own_object_stops_no_other_run_either(
    tmp_path: Path, train: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own_of_many" / "Digits" / "own_of_many"
    folder.mkdir(parents=True)
    text = OWN_EXPERIMENTS.replace("dict(pair=", "dict(whole=network(MLP), pair2=").replace("breaks=", "breaks2=")
    (folder / "experiment_parameters.py").write_text(text.replace(", loss=", ", loss2="))
    where = ("--dataset", "Digits", "--base_directory", str(tmp_path), "--experiments_path", str(folder.parents[1]))
    assert train(*where, "--experiment_name", "breaks2", "whole") == 1
    assert "1 of 2 runs were refused. breaks2: " in capsys.readouterr().err
    assert (tmp_path / "Digits" / "own_of_many" / "whole" / "test_metrics.json").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--experiment_name", "mlp_base", "--baselines"), "--baselines goes with --compare mlp_base, and would be"),
        (("--experiment_name", "mlp_base", "--k", "400"), "--k goes with --compare mlp_base"),
        (
            ("--experiment_name", "mlp_k2_add", "--default_class", "0"),
            "--default_class goes with --compare mlp_k2_add",
        ),
        (
            ("--experiment_name", "mlp_k2_add", "--false_alarms", "0.5"),
            "--false_alarms would be ignored without --wrong: add that, or leave it out.",
        ),
        (("--compare", "mlp_k2_add", "--false_alarms", "0.5"), "--false_alarms goes with --experiment_name"),
        (("--compare", "mlp_k2_add", "--format", "svg"), "--format would be ignored without --report"),
        (("--compare", "mlp_k2_add", "--wandb_project", "p"), "--wandb_project would be ignored without"),
        (
            ("--experiment_name", "mlp_base", "--weights", "x.pt", "--reload", "last"),
            "--reload is of a run's checkpoint, and would be ignored beside --weights: leave one out.",
        ),
        (("--compare", "mlp_base", "--weights", "x.pt"), "--weights goes with --experiment_name"),
        (("--compare", "mlp_base", "--batch_size", "4"), "--batch_size goes with --experiment_name"),
        (("--compare", "mlp_base", "--k", "4"), "--k is of the codes without training: add --baselines"),
    ],
)
def test_an_option_that_evaluate_would_ignore_is_refused(
    options: tuple[str, ...], sentence: str, evaluate: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--dataset", "Digits", *options) == 1
    assert sentence in capsys.readouterr().err


OWN_EXPERIMENTS = """
import torch
from torch import nn

from parity.experiments.config import update_config
from parity.experiments.Digits.original.experiment_parameters import CONFIGS as DIGITS
from parity.models import MLP


class Pair(MLP):
    def forward(self, queries):
        return super().forward(queries), queries


class Breaks(MLP):
    def forward(self, queries):
        raise KeyError("my own error\\nin two lines")


def network(kind):
    return update_config(DIGITS["mlp_base"], dict(model=dict(network=kind), trainer=dict(max_epochs=1)))


CONFIGS = dict(pair=network(Pair), breaks=network(Breaks), loss=update_config(network(MLP), dict(loss=nn.NLLLoss)))
"""


@pytest.mark.parametrize("name", ["pair", "breaks", "loss"])
def test_a_users_own_object_that_fails_in_the_first_step_ends_in_one_sentence(
    train: Command, name: str, capsys: pytest.CaptureFixture[str]
) -> None:

    folder = Path("own/Digits/failing")
    folder.mkdir(parents=True)
    (folder / "experiment_parameters.py").write_text(OWN_EXPERIMENTS)
    arguments = ("--experiments_path", "own", "--dataset", "Digits", "--experiment_name", name)
    assert train(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(Exception):  # noqa: B017, PT011  # whichever it is, with its traceback
        train(*arguments, "--debug")


def test_compiling_without_a_compiler_ends_in_one_sentence(
    train: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "CXX"):
        monkeypatch.setenv(name, "/nowhere")
    short = ("--set", "trainer.max_epochs=1")
    assert train("--dataset", "Digits", "--experiment_name", "mlp_base", "--compile", *short) == 1
    error = capsys.readouterr().err
    assert "compiler" in error
    assert error.count("\n") == 1


def test_a_checkpoint_is_resumed_from_by_its_bare_name_and_from_the_home_folder(
    train: Command, digits_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(digits_base))
    where = ("--dataset", "Digits", "--experiment_name", "mlp_base", "--base_directory=~")
    shutil.copy(digits_base / "Digits" / "original" / "mlp_base" / "checkpoints" / "last.ckpt", "x.ckpt")
    shutil.copy("x.ckpt", digits_base / "x.ckpt")
    for run_name, checkpoint in (("bare", "x.ckpt"), ("home", "~/x.ckpt")):
        longer = ("--resume_from", checkpoint, "--run_name", run_name, "--set", "trainer.max_epochs=11")
        assert train(*where, *longer) == 0
        (row,) = Experiment(digits_base / "Digits" / "original" / run_name).load_metrics()
        assert row["epoch"] == 11
    assert sorted(path.name for path in Path().iterdir()) == ["x.ckpt"]


def test_the_command_that_evaluate_advises_trains_what_is_missing(
    evaluate: Command, digits_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_base", "--base_directory", str(digits_base))
    assert evaluate(*arguments, "--seed", "5", "--run_name", "mine", "--set", "optimizer.lr=0.1") == 1
    assert "--seed 5 --run_name mine --set optimizer.lr=0.1" in capsys.readouterr().err
