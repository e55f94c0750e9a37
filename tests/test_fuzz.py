"""Odd and hostile input: a run or a sentence, never a traceback, and nothing left by what was refused."""

import argparse
import importlib
import io
import logging
import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from parity.analyses.command_line import get_parser
from parity.analyses.command_line import main as study_main
from parity.analyses.study import kind_named
from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.command_line import parsed, run_command
from parity.errors import ParityError
from parity.experiments import imports
from parity.models import MLP
from parity.options import OPTIONS, number, whole
from parity.training import train_model
from tests.conftest import _script

LONG, ODD = "x" * 256, "\u00e4 %j/..\\ $HOME"
MARKED, BROKEN = "[/a][bold]", "a\nb\x1b[31m\t\x7f"
BIG = "9" * 24
NAMES = ["mlp_base", "mlp_k2_add", "mlp_k*", "none", "", "*", "[", "../x", ODD, LONG, MARKED, BROKEN]
# The first six lie in the folder that every command is run in.
PATHS = ["fifo", "folder", "text", "link", "text/x", "folder/x", "", ".", "none.ckpt", "~/none.pt", "~nosuchuser/x",
         "/dev/null", "/proc/self/mem", "a/b.pt", "a/" * 2100, ODD, LONG, MARKED, BROKEN, "a.safetensors"]  # fmt: skip
WHOLE = ["0", "1", "2", "-1", BIG, "9" * 5000, "1.5", "nan", "", "x", "0x1", "\u00b2", "\u0663", " 1", "1_0", "[1]"]
NUMBERS = [*WHOLE, "1e-3", "inf", "-inf", "1e999", "1,5"]
SETS = [
    "trainer.max_epochs=1", "trainer.max_epochs=0", "trainer.max_epochs=x", "trainer.precision=64", "code.k=3",
    "code.k=-1", "code=1", "data.batch_size=0", "data.num_validation=99999", "optimizer.lr=nan", "none.none=1", "a",
    "=", "=1", "..=3", "trainer.accumulate_grad_batches=1e9", f"{LONG}=1", f"trainer.max_epochs={BIG}",
    f"trainer.max_epochs={'9' * 5000}", "optimizer.lr=1e999", "optimizer.lr=[0.1]", "optimizer.lr=-1", "optimizer.lr=",
    f"data.batch_size={BIG}", f"data.num_validation={BIG}", "data.num_validation=-1", "data.steps_per_epoch=0",
    f"data.steps_per_epoch={BIG}", f"code.k={BIG}", "code.r=2", "code.r=0", "trainer.max_epochs=\u00b2",
    "trainer.max_epochs=1\n", "trainer.max_epochs=(((1", "trainer.gradient_clip_val=inf",
    "trainer.gradient_clip_val=nan", "trainer.precision=[/a]", "data.batch_size=True", "model.network=1",
    "data.num_validation=1e999", f"trainer.max_epochs={'(' * 3000}", "trainer.max_epochs=\0",
]  # fmt: skip
WORDS = ["", "x", ODD, LONG, MARKED, BROKEN, "-x", "a b", "a/b", "~", "~nosuchuser", ".", "..", "*", "\u00e4" * 128]

