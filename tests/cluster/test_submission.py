"""What run_with_submitit.py submits, and what its jobs make of signals; a SLURM of a few lines of shell stands in.

tests/cluster has the real one.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from parity.cluster import slurm_job
from parity.cluster.slurm_job import REQUEUE_ME, TrainingJob
from parity.cluster.submission import Job, Resources, Submission, _options_of_base
from parity.command_line import parsed, run_command
from parity.commands import train
from parity.errors import ParityError, Stopped
from parity.experiments import Experiment
from tests.conftest import ROOT, _script

Command = Callable[..., int]
CPU = ("--gpus", "0")
DIGITS = ("--dataset", "Digits", "--experiment_name")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return _script("run_with_submitit")


@pytest.fixture
def submit(script: ModuleType) -> Command:
    """run_with_submitit.py in this process."""
    return lambda *args: run_command(script.main, parsed(script.get_parser(), args))


def program(name: str, text: str) -> None:
    path = Path("bin") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An sbatch that takes everything, as job 7, 8, ..."""
    program("srun", "true")
    program("sbatch", 'echo x >>jobs; cp "$1" "script_$((6 + $(wc -l <jobs)))"; '
                      'echo "Submitted batch job $((6 + $(wc -l <jobs)))"')  # fmt: skip
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}:{os.environ['PATH']}")


def parameters(text: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([^=\n]+)=?(.*)$", text, re.MULTILINE))


def test_every_option_of_training_is_there(script: ModuleType) -> None:
    ours, theirs = script.get_parser(), _script("train").get_parser()
    assert {action.dest for action in theirs._actions} < {action.dest for action in ours._actions}


def test_help_answers_without_torch() -> None:
    code = "import sys, run_with_submitit as r; r.get_parser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_dry_run_shows_the_script_of_a_gpu_job(submit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--gpus", "4", "--nodes", "2", "--timeout", "1.5", "--partition", "a b", "--mem_gb", "1.5", "--cpus_per_task",
        "6", "--job_name", "name", "--account", "acc", "--qos", "high", "--constraint", "h100",
        "--signal_delay_s", "120",
    )  # fmt: skip
    assert submit(*DIGITS, "mlp_k2_add", *options, "--dry_run") == 0
    text = capsys.readouterr().out
    logs = f"{Path().absolute()}/experiments/Digits/original/mlp_k2_add/slurm_logs"
    assert parameters(text) == {
        "account": "acc", "constraint": "h100", "cpus-per-task": "6", "gpus-per-node": "4", "job-name": "name",
        "mem": "1536M", "nodes": "2", "ntasks-per-node": "4", "open-mode": "append", "partition": "'a b'",
        "qos": "high", "requeue": "", "signal": "USR2@120", "time": "90", "output": f"{logs}/%j_batch.out",
    }  # fmt: skip
    assert f"srun --unbuffered --output {logs}/%j/%j_%t_log.out" in text
    assert "--cpus-per-task=6" in text
    assert "OMP_NUM_THREADS" not in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert not list(Path().iterdir())


