"""What W&B is told, read back from the files it leaves, and from a small server in its place."""

import gzip
import json
import logging
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from pytorch_lightning.utilities import rank_zero_only

from parity.errors import ParityError
from parity.experiments import Experiment
from parity.training.loggers.wandb_logger import WANDB_ID_FILE, WandbLogger
from parity.wandb_server import check_wandb_project

ROOT = Path(__file__).parents[2]
MONITOR = "val/reconstruction_top1"
Command = Callable[..., int]


@pytest.fixture(autouse=True)
def _own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B as after its installation: no key, nothing in the home folder, and no process left by another test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


# What W&B stored on disk.


@dataclass
class Stored:
    """The content of a .wandb file."""

    run_id: str = ""
    resume: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def epochs(self) -> list[int]:
        return [row["epoch"] for row in self.history]


def records(file: Path) -> Iterator[Any]:
    """Read a .wandb file: blocks of 32 KiB with parts of records, 7 bytes (CRC, length, kind) before each part."""
    from wandb.proto import wandb_internal_pb2

    content, position, record = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while position + 7 <= len(content):
        if (room := 32768 - position % 32768) < 7:
            position += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or a last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def values(items: Any) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def stored(file: Path) -> Stored:
    content = Stored()
    for record in records(file):
        match record.WhichOneof("record_type"):
            case "run":
                content.run_id, content.resume = record.run.run_id, record.run.resume
                content.config.update(values(record.run.config.update))
            case "history":
                content.history.append(values(record.history.item))
            case "summary":
                content.summary.update(values(record.summary.update))
            case "metric":
                content.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            case "exit":
                content.exit_code = record.exit.exit_code
            case "request" if record.request.HasField("log_artifact"):
                content.artifacts.append(record.request.log_artifact.artifact)
            case "artifact":
                content.artifacts.append(record.artifact)
    return content