NAMING = {
    "--dataset": ["Digits", "digits", "MNISTT", "", "../Digits", LONG, MARKED, BROKEN, "*", "D?gits"],
    "--collection": ["original", "none", "", LONG, MARKED, "*"],
    "--seed": WHOLE,
    "--run_name": WORDS,
    "--set": SETS,
    "--experiments_path": PATHS,
    "--base_directory": PATHS,
    "--debug": None,
    "--unknown": None,
}
TRAINING = {
    **NAMING,
    "--base_weights": PATHS, "--resume_from": PATHS, "--accelerator": ["cpu", "tpu", "gpu", "", "x", MARKED],
    "--devices": ["1", "auto", "0", "-1", "x", "0,1", "", BIG, "\u00b2", "1e3", "[0]", "0,0", ",", "1,", "9" * 5000],
    "--num_nodes": ["1", "0", "-1", "x", BIG],
    "--checkpoint_every": WHOLE, "--refresh_rate": WHOLE, "--save_every_minutes": NUMBERS, "--grace": NUMBERS,
    "--wandb_project": WORDS, "--wandb_id": WORDS, "--wandb_name": WORDS,
    "--amp": None, "--test_every_epoch": None, "--track_grad_norm": None, "--sync_batchnorm": None, "--fast": None,
    "--no_train_base": None, "--force-no-resume": None, "--no-csv_logger": None, "--tensorboard_logger": None,
    "--wandb_checkpoint": None, "--list": None, "--print_config": None,
}  # fmt: skip
EVALUATION = {
    **NAMING,
    "--reload": ["best", "last", "epoch_1", "epoch_x", "", "../x", LONG, MARKED], "--ema": None, "--weights": PATHS,
    "--split": ["test", "val", "train", ""], "--batch_size": WHOLE, "--accelerator": ["cpu", "tpu", "x"],
    "--json": PATHS, "--compare": NAMES, "--report": ["", *PATHS], "--baselines": None,
    "--k": WHOLE, "--unavailable": NUMBERS, "--paired": None, "--wrong": NUMBERS, "--false_alarms": NUMBERS,
    "--backup": NAMES, "--default_class": WHOLE, "--wandb_logger": None, "--wandb_project": WORDS,
}  # fmt: skip
SUBMISSION = {
    **TRAINING,
    "--gpus": WHOLE, "--nodes": WHOLE, "--tasks_per_node": WHOLE, "--cpus_per_task": WHOLE, "--mem_gb": NUMBERS,
    "--timeout": NUMBERS, "--timeout_min": WHOLE, "--signal_delay_s": WHOLE, "--job_name": WORDS, "--partition": WORDS,
    "--account": WORDS,
}  # fmt: skip
STUDIES = {
    "--task": ["two_moons", "two_moon", "Digits", "DigitBoxes", "", LONG, MARKED, BROKEN], "--rule": ["bp", "pc", "x"],
    "--widths": WHOLE, "--lr": NUMBERS, "--state_lr": NUMBERS, "--optimizer": ["sgd", "x", ""], "--momentum": NUMBERS,
    "--activation": ["relu", MARKED], "--hidden_layers": WHOLE, "--steps": WHOLE, "--seeds": WHOLE, "--epochs": WHOLE,
    "--batch_size": WHOLE, "--steps_per_epoch": WHOLE, "--artifacts": PATHS, "--id": WORDS, "--jobs": WHOLE,
    "--array": WHOLE, "--timeout_min": WHOLE, "--mem_gb": NUMBERS, "--job_name": WORDS, "--partition": WORDS,
    "--parity": None, "--constant_layer_size": None, "--paper": None, "--submit": None, "--debug": None,
}  # fmt: skip
SERVING = {
    **NAMING,
    "--reload": ["best", "last", "epoch_x", "../x", LONG, MARKED], "--ema": None, "--host": WORDS, "--port": WHOLE,
    "--engine": ["threads", "processes", "ray", "", MARKED], "--address": WORDS, "--workers": WHOLE,
    "--max_batch_size": WHOLE, "--batch_wait": NUMBERS, "--patience": NUMBERS, "--group_timeout": NUMBERS,
    "--hedge_delay": NUMBERS, "--hedge_budget": NUMBERS, "--deadline": NUMBERS, "--most_waiting": WHOLE,
    "--default_class": WHOLE,
}  # fmt: skip
EXPORT = {
    **NAMING,
    "--reload": ["best", "last", "epoch_x", "../x", LONG, MARKED], "--ema": None, "--weights": PATHS,
    "--output": PATHS, "--name": WORDS, "--provenance": WORDS, "--licence": ["a=b", "=", "=b", "a=", *WORDS],
    "--onnx": None, "--no-onnx": None, "--accelerator": ["cpu", "tpu", "x"],
}  # fmt: skip
SIMULATION = {
    "--workers": WHOLE, "--k": WHOLE, "--r": WHOLE, "--load": ["0.5", *NUMBERS], "--fault": ["slow", "tenant", "x", ""],
    "--faulty": NUMBERS, "--seed": WHOLE, "--seeds": ["1", "2", "0", "-1", "x"], "--policies": ["coded", "", MARKED],
    "--jobs": ["1", "0", "-1", BIG], "--save": PATHS, "--service": NUMBERS, "--sigma": NUMBERS, "--trace": PATHS,
    "--every": NUMBERS, "--factor": NUMBERS, "--patience": NUMBERS, "--group_timeout": NUMBERS,
    "--hedge_delay": NUMBERS, "--hedge_budget": NUMBERS, "--deadline": NUMBERS, "--most_waiting": WHOLE,
}  # fmt: skip
LOCALISATION = {
    **NAMING,
    "--save_path": PATHS, "--reload": ["best", "last", "epoch_x", "../x", LONG, MARKED], "--smooth": WHOLE,
    "--analysis_config": ["2_3x3", "2_code", "0_3x3", "2_x", f"{BIG}_2x2", "", LONG, MARKED],
    "--explainer_name": ["Ours", "GradCAM", "x", "", MARKED], "--batch_size": WHOLE, "--through_base_model": None,
}  # fmt: skip
STUDENTS = {
    **NAMING,
    "--epochs": WHOLE,
    "--budget": NUMBERS,
    "--base_weights": PATHS,
    "--accelerator": ["cpu", "tpu", "x"],
}
MODULES = {
    "load": "parity.serving.load", "simulate": "parity.serving.simulate",
    "localisation": "parity.analyses.localisation", "students": "parity.analyses.students",
}  # fmt: skip
NAMED = ["--dataset=Digits", "--accelerator=cpu"]
# What is trained or submitted writes nothing here, and there is nothing trained that could be served or exported.
COMMANDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "train": (TRAINING, [*NAMED, "--fast_dev_run"]),
    "evaluate": (EVALUATION, NAMED),
    "run_with_submitit": (SUBMISSION, [*NAMED, "--gpus=0", "--dry_run"]),
    "serve": (SERVING, NAMED[:1]),
    "export": (EXPORT, NAMED),
    "simulate": (SIMULATION, ["--queries=30"]),
    "localisation": (LOCALISATION, NAMED[:1]),
    "students": (STUDENTS, NAMED),
    "training_stability": (STUDIES, ["--dry_run"]),
    "error_propagation": (STUDIES, ["--dry_run"]),
}
QUIET = 120  # seconds in which a command prints, logs and writes nothing: it hangs


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a command and up to four odd options beside those that name an experiment."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    options, fixed = COMMANDS[command]
    line = [command, *fixed]
    if options is not STUDIES and options is not SIMULATION:
        line.append(f"--experiment_name={draw(st.sampled_from(NAMES))}")
    for option in draw(st.lists(st.sampled_from(sorted(options)), max_size=4, unique=True)):
        values = options[option]
        if values is None:
            line.append(option)
        elif draw(st.booleans()) and (value := draw(st.sampled_from(values)))[:1] not in ("", "-"):
            line += [option, value]
        else:
            line.append(f"{option}={draw(st.sampled_from(values))}")
    return line