def test_a_percent_sign_in_a_name_is_not_one_of_slurms_patterns(
    submit: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--run_name", "lr 50%x%%", "--base_directory", "100%", *CPU, "--dry_run")
    assert submit(*DIGITS, "mlp_k2_add", *options) == 0
    text = capsys.readouterr().out
    folder = f"{Path().absolute()}/100%/Digits/original/lr 50%x%%"
    logs = f"{folder.replace('%', '%%')}/slurm_logs"
    assert parameters(text)["output"] == f"'{logs}/%j_batch.out'"
    assert f"srun --unbuffered --output '{logs}/%j/%j_%t_log.out' " in text
    assert f"-m parity.cluster.slurm_job '{folder}/slurm_logs/%j'" in text  # a path, not a pattern
    assert f"mkdir -p '{folder}/slurm_logs'" in text

    assert submit(*DIGITS, "mlp_k[23]_add", "--base_directory", "100%", *CPU, "--dry_run") == 0
    array = capsys.readouterr().out.split("#!/bin/bash")[2]
    logs = f"{Path().absolute()}/100%%/Digits/slurm_logs"
    assert parameters(array)["output"] == f"{logs}/%A_%a_batch.out"
    assert f"srun --unbuffered --output {logs}/%A_%a/%A_%a_%t_log.out " in array
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["%j", "a%t", "50%a", "%A%"])
def test_a_name_that_submitit_would_change_is_refused(
    submit: Command, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(*DIGITS, "mlp_base", "--run_name", name, *CPU, "--dry_run") == 1
    error = capsys.readouterr().err
    assert "would replace '%" in error
    assert error.count("\n") == 1
    assert not list(Path().iterdir())


NAMED = ["--job_name", "--run_name", "--base_directory", "--partition", "--account", "--qos", "--constraint"]
PAYLOADS = [
    "a\n#SBATCH --uid=0", "a\ntouch pwned", "a\r\ntouch pwned", "\ntouch pwned\n", "a\x0btouch pwned", "a\x0c",
    "a\x85b", "a\u2028touch pwned", "a\x1b[31m", "a\x7f", "%j", "a%x%u", "$(touch pwned)", "`touch pwned`",
    "; touch pwned #", "' ; touch pwned ; '", "a\\", "\"a b\" && touch pwned",
]  # fmt: skip


@pytest.mark.parametrize("option", NAMED)
def test_no_name_becomes_a_part_of_the_script(
    submit: Command, sbatch: None, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program("scontrol", "true")
    assert submit(*DIGITS, "mlp_base", option, "a", *CPU, "--dry_run") == 0
    harmless = capsys.readouterr().out.splitlines()
    assert len(PAYLOADS) == 18
    for payload in PAYLOADS:
        status = submit(*DIGITS, "mlp_base", f"{option}={payload}", *CPU, "--dry_run")
        printed, error = capsys.readouterr()
        if status:
            assert (printed, error[:7], error.count("\n")) == ("", "error: ", 1)
            continue
        assert not set(payload) & set("\n\r\x0b\x0c\x85\u2028\x1b\x7f")
        assert len(printed.splitlines()) == len(harmless)
        assert parameters(printed).keys() | {option[2:]} == parameters("\n".join(harmless)).keys() | {option[2:]}
        for name in ("output", "error"):  # what SLURM replaces in a file's name
            pattern = parameters(printed).get(name, "").replace("%%", "").replace("%j_batch.out", "")
            assert "%" not in pattern
        subprocess.run(["bash"], input=printed, text=True, check=False, capture_output=True, timeout=60)
        assert not list(Path().rglob("pwned"))


def test_dry_run_of_several_is_an_array_after_their_base_model(
    submit: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    several = (*DIGITS, "mlp_k[23]_add", "mlp_k4_add")
    assert submit(*several, *CPU, "--tasks_per_node", "3", "--cpus_per_task", "2", "--dry_run") == 0
    first, array = capsys.readouterr().out.split("#!/bin/bash")[1:]
    assert parameters(first)["job-name"] == "mlp_base"
    assert "array" not in parameters(first)
    assert parameters(array)["array"] == "0-2%3"
    assert parameters(array)["dependency"].startswith("afterok:")
    assert parameters(array)["ntasks-per-node"] == "3"
    assert "gpus-per-node" not in parameters(array)
    assert "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}" in array

    test = Path("experiments/Digits/original/mlp_base/test_metrics.json")
    test.parent.mkdir(parents=True)
    test.touch()  # the base model is trained
    assert submit(*several, *CPU, "--dry_run") == 0
    (array,) = capsys.readouterr().out.split("#!/bin/bash")[1:]
    assert parameters(array)["array"] == "0-2%3"
    assert "dependency" not in parameters(array)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mlp_k2_ad"], "did you mean 'mlp_k2_add'?"),
        (["nothing_*"], "matches 'nothing_*'"),
        (["mlp_base", "--set", "trainer.epochs=3"], "trainer.max_epochs"),
        (["mlp_k2_add", "--set", "base=mlp_bas"], "did you mean 'mlp_base'?"),
        (["mlp_k2_concat", "--set", "code.k=3"], "k = 2 or 4"),
        (["mlp_k2_add", "mlp_k3_add", "--run_name", "x"], "for one experiment"),
        (["mlp_base", "--gpus", "-1"], "--gpus takes a whole number from 0"),
        (["mlp_base", "--run_name", "100%j"], "would replace '%"),
        (["mlp_base", "--nodes", "0"], "--nodes takes a whole number from 1"),
        (["mlp_base", "--timeout", "nan"], "--timeout takes a number from 0"),
        (["mlp_base", "--timeout_min", "1"], "--signal_delay_s 90 is not shorter"),
        (["mlp_base", "--gpus", "2", "--tasks_per_node", "3"], "each rank has one GPU"),
        (["mlp_base", "--gpus", "2", "--devices", "3"], "follow from --gpus"),
        (["mlp_base", "--gpus", "0", "--accelerator", "gpu"], "does not fit --gpus 0"),
        (["mlp_base", "--wandb_logger"], "--wandb_project"),
        (["mlp_k2_add", "--base_weights", "none.pt"], "no file none.pt"),
        (["mlp_base", "--resume_from", "none.ckpt"], "no file none.ckpt"),
    ],
)
def test_bad_input_gets_one_sentence_and_submits_nothing(
    submit: Command, sbatch: None, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(*DIGITS, *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["bin"]


def test_a_run_that_was_begun_with_other_settings_is_not_submitted(
    submit: Command, digits_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The job would have waited for its turn, and been refused at once.
    options = (*DIGITS, "mlp_base", *CPU, "--base_directory", str(digits_base), "--dry_run")
    epochs = ("--set", "trainer.max_epochs=10")
    assert submit(*options, *epochs, "optimizer.lr=0.7") == 1
    error = capsys.readouterr().err
    assert "started with other settings: config.optimizer.lr: 0.001 -> 0.7" in error
    assert error.count("\n") == 1
    assert submit(*options, *epochs) == 0
    assert submit(*options, *epochs, "optimizer.lr=0.7", "--force-no-resume") == 0
    assert submit(*options, *epochs, "optimizer.lr=0.7", "--run_name", "other") == 0


def test_without_slurm(submit: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(Path().absolute()))
    assert submit(*DIGITS, "mlp_base") == 1
    assert "there is no sbatch on this machine" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_refused_job_leaves_nothing(submit: Command, sbatch: None, capsys: pytest.CaptureFixture[str]) -> None:
    program("sbatch", "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1")
    for names in (["mlp_base"], ["mlp_k2_add", "mlp_k3_add"]):
        assert submit(*DIGITS, *names) == 1
        error = capsys.readouterr().err
        assert error == "error: SLURM refused the job: Batch job submission failed: Invalid account.\n"
        assert [path.name for path in Path().iterdir()] == ["bin"]


def test_what_is_submitted_is_the_training_command(
    submit: Command, sbatch: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from submitit.core.utils import DelayedSubmission

    options = (*CPU, "--tasks_per_node", "2", "--nodes", "3", "--seed", "5", "--set", "trainer.max_epochs=9")
    assert submit(*DIGITS, "mlp_k2_add", "mlp_k3_add", *options, "--base_directory", "runs") == 0
    assert re.findall(r"job (\S+) trains Digits (\S+)", capsys.readouterr().out) == [
        ("7", "mlp_base"), ("8_0", "mlp_k2_add"), ("8_1", "mlp_k3_add"),
    ]  # fmt: skip
    assert parameters(Path("script_8").read_text())["dependency"] == "afterok:7"
    runs = Path("runs/Digits/original")

    base = DelayedSubmission.load(runs / "mlp_base" / "slurm_logs" / "7" / "7_submitted.pkl").function
    assert isinstance(base, TrainingJob)
    assert base.args.experiment_name == ["mlp_base"]
    assert (base.args.seed, base.args.overrides) == (None, [])  # as a parity experiment would train it
    run = runs / "mlp_k3_add-seed=5"
    job = DelayedSubmission.load(run / "slurm_logs" / "8_1" / "8_1_submitted.pkl").function  # through a link
    assert job.main is train.main
    assert job.save_dir == run.absolute()
    assert job.args.experiment_name == ["mlp_k3_add"]
    assert (job.args.devices, job.args.num_nodes, job.args.distributed) == ("2", 3, True)
    assert (job.args.accelerator, job.args.seed, job.args.overrides) == ("cpu", 5, ["trainer.max_epochs=9"])


def test_every_seed_is_a_job_of_an_array_with_a_folder_of_its_own(
    submit: Command, sbatch: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from submitit.core.utils import DelayedSubmission

    options = (*CPU, "--seeds", "0", "1", "2", "--sweep", "optimizer.lr=0.1", "--base_directory", "runs")
    assert submit(*DIGITS, "mlp_k2_add", *options) == 0
    assert [job for job, _ in re.findall(r"job (\S+) trains Digits (\S+)", capsys.readouterr().out)] == [
        "7", "8_0", "8_1", "8_2",
    ]  # fmt: skip
    assert "array" not in parameters(Path("script_7").read_text())  # the base model
    array = parameters(Path("script_8").read_text())
    assert (array["array"], array["dependency"]) == ("0-2%3", "afterok:7")
    for seed in range(3):
        run = Path(f"runs/Digits/original/mlp_k2_add-optimizer.lr=0.1-seed={seed}")
        job = DelayedSubmission.load(run / "slurm_logs" / f"8_{seed}" / f"8_{seed}_submitted.pkl").function
        assert job.save_dir == run.absolute()
        assert (job.args.seed, job.args.seeds, job.args.sweep) == (seed, None, [])
        (experiment,) = train.make_experiments(job.args)  # as the job makes it
        assert experiment.save_dir.absolute() == run.absolute()
        assert (experiment.seed, experiment.overrides) == (seed, {"optimizer.lr": "0.1"})


def job_of(main: Callable[[argparse.Namespace], object], folder: Path, anew: bool = False) -> TrainingJob:
    options = dict(debug=False, force_no_resume=anew, accelerator="cpu", devices="2", num_nodes=1)
    return TrainingJob(main, argparse.Namespace(**options), folder)


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("SUBMITIT_EXECUTOR", "slurm"), ("SLURM_JOB_ID", "7"), ("SUBMITIT_FOLDER", f"{tmp_path}/%j")):
        monkeypatch.setenv(name, value)
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(slurm_job, "_WAIT_FOR_PICKLE", 0.0)
    monkeypatch.setattr(slurm_job.signal, "signal", lambda *_: None)


@pytest.mark.parametrize(
    ("rank", "raised", "status"),
    [
        ("0", None, 0),
        ("0", Stopped(10), REQUEUE_ME),
        ("0", Stopped(12), REQUEUE_ME),
        ("1", Stopped(12), 0),
        ("0", Stopped(15), 143),
        ("0", ParityError("no"), 1),
    ],
)
def test_the_exit_status_says_what_ended_a_job(
    in_job: None, rank: str, raised: BaseException | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(args: argparse.Namespace) -> None:
        if raised is not None:
            raise raised

    for name, value in (("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", rank)):
        monkeypatch.setenv(name, value)
    assert job_of(main, Path())() == status


def test_a_requeued_job_does_not_start_anew_twice(in_job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    anew: list[bool] = []
    job = job_of(lambda args: anew.append(args.force_no_resume), Path(), anew=True)
    config, pickle = Path("config.json"), Path("7/7_submitted.pkl")
    pickle.parent.mkdir()
    for path, written in ((config, 1), (pickle, 2)):
        path.touch()
        os.utime(path, (written, written))
    job()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    job()  # it was requeued before it had begun: what is there is still another job's
    os.utime(config, (3, 3))
    job()
    assert anew == [True, True, False]


def test_a_job_without_what_it_was_submitted_with(in_job: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert slurm_job.run("logs/%j") == 1
    assert "7_submitted.pkl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (REQUEUE_ME, "JobState=RUNNING Reason=None", True),
        (140, "JobState=RUNNING Reason=None", True),
        (138, "JobState=RUNNING Reason=None", True),
        (REQUEUE_ME, "JobState=COMPLETING Reason=TimeLimit", True),
        (REQUEUE_ME, "JobState=COMPLETING Reason=None", False),  # cancelled while it was saving
        (143, "JobState=COMPLETING Reason=None", False),  # cancelled
        (143, "JobState=RUNNING Reason=None PreemptTime=None", False),
        (143, "JobState=RUNNING Reason=None PreemptTime=2026-11-21T16:51:20", True),
        (143, "JobState=COMPLETING Reason=TimeLimit", True),
        (137, "JobState=RUNNING Reason=None", False),  # out of memory
        (1, "JobState=RUNNING Reason=None", False),
        (0, "JobState=RUNNING Reason=None", False),
    ],
)
def test_the_batch_script_requeues_what_was_not_to_end(
    sbatch: None, status: int, state: str, requeued: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("mlp_base", "Digits mlp_base", Path("runs with spaces/Digits/original/mlp_base"), argparse.Namespace())
    text = Submission.of([job], Resources(gpus=0), "Digits", Path("runs with spaces/Digits")).script(ROOT)
    program("srun", f"exit {status}")
    program("scontrol", f'echo "$@" >>asked; [ $1 = requeue ] || echo "JobId=7 {state} Dependency=(null)"')
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert subprocess.run(["bash", "-c", text], check=False, capture_output=True).returncode == status
    asked = Path("asked").read_text() if Path("asked").exists() else ""
    assert ("requeue 7_3\n" in asked) == requeued


def test_the_logs_folder_is_for_its_owner_alone(submit: Command, sbatch: None) -> None:
    assert submit(*DIGITS, "mlp_base", *CPU) == 0
    logs = Path("experiments/Digits/original/mlp_base/slurm_logs")
    assert logs.stat().st_mode & 0o777 == 0o700
    assert [path.suffix for path in logs.rglob("*.pkl")] == [".pkl"]


@pytest.mark.parametrize("change", ["another's file", "another's folder", "a folder that others write into"])
def test_a_job_loads_no_pickle_that_another_may_have_written(
    tmp_path: Path, in_job: None, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    logs = tmp_path / "slurm_logs"
    (logs / "7").mkdir(parents=True)
    logs.chmod(0o755)
    pickled = logs / "7" / "7_submitted.pkl"
    pickled.write_bytes(b"cposix\nsystem\n(S'touch pwned'\ntR.")
    if change == "another's file":
        os.chown(pickled, 1234, -1)
    elif change == "another's folder":
        os.chown(logs / "7", 1234, -1)
    else:
        logs.chmod(0o777)
    assert slurm_job.run(str(logs / "%j")) == 1
    error = capsys.readouterr().err
    assert "may be another user's" in error
    assert error.count("\n") == 1
    assert not list(Path().rglob("pwned"))


def test_the_job_of_a_base_model_of_other_data_has_its_run_name() -> None:
    for overrides, name in (({"data.version": "0.02"}, "lenet_base-data.version=0.02"), ({}, None)):
        base = Experiment("SpeechCommands", "lenet_k2_add", overrides=overrides).base_experiment
        assert base is not None
        assert _options_of_base(base, argparse.Namespace(run_name="mine")).run_name == name
