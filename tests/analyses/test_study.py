import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parity.analyses import workers
from parity.analyses.command_line import get_parser, main, study_of
from parity.analyses.error_propagation import STUDY as ERRORS
from parity.analyses.grid import Trial
from parity.analyses.study import Study
from parity.analyses.training_stability import STUDY
from parity.analyses.trial import run_trial
from parity.command_line import run_command
from parity.errors import ParityError
from parity.storage.locks import NAME
from tests.conftest import ROOT

SMALL = (
    "--widths", "8", "16", "--lr", "0.01", "--seeds", "1", "--epochs", "1", "--steps_per_epoch", "3", "--jobs", "0",
)  # fmt: skip


def run(*options: str) -> int:
    return run_command(main, get_parser(STUDY).parse_args([*SMALL, *options]))


def study(*options: str) -> Study:
    return study_of(get_parser(STUDY).parse_args([*SMALL, *options]))


def test_a_study_leaves_a_file_for_each_trial_a_table_and_figures(caplog: pytest.LogCaptureFixture) -> None:
    options = ("--widths", "8", "--rule", "bp", "pc", "--state_lr", "0.01", "0.1", "--parity")
    assert run(*options) == 0
    whole = study(*options)
    assert len(whole.trials) == 2 * 2 * (1 + 2)
    assert {path.stem for path in whole.folder.glob("trials/*.json")} == {trial.id for trial in whole.trials}
    assert all("epoch 1/1" in path.read_text() for path in whole.folder.glob("logs/*.log"))
    assert len(list(whole.folder.glob("logs/*.log"))) == len(whole.trials)
    table = pd.read_parquet(whole.folder / "table.parquet")
    assert len(table) == len(whole.trials)
    assert {"width", "state_lr", "accuracy", "diverged", "loss", "end_energy", "end_variance"} <= set(table.columns)
    figures = {path.stem for path in whole.folder.glob("*.png")}
    assert figures == {"accuracy_against_state_lr", "width_by_lr", "divergence", "optimizers"}
    assert (whole.folder / "findings.md").read_text().strip() in caplog.text
    assert not [path for path in whole.folder.iterdir() if path.name.startswith(("tmp", ".", "run.lock"))]


def test_a_finished_trial_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--rule", "bp", "--optimizer", "sgd")
    run(*options)
    whole = study(*options)
    whole.trials[1].result_file(whole.folder).unlink()
    ran: list[Trial] = []

    def counted(trial: Trial, folder: Path) -> dict[str, Any]:
        ran.append(trial)
        return run_trial(trial, folder)

    monkeypatch.setattr(workers, "run_trial", counted)
    run(*options)
    assert ran == [whole.trials[1]]


@pytest.mark.parametrize("share", [(0, 1), (0, 2)])
def test_what_a_process_left_that_was_killed_after_its_last_trial_is_removed(share: tuple[int, int]) -> None:
    axes = dict(rule=("bp",), widths=(8,), lr=(0.01,), epochs=1, steps_per_epoch=2, optimizer=("sgd",))
    whole = Study(STUDY, axes)
    whole.run(jobs=0, share=(1, 2))
    locked = whole.folder if share[1] == 1 else whole.share_folder(*share)
    script = f"""if True:
        import os
        from pathlib import Path
        from parity.storage.files import written_whole
        from parity.storage.locks import RunLock
        with RunLock(Path({str(locked)!r})):
            with written_whole(Path({str(whole.folder)!r}) / "trials" / "a.json") as temporary:
                temporary.touch()
                with written_whole(Path({str(whole.folder)!r}) / "table.parquet") as table:
                    table.touch()
                    os.kill(os.getpid(), 9)
    """
    if share == (0, 1):
        whole.run(jobs=0, share=(0, 2))
        assert not whole.unfinished()
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == -9
    assert {path.name[:7] for path in whole.folder.rglob(".*")} == {".writer", ".table.", ".a.json"} - (
        {".table."} if share == (0, 1) else set()  # in the room
    )
    whole.run(jobs=0, share=share)
    whole.write()
    assert not [path for path in whole.folder.rglob("*") if path.name.startswith(".") or path.name == NAME]


def test_nothing_is_averaged_over_what_is_no_axis_of_a_figure() -> None:
    run("--rule", "bp", "pc", "--optimizer", "sgd", "--activation", "tanh", "relu", "--state_init", "forward", "normal")
    findings = next(Path("artifacts").glob("*/*/findings.md")).read_text()
    for by in ("bp, sgd, tanh", "bp, sgd, relu", "pc, sgd, tanh, forward", "pc, sgd, relu, normal"):
        assert f"| {by} | 8 |" in findings
    assert "| pc, sgd |" not in findings


def test_an_error_in_a_trial_ends_the_study_and_is_in_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--task", "DigitBoxes")
    assert run(*options) == 1
    assert "studies are of classification" in capsys.readouterr().err
    whole = study(*options)
    assert len(whole.unfinished()) == len(whole.trials)
    assert "DigitBoxes" in whole.trials[0].log_file(whole.folder).read_text()


def test_a_share_leaves_the_rest_to_others() -> None:
    whole = Study(STUDY, dict(rule=("bp",), widths=(8,), lr=(0.01,), epochs=1, steps_per_epoch=2, optimizer=("sgd",)))
    whole.run(jobs=0, share=(1, 2))
    assert whole.unfinished() == whole.trials[::2]


def test_an_id_is_one_grid_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--rule", "bp", "--id", "mine") == 0
    assert run("--rule", "pc", "--id", "mine") == 1
    assert "another grid (--rule)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--id", "../other"), "name of one folder"),
        (("--jobs", "-1"), "--jobs takes a whole number from 0"),
        (("--task", "NoSuchData"), "no data set 'NoSuchData'"),
        (("--task", "NoSuchData", "--dry_run", "--jobs", "1"), "no data set 'NoSuchData'"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*options) == 1
    assert message in capsys.readouterr().err
    assert not Path("artifacts").exists()


def test_error_propagation_is_a_study_of_predictive_coding() -> None:
    with pytest.raises(ParityError, match="--rule pc"):
        Study(ERRORS, dict(rule=("bp",)))


def test_error_propagation_is_drawn(tmp_path: Path) -> None:
    axes = dict(widths=(8,), optimizer=("sgd",), activation=("tanh",), epochs=1, steps_per_epoch=2, seeds=1, steps=2)
    whole = Study(ERRORS, axes)
    whole.run(jobs=0)
    findings = whole.write()
    assert {path.stem for path in whole.folder.glob("*.png")} == {"energy_over_steps", "energy_ratios"}
    assert findings.count("| forward |") == findings.count("| normal |") == 2 * len(ERRORS.axes["state_lr"])


def test_no_finished_trial_is_no_table() -> None:
    with pytest.raises(ParityError, match="no trial"):
        Study(STUDY, {}).table()


def test_a_damaged_result_is_named() -> None:
    run("--rule", "bp", "--optimizer", "sgd")
    whole = study("--rule", "bp", "--optimizer", "sgd")
    path = whole.trials[0].result_file(whole.folder)
    path.write_text(json.dumps({})[:1])
    with pytest.raises(ParityError, match=path.name):
        whole.table()


def test_the_batch_script_is_an_array_of_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry_run", "--array", "3", "--jobs", "2", "--partition", "tests") == 0
    script = capsys.readouterr().out
    for line in ("--array=0-2", "--cpus-per-task=2", "--partition=tests", "--signal="):
        assert line in script
    assert not Path("artifacts").exists()