def _run(line: list[str]) -> int:
    """Run a command line in this process; return its status."""
    name, *arguments = line
    if name in COMMANDS and COMMANDS[name][0] is STUDIES:
        parser, main = get_parser(kind_named(name)), study_main
    elif name in MODULES:
        parser, main = _parser(name), importlib.import_module(MODULES[name]).main
    else:
        script = _script(name)
        parser, main = script.get_parser(), script.main
    try:
        return run_command(main, parsed(parser, arguments))
    except SystemExit as end:  # of argparse
        return int(end.code or 0)
    except ParityError:
        assert "--debug" in arguments, "without --debug there is no traceback"
        return 1


def _lay_out(folder: Path) -> None:
    """Put what is not what an option expects into an empty folder."""
    (folder / "folder").mkdir(parents=True)
    (folder / "text").write_text("text")
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")


@contextmanager
def _ended_when_quiet(folder: Path, *streams: io.StringIO) -> Iterator[None]:
    """Fail where for a while no text comes into the streams and no file grows: long work is no hang, silence is."""
    last: object = None

    def check(*_: object) -> None:
        nonlocal last
        signs = [*(stream.tell() for stream in streams), *sorted(_sizes(folder))]
        if signs == last:
            pytest.fail(f"nothing came for {QUIET} seconds")
        last = signs
        signal.alarm(QUIET)

    handler = signal.signal(signal.SIGALRM, check)
    signal.alarm(QUIET)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield path and size of every file that lies in a folder now."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            yield str(path), path.lstat().st_size