def folders(run: Path) -> list[Stored]:
    """What W&B stored of a run, a folder for each time it was started."""
    wandb.teardown()  # it ends writing
    files = sorted(run.glob("wandb/*run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    return [stored(file) for file in files]


# A server in W&B's place.


class Server(ThreadingHTTPServer):
    """Answers what W&B asks to start or resume a run, and keeps histories and summaries."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.refuses: set[str] = set()

    def handle_error(self, *_: Any) -> None:
        """W&B drops connections."""

    def epochs(self, run_id: str) -> list[int]:
        history = self.runs[run_id]["history"]
        return [history[line]["epoch"] for line in sorted(history)]

    def answer(self, asked: str, about: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "project", "entity": {"id": "e", "name": "me"}}
        name = about.get("name")
        if asked == "Viewer":
            return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if asked == "RunResumeStatus":
            run, bucket = self.runs.get(str(name)), None
            if run is not None:
                history = [run["history"][line] for line in sorted(run["history"])]
                bucket = {
                    "id": name, "name": name, "displayName": name, "tags": [], "config": "{}", "wandbConfig": '{"t":1}',
                    "summaryMetrics": json.dumps(run["summary"]), "eventsTail": "[]", "eventsLineCount": 0,
                    "logLineCount": 0, "historyTail": json.dumps([json.dumps(row) for row in history[-1:]]),
                    "historyLineCount": len(history),
                }  # fmt: skip
            return {"model": {**project, "bucket": bucket}}
        if asked == "UpsertBucket":
            new = name not in self.runs
            self.runs.setdefault(str(name), {"history": {}, "summary": {}})
            bucket = {"id": name, "name": name, "displayName": name, "config": "{}", "sweepName": None}
            return {"upsertBucket": {"bucket": {**bucket, "project": project, "historyLineCount": 0}, "inserted": new}}
        if asked == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/{file}"} for file in about["files"]]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        return {}

    def keep(self, run_id: str, files: dict[str, Any]) -> None:
        run = self.runs.setdefault(run_id, {"history": {}, "summary": {}})
        for line, text in enumerate(files.get("wandb-history.jsonl", {}).get("content", [])):
            run["history"][files["wandb-history.jsonl"]["offset"] + line] = json.loads(text)
        for text in files.get("wandb-summary.json", {}).get("content", []):
            run["summary"] = json.loads(text)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = json.loads(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        answer: dict[str, Any] = {}
        if self.path.endswith("/graphql"):
            if content["operationName"] in self.server.refuses:
                self.send_error(403)
                return
            answer = {"data": self.server.answer(content["operationName"], content.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.server.keep(self.path.split("/")[-2], content.get("files") or {})
        self._reply(answer)

    def _reply(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield server
        wandb.teardown()
        server.shutdown()


# Runs, and their loggers alone.


def arguments(base: Path, name: str, epochs: int, *more: str) -> tuple[str, ...]:
    where = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(base))
    return *where, "--run_name", name, *more, "--set", f"trainer.max_epochs={epochs}"


def wandb_run(base: Path, name: str, epochs: int, *more: str) -> tuple[str, ...]:
    return arguments(base, name, epochs, "--wandb_logger", "--wandb_project", "tests", *more)


def row(epoch: int, value: float = 0.5) -> dict[str, float]:
    return {"epoch": epoch, "val/loss": 1 / epoch, MONITOR: value, "train/loss": 2 / epoch, "lr": 0.1}


def logger(folder: Path, done: int = 0, **more: Any) -> WandbLogger:
    history = [row(epoch) for epoch in range(1, done + 1)]
    return WandbLogger(folder, "tests", "run", monitor=MONITOR, **{"done": done, "history": history, **more})


def log_epoch(wandb_logger: WandbLogger, epoch: int, value: float = 0.5) -> None:
    """As training does: validation first, then training."""
    metrics = {name: number for name, number in row(epoch, value).items() if name != "epoch"}
    for part in ("val/", ("train/", "lr")):
        chosen = {name: number for name, number in metrics.items() if name.startswith(part)}
        wandb_logger.log_metrics(chosen, step=epoch)
        wandb_logger.save()


def test_a_run_as_it_is_stored(offline: None, train: Command, digits_base: Path) -> None:
    more = ("--tensorboard_logger", "--track_grad_norm", "--wandb_checkpoint", "--wandb_name", "shown")
    assert train(*wandb_run(digits_base, "stored", 3, *more)) == 0
    folder = digits_base / "Digits" / "original" / "stored"
    (content,) = folders(folder)
    experiment = Experiment(folder)

    assert content.run_id == (folder / WANDB_ID_FILE).read_text().strip()
    assert content.config["experiment_name"] == "mlp_k2_add"
    assert content.config["trainer"]["max_epochs"] == 3
    assert content.config["optimizer"] == {
        "object": "Adam",
        "lr": 1e-3,
        "weight_decay": 1e-5,
        "fused": True,
    }
    assert content.config["code"]["encoder"] == "LinearEncoder"
    version = content.config["version"]
    assert version["wandb"] == wandb.__version__
    if (ROOT / ".git").exists():
        assert len(version["git_commit"]) == 40
        assert isinstance(version["git_dirty"], bool)

    assert content.axes["*"] == "epoch"
    table = [
        {name: value for name, value in line.items() if not name.startswith("test/")}
        for line in experiment.load_metrics()
    ]
    assert {"lr", "train/grad_norm", "train/loss", MONITOR} <= table[0].keys()
    assert [{name: value for name, value in line.items() if name[0] != "_"} for line in content.history] == table

    best = max(table, key=lambda line: line[MONITOR])
    assert content.summary[f"best/{MONITOR}"] == best[MONITOR]
    assert content.summary["best_epoch"] == best["epoch"]
    assert {**content.summary, **experiment.load_test_metrics()} == content.summary

    (artifact,) = content.artifacts
    assert (artifact.type, [alias for alias in artifact.aliases if alias != "latest"]) == ("model", ["best"])
    (entry,) = artifact.manifest.contents
    assert Path(entry.local_path).samefile(folder / "checkpoints" / "best.ckpt")

    # Loggers change no number.
    assert train(*arguments(digits_base, "plain", 3)) == 0
    plain = Experiment(folder.with_name("plain")).load_metrics()
    assert [{**line, "train/grad_norm": 0} for line in plain] == [
        {**line, "train/grad_norm": 0} for line in experiment.load_metrics()
    ]


def test_base_model_and_parity_model_are_two_runs(offline: None, train: Command, tmp_path: Path) -> None:
    name, run_id = ("--wandb_name", "mine"), ("--wandb_id", "mine")
    command = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--wandb_logger", "--wandb_project", "tests")
    overrides = ("--set", "trainer.max_epochs=1", "data.num_validation=1400")
    assert train(*command, *name, *run_id, *overrides) == 0
    runs = Path("experiments/Digits/original")
    (base,), (parity,) = folders(runs / "mlp_base"), folders(runs / "mlp_k2_add")
    assert parity.run_id == "mine" != base.run_id
    assert base.config["experiment_name"] == "mlp_base"
    assert parity.epochs == [1]
    assert base.summary["best/val/top1"] == max(line["val/top1"] for line in base.history)
    assert "test/top1" in base.summary


def test_a_run_that_goes_on_keeps_its_id_and_is_whole(offline: None, train: Command, digits_base: Path) -> None:
    folder = digits_base / "Digits" / "original" / "goes_on"
    assert train(*wandb_run(digits_base, "goes_on", 2)) == 0
    assert train(*wandb_run(digits_base, "goes_on", 4, "--wandb_checkpoint")) == 0
    first, second = folders(folder)
    assert first.run_id == second.run_id
    assert (first.epochs, second.epochs) == ([1, 2], [1, 2, 3, 4])
    assert len(second.artifacts) == 1
    assert second.summary["best_epoch"] == json.loads((folder / "test_metrics.json").read_text())["epoch"]

    assert train(*wandb_run(digits_base, "goes_on", 5, "--wandb_id", "given")) == 0
    assert folders(folder)[-1].run_id == "given" == (folder / WANDB_ID_FILE).read_text().strip()
    assert train(*wandb_run(digits_base, "goes_on", 1, "--force-no-resume")) == 0
    assert folders(folder)[-1].run_id not in (first.run_id, "given")
    assert folders(folder)[-1].epochs == [1]


def test_uploading_offline_folders_in_turn_leaves_each_epoch_once(
    offline: None, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for done in (0, 2):  # the first start was killed amid epoch 4; the last checkpoint is of epoch 2
        part = logger(tmp_path, done)
        for epoch in range(done + 1, done + 4):
            log_epoch(part, epoch)
        part.finish({"test/loss": 1.0}, 1)
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "online")
    run_id = (tmp_path / WANDB_ID_FILE).read_text().strip()
    epochs = []
    for folder in sorted(tmp_path.glob("wandb/offline-run-*"), key=lambda folder: folder.stat().st_mtime_ns):
        subprocess.run([Path(sys.executable).with_name("wandb"), "sync", folder], check=True, capture_output=True)
        epochs.append(server.epochs(run_id))
    assert epochs == [[1, 2, 3], [1, 2, 3, 4, 5]]


def test_the_server_gets_each_epoch_once(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = logger(tmp_path)
    for epoch in (1, 2, 3):
        log_epoch(first, epoch, value=0.9 if epoch == 2 else 0.5)
    assert first.experiment is not None
    first.experiment.finish()  # epoch 3 has no checkpoint yet
    again = logger(tmp_path, done=2)
    for epoch in (3, 4):
        log_epoch(again, epoch)
    assert again.run_id == first.run_id
    again.finish({"test/loss": 1.0}, best_epoch=2)
    assert again.run_id is not None
    assert server.epochs(again.run_id) == [1, 2, 3, 4]
    summary = server.runs[again.run_id]["summary"]
    assert (summary[f"best/{MONITOR}"], summary["best_epoch"], summary["test/loss"]) == (0.9, 2, 1.0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_a_kill_took_is_logged_again(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    code = f"""
import os, pathlib, psutil
from parity.training.loggers.wandb_logger import WandbLogger
logger = WandbLogger(pathlib.Path({str(tmp_path)!r}), "tests", "run", monitor={MONITOR!r})
for epoch in (1, 2, 3):
    logger.log_metrics({{"train/loss": 2 / epoch}}, step=epoch)
for process in (*psutil.Process().children(), psutil.Process()):  # all that is in a job
    process.kill()
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    run_id = (tmp_path / WANDB_ID_FILE).read_text().strip()
    assert server.epochs(run_id) == []
    again = logger(tmp_path, done=3)
    log_epoch(again, 4)
    again.finish({}, best_epoch=1)
    assert server.epochs(run_id) == [1, 2, 3, 4]


def test_without_the_earlier_epochs_an_offline_folder_adds_to_the_run(offline: None, tmp_path: Path) -> None:
    part = logger(tmp_path, done=2, history=())
    log_epoch(part, 3)
    part.finish({}, best_epoch=3)
    whole = logger(tmp_path, done=2)
    log_epoch(whole, 3)
    whole.finish({}, best_epoch=3)
    added, replaced = folders(tmp_path)
    assert (added.resume, added.epochs) == (True, [3])
    assert (replaced.resume, replaced.epochs) == (False, [1, 2, 3])


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.message for record in caplog.records if record.levelno == logging.WARNING)


def test_without_a_key_it_is_offline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = logger(tmp_path)
    log_epoch(part, 1)
    part.finish({}, best_epoch=1)
    assert "there is no W&B key" in warnings(caplog)
    assert folders(tmp_path)[0].epochs == [1]


def test_without_a_network_it_is_offline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    part = logger(tmp_path)
    log_epoch(part, 1)
    part.finish({}, best_epoch=1)
    assert "W&B's server does not answer" in warnings(caplog)
    assert folders(tmp_path)[0].epochs == [1]


def test_where_the_server_refuses_the_run_it_is_offline(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuses = {"RunResumeStatus", "UpsertBucket"}
    part = logger(tmp_path, run_id="mine")
    log_epoch(part, 1)
    part.finish({}, best_epoch=1)
    assert "W&B does not start" in warnings(caplog)
    (content,) = [content for content in folders(tmp_path) if content.history]
    assert (content.run_id, content.epochs) == ("mine", [1])


def test_training_goes_on_where_wandb_cannot_start_at_all(
    offline: None, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(wandb, "init", fails)
    part = logger(tmp_path)
    for epoch in range(1, 9):
        log_epoch(part, epoch)
    part.finish({}, best_epoch=1)
    assert "no space left" in warnings(caplog)
    assert warnings(caplog).count("continues without W&B") <= 3


def test_where_wandbs_process_is_ended_it_starts_again(
    offline: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    psutil = pytest.importorskip("psutil")
    part = logger(tmp_path)
    log_epoch(part, 1)
    (process,) = [child for child in psutil.Process().children() if "wandb-core" in child.name()]
    process.terminate()
    process.wait(10)
    for epoch in (2, 3):
        log_epoch(part, epoch)
    part.finish({}, best_epoch=1)
    assert "W&B failed" in warnings(caplog)
    assert folders(tmp_path)[-1].epochs == [1, 2, 3]


def test_a_run_that_is_stopped_is_marked_as_failed(offline: None, tmp_path: Path) -> None:
    for status, exit_code in (("success", 0), ("failed", 1)):
        part = logger(tmp_path)
        log_epoch(part, 1)
        part.finalize(status)  # by Lightning, when training has ended
        part.finish({"test/loss": 1.0}, best_epoch=1)
        assert folders(tmp_path)[-1].exit_code == exit_code
        assert ("test/loss" in folders(tmp_path)[-1].summary) == (status == "success")


def test_only_rank_0_logs(offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    part = logger(tmp_path)
    log_epoch(part, 1)
    part.experiment.log({})  # type: ignore[union-attr]  # Lightning's stand-in on other ranks
    part.finish({}, best_epoch=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("project", "run_id"), [(None, None), ("", None), ("a/b", None), ("a" * 65, None), ("a", "b:c"), ("a", " b")]
)
def test_names_that_wandb_does_not_take(project: str | None, run_id: str | None) -> None:
    with pytest.raises(ParityError, match="--wandb_"):
        check_wandb_project(project, run_id)


def test_names_that_wandb_takes() -> None:
    assert check_wandb_project("coded inference", "abc-1") == "coded inference"


def test_a_damaged_id_file_gives_a_new_id(offline: None, tmp_path: Path) -> None:
    (tmp_path / WANDB_ID_FILE).write_text("\n")
    part = logger(tmp_path)
    log_epoch(part, 1)
    part.finish({}, best_epoch=1)
    assert part.run_id
    shutil.rmtree(tmp_path / "wandb")


def test_under_a_sweep_agent_message_and_file_name_the_runs_own_id(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "ofsweep")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    caplog.set_level(logging.INFO)
    of_sweep = logger(tmp_path)
    log_epoch(of_sweep, 1)
    of_sweep.finish({}, best_epoch=1)
    (content,) = folders(tmp_path)
    assert content.run_id == "ofsweep"
    assert (tmp_path / WANDB_ID_FILE).read_text() == "ofsweep\n"
    assert "W&B run ofsweep is offline" in caplog.text


def test_in_a_sweep_the_base_model_does_not_take_the_runs_id(
    offline: None, train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "ofsweep")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "trainer.max_epochs=1")
    assert train(*arguments, "--wandb_logger", "--wandb_project", "test") == 0
    runs = Path("experiments/Digits/original")
    assert not (runs / "mlp_base" / "wandb").exists()
    assert (runs / "mlp_k2_add" / WANDB_ID_FILE).read_text() == "ofsweep\n"


@pytest.mark.parametrize(("monitor", "values"), [("val/auc", [0.1, 0.9, 0.2]), ("val/rmse", [5.0, 1.0, 3.0])])
def test_the_summary_has_the_best_epoch_whichever_is_better_and_nan_is_none(
    tmp_path: Path, monitor: str, values: list[float]
) -> None:
    history = [{"epoch": epoch, monitor: value} for epoch, value in enumerate([math.nan, *values], 1)]
    run: Any = SimpleNamespace(summary={}, log=lambda row: None)
    WandbLogger(tmp_path, "tests", "run", monitor=monitor, done=4, history=history)._send(run, 1, 2, 3, 4)
    assert run.summary == {f"best/{monitor}": values[1], "best_epoch": 3}