def check_command_line(line: list[str], folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command line; what is refused leaves nothing, and is refused in a sentence of ours."""
    with monkeypatch.context() as patched:
        _lay_out(folder)
        patched.chdir(folder)
        patched.setenv("HOME", str(folder))
        patched.setenv("WANDB_MODE", "offline")
        output, errors = io.StringIO(), io.StringIO()
        patched.setattr(sys, "stdout", output)
        patched.setattr(sys, "stderr", errors)
        patched.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(output)])
        if line[0] == "evaluate":  # of a base model that is trained
            line = [line[0], f"--base_directory={shutil.copytree(runs, folder.parent / 'runs')}", *line[1:]]
        before = set(folder.parent.rglob("*"))
        with _ended_when_quiet(folder.parent, output, errors):
            status = _run(line)
        assert status in (0, 1, 2), line
        assert "Traceback" not in errors.getvalue(), line
        assert "--debug shows" not in errors.getvalue(), f"nobody foresaw this: {errors.getvalue()} {line}"
        if status or line[0] not in ("evaluate", "simulate"):
            left = sorted(set(folder.parent.rglob("*")) - before)
            assert not left, f"{line} left {left[:3]}"


@pytest.fixture
def _root_logger_as_it_was() -> Any:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def _paths_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_folders", [])
    monkeypatch.setattr(sys, "path", list(sys.path))


def _fuzz(examples: int) -> Any:
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, suppress_health_check=health, deadline=None)


@pytest.mark.usefixtures("_root_logger_as_it_was", "_paths_as_they_were")
@given(line=command_lines())
@_fuzz(50)
def test_command_lines_end_in_a_run_or_a_sentence(
    line: list[str],
    trained_digits_base: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_command_line(line, tmp_path_factory.mktemp("fuzz") / "here", trained_digits_base, monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("_root_logger_as_it_was", "_paths_as_they_were")
@given(line=command_lines())
@_fuzz(500)
def test_many_command_lines_end_in_a_run_or_a_sentence(
    line: list[str],
    trained_digits_base: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_command_line(line, tmp_path_factory.mktemp("fuzz") / "here", trained_digits_base, monkeypatch)


def _parser(name: str) -> argparse.ArgumentParser:
    if name in MODULES:
        return importlib.import_module(MODULES[name]).get_parser()
    return get_parser(kind_named(name)) if COMMANDS[name][0] is STUDIES else _script(name).get_parser()


@pytest.mark.parametrize("name", [*COMMANDS, "load"])
def test_every_number_has_bounds_and_none_beyond_them_comes_to_the_work(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = _parser(name)
    options = {action.dest: action for action in parser._actions if action.type in (int, float)}
    assert options
    for dest, action in options.items():
        field = OPTIONS[dest]
        assert field.kinds == (action.type,)
        beyond = ["-1", BIG, f"-{BIG}"] if action.type is int else ["-0.1", "nan", "-inf"]
        if action.type is float and math.isfinite(field.high):
            beyond += ["inf", "1e999"]
        for text in beyond:
            args = parsed(parser, [f"{action.option_strings[0]}={text}"])
            assert run_command(lambda args: pytest.fail(str(args)), args) == 1
            error = capsys.readouterr().err
            assert error.startswith(f"error: --{dest} takes {field}, not ")
            assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["\u00b2", "\u0661", "1_0", " 1", "1 ", "", "0x10", "1.0", "1" * 5000, "nan", "--1"])
def test_a_whole_number_is_digits(text: str) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        whole(text)
    for name in ("train", "simulate"):
        with pytest.raises(SystemExit):
            parsed(_parser(name), [f"--seed={text}"])


def test_numbers_are_read_as_they_are_written() -> None:
    assert [whole(text) for text in ("0", "+7", "-12", "007")] == [0, 7, -12, 7]
    written = {"1": 1, "1.": 1, ".5": 0.5, "-2.5e-3": -0.0025, "1E3": 1000, "inf": math.inf}
    assert {text: number(text) for text in written} == written
    for text in ("-Infinity", "\u0661", "1_0", " 1", "", ".", "e3", "0x10", "1,5", "1e", "--1"):
        with pytest.raises(ValueError, match="no number"):
            number(text)


QUERY, CLASSES = (1, 4, 4), 3
SHAPES = [(6, *QUERY), (6, 16), (6, 4, 4, 1), (6, 1, 5, 5), (6,), (), (0, *QUERY), (1, *QUERY), (3, 2, *QUERY),
          (2, 3, *QUERY), (3, 2, 16)]  # fmt: skip
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.bool,
         torch.complex64]  # fmt: skip
CONTAINERS = {
    "tensor": lambda values: values,
    "array": lambda values: values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy(),
    "list": lambda values: values.tolist(),
    "tensors": lambda values: list(values) if values.ndim else values,
    "sparse": lambda values: values.to_sparse() if values.ndim else values,
    "none": lambda values: None,
    "dictionary": lambda values: {"values": values},
    "objects": lambda values: np.array([None] * 6, dtype=object),
    "words": lambda values: ["a"] * 6,
}
TARGETS = {
    "classes": torch.tensor([0, 1, 2, 0, 1, 2]),
    "from 1": torch.tensor([1, 2, 3, 1, 2, 3]),
    "negative": torch.tensor([0, 1, -1, 0, 1, 2]),
    "ignored": torch.tensor([0, 1, -100, 0, 1, 2]),
    "nan": torch.tensor([[0.0, 1.0, torch.nan]] * 6),
    "numbers": torch.rand(6, CLASSES),
    "one-hot": nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 1, 2])),
    "too few": torch.tensor([0, 1]),
    "none": torch.empty(0, dtype=torch.long),
}
WRONG = {"from 1", "negative", "ignored", "nan", "one-hot", "too few", "none"}
MIXED = st.sampled_from([torch.int64, torch.int8, torch.uint8, torch.int32, torch.float32, torch.float64, torch.bool])
BATCHES = {
    "list": lambda batch: [batch, batch],
    "tuple": lambda batch: (batch, batch),
    "iterator": lambda batch: iter([batch, batch]),
    "loader": lambda batch: DataLoader([batch, batch], batch_size=None),
    "batch": lambda batch: batch,
    "dictionary": lambda batch: {"batch": batch},
}


@given(
    coded=st.booleans(), shape=st.sampled_from(SHAPES), dtype=st.sampled_from(TYPES), nan=st.sampled_from([0, 0, 0, 1]),
    container=st.sampled_from(sorted(CONTAINERS)), of_targets=st.sampled_from(["tensor", "array", "list", "words"]),
    kind=st.sampled_from(sorted(TARGETS)), target_dtype=st.none() | MIXED, batches=st.sampled_from(sorted(BATCHES)),
    validation=st.booleans(),
)  # fmt: skip
@example(
    coded=False, shape=(6, *QUERY), dtype=torch.float32, nan=0, container="tensor", of_targets="tensor",
    kind="classes", target_dtype=None, batches="list", validation=True,
)  # fmt: skip
@example(
    coded=True, shape=(3, 2, *QUERY), dtype=torch.float64, nan=0, container="array", of_targets="array",
    kind="classes", target_dtype=torch.uint8, batches="loader", validation=True,
)  # fmt: skip
@_fuzz(300)
def test_data_of_any_kind_trains_or_is_refused(
    coded: bool, shape: tuple[int, ...], dtype: torch.dtype, nan: int, container: str, of_targets: str, kind: str,
    target_dtype: torch.dtype | None, batches: str, validation: bool,
) -> None:  # fmt: skip
    queries = (torch.rand(shape) * 3).to(dtype)
    if nan and queries.numel() and queries.is_floating_point():
        queries.flatten()[-1] = torch.nan
    targets: Tensor = TARGETS[kind] if target_dtype is None else TARGETS[kind].to(target_dtype)
    if coded and len(targets) % 2 == 0:
        targets = targets.unflatten(0, (len(targets) // 2, 2))
    with warnings.catch_warnings(action="ignore"):
        batch = CONTAINERS[container](queries), CONTAINERS[of_targets](targets)
        data = BATCHES[batches](batch)
        base = [MLP(QUERY, (CLASSES,), hidden=(4,)) for _ in range(2)]
        model: nn.Module = base[0]
        if coded:
            model = CodedModel(base[0], LinearEncoder(2, 1, QUERY), base[1:], LinearDecoder(2, 1, (CLASSES,)))
        options: dict[str, Any] = {"steps_per_epoch": 2}
        if validation:
            options["val_data"] = [batch]
        try:
            train_model(model, data, 1, accelerator="cpu", progress=False, **options)
        except ParityError:
            return
    integers = targets.dtype not in (torch.bool, torch.float32, torch.float64)
    assert not (integers and kind in WRONG), "wrong classes were trained on"
    assert kind != "one-hot", "classes were regressed to"
    assert kind not in ("too few", "none", "nan") or (kind == "nan" and integers)
    assert dtype not in (torch.uint8, torch.bool, torch.complex64) or container == "list"
    assert not (queries.is_floating_point() and queries.isnan().any()), "NaN was trained on"
    assert all(value.isfinite().all() for value in model.parameters())
