"""train_model: the same weights as train.py, from any data, resumed where it was stopped."""

import itertools
import json
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
import pytorch_lightning as pl
import torch
from nbclient import NotebookClient
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.experiments import Experiment, catalogue
from parity.models import MLP, load_into
from parity.models.weights import read_file
from parity.plain import ABSENT
from parity.runs.training import RunOptions, run_training
from parity.storage.locks import RunLock
from parity.tasks import Classification
from parity.training import EMA, Hardware, OneCycle, load_trained, train_model
from parity.training.loggers.epoch_table import read_table
from parity.training.loop.checkpoints import model_weights
from parity.training.objectives.policies import Exponential, LossStop, Policy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "training.md"
SHAPES = (1, 8, 8), (10,)

OWN = """
from parity.experiments.Digits.original.experiment_parameters import CONFIGS as ORIGINAL
from parity.experiments.config import update_config
from parity.training import EMA, TargetsAndReconstructions
from parity.training.objectives.policies import Exponential, LossStop

POLICIES = dict(lr=Exponential(1e-2, 0.5), weight_decay=1e-3, stop=LossStop())
CONFIGS = {
    "own_base": ORIGINAL["mlp_base"],
    "own_base_policies": update_config(ORIGINAL["mlp_base"], dict(policies=POLICIES)),
    "own_k2": ORIGINAL["mlp_k2_add"],
    "own_k2_policies": update_config(ORIGINAL["mlp_k2_add"], dict(
        loss=TargetsAndReconstructions(), averaging=EMA(0.9),
        policies=dict(POLICIES, reconstruction_weight=Exponential(10, 0.5)))),
}
"""


@pytest.mark.parametrize("name", ["own_base", "own_base_policies", "own_k2", "own_k2_policies"])
def test_the_same_weights_as_train_py(
    name: str, digits_base: Path, tmp_path: Path, evaluate: Callable[..., int]
) -> None:
    file = tmp_path / "configs" / "Digits" / "own" / "experiment_parameters.py"
    file.parent.mkdir(parents=True)
    file.write_text(OWN)
    catalogue.add_experiments_path(tmp_path / "configs")
    run = Experiment("Digits", name, base_directory=digits_base, overrides={"trainer.max_epochs": 2})
    run_training(run, RunOptions(hardware=Hardware("cpu")))

    pl.seed_everything(0, verbose=False)
    model, config = run.get_model(), run.config
    if isinstance(model, CodedModel):
        assert run.base_experiment is not None
        base = run.base_experiment.checkpoint("best")
        load_into(model.base_model, model_weights(read_file(base)["state_dict"]), base)
    train_model(
        model, run.get_datamodule(), config["trainer"]["max_epochs"], criterion=config["loss"],
        optimizer=config["optimizer"], averaging=config.get("averaging"), checkpoints_path="ours", log_path="logs",
        accelerator="cpu", progress=False, **config.get("policies", {}),
    )  # fmt: skip
    ours, theirs = read_file(Path("ours/last.ckpt")), read_file(run.checkpoint("last"))
    for part in ("state_dict", "optimizer_states", *(["average"] if "averaging" in config else [])):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert ours.get("policies") == theirs.get("policies")
    columns = [name for name in read_table(Path("logs/metrics.csv"))[0] if not name.startswith("test")]
    for mine, its in zip(read_table(Path("logs/metrics.csv")), read_table(run.save_dir / "metrics.csv"), strict=True):
        assert {column: mine[column] for column in columns} == {column: its[column] for column in columns}
    named = ("--dataset", "Digits", "--experiment_name", name, "--base_directory", str(digits_base))
    assert evaluate(*named, "--reload", "last", "--ema") == int("averaging" not in config)
    if "averaging" in config:
        assert (run.save_dir / "evaluation_test_last_ema.json").exists()
        last, ema = (run.load_trained_model("last", ema=ema) for ema in (False, True))
        assert isinstance(ema, CodedModel)
        assert not torch.equal(*(model.parity_models[0].layers[0].weight for model in (last, ema)))
    else:
        with pytest.raises(ParityError, match="has no averaged weights: train with averaging="):
            run.load_trained_model(ema=True)


def questions(number: int = 320) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(number, *SHAPES[0], generator=generator)
    return queries, queries.flatten(1)[:, :10].argmax(1)


def shuffled() -> DataLoader:
    return DataLoader(TensorDataset(*questions()), batch_size=8, shuffle=True)


class Noisy(MLP):
    def forward(self, queries: Tensor) -> Tensor:
        return super().forward(queries + 0.1 * torch.randn_like(queries) if self.training else queries)


def noisy() -> Noisy:
    torch.manual_seed(0)
    return Noisy(*SHAPES)


def quiet(model: nn.Module, data: Any, epochs: int, **options: Any) -> nn.Module:
    train_model(model, data, epochs, accelerator="cpu", progress=False, **options)
    return model


class CtrlC(Policy):
    """Presses it once, in a step of epoch 1 or in its validation."""

    def __init__(self, when: str, pressed: set[str]) -> None:
        def press() -> None:
            if when not in pressed:
                pressed.add(when)
                os.kill(os.getpid(), signal.SIGINT)

        self.when, self._press = when, press

    def train_step_started(self, epoch: int, iteration: int) -> None:
        if (self.when, epoch, iteration) == ("step", 1, 20):
            self._press()

    def validation_started(self, epoch: int, train_losses: Any) -> None:
        if (self.when, epoch) == ("validation", 1):
            self._press()


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(mine, its) for mine, its in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("when", ["step", "validation"])
def test_ctrl_c_within_an_epoch_of_a_shuffling_dataloader(tmp_path: Path, when: str) -> None:
    options: dict[str, Any] = dict(accumulate_grad_batches=3, val_data=shuffled(), lr=Exponential(1e-2, 0.5))
    whole = quiet(noisy(), shuffled(), 3, checkpoints_path=tmp_path / "whole", log_path=tmp_path / "whole", **options)
    parts: dict[str, Any] = dict(options, checkpoints_path="~/parts", log_path="~/parts", stop=CtrlC(when, set()))
    home = pytest.MonkeyPatch()
    with home.context() as patched:
        patched.setenv("HOME", str(tmp_path))
        with pytest.raises(KeyboardInterrupt):
            quiet(noisy(), shuffled(), 3, **parts)
        assert not (tmp_path / "parts" / "run.lock").exists()
        resumed = noisy()
        torch.manual_seed(5)
        quiet(resumed, shuffled(), 3, **parts)
        again = quiet(noisy(), shuffled(), 3, **parts)
    assert same(resumed, whole)
    assert same(again, whole), "a finished training loads its weights"
    rows = read_table(tmp_path / "whole" / "metrics.csv")
    assert read_table(tmp_path / "parts" / "metrics.csv") == rows
    assert [float(row["policy/lr"]) for row in rows] == [1e-2, 5e-3, 2.5e-3]
    assert list((tmp_path / "parts" / "tensorboard").glob("events*"))


def test_best_by_what_validate_returns_and_policies_see_it(tmp_path: Path) -> None:
    values = iter([0.1, 0.7, 0.5])

    class Seen(Policy):
        metrics: dict[str, float]

        def epoch_finished(self, epoch: int, *, train_losses: Any, metrics: dict[str, float]) -> None:
            assert {"val/mine", "train/loss", "train/top1"} <= metrics.keys()

    def mine(model: nn.Module) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"mine": next(values), "other": 0.0}

    quiet(noisy(), shuffled(), 3, validate=mine, seen=Seen(), checkpoints_path=tmp_path, log_path=tmp_path)
    assert [row["val/mine"] for row in read_table(tmp_path / "metrics.csv")] == ["0.1", "0.7", "0.5"]
    assert read_file(tmp_path / "best.ckpt")["epoch"] == 1
    best = load_trained(noisy(), tmp_path)
    assert not same(best, load_trained(noisy(), tmp_path, "last"))


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("auc", [math.nan, 0.1, 0.9], 3),
        ("auc", [0.1, math.nan, 0.05], 1),
        ("mse_loss", [5.0, 1.0, 3.0], 2),
        ("words/RMSE", [math.nan, 5.0, 6.0], 2),
        ("losses", [1.0, 2.0, 3.0], 3),
    ],
)
def test_the_best_epoch(tmp_path: Path, name: str, values: list[float], best: int) -> None:
    left = iter(values)
    quiet(noisy(), shuffled(), 3, validate=lambda model: {name: next(left)}, checkpoints_path=tmp_path)
    assert read_file(tmp_path / "best.ckpt")["epoch"] + 1 == best
    assert read_file(tmp_path / "last.ckpt")["callbacks"]["Checkpoints"]["best_epoch"] == best


def test_policies_see_what_validate_has_returned_this_time(tmp_path: Path) -> None:
    returned = iter([{"a": 1.0}, {"b": 2.0}, {"a": 3.0}])
    seen = []

    class Seen(Policy):
        def epoch_finished(self, epoch: int, *, train_losses: Any, metrics: dict[str, float]) -> None:
            seen.append({name: value for name, value in metrics.items() if name in ("val/a", "val/b")})

    quiet(noisy(), shuffled(), 3, validate=lambda model: next(returned), seen=Seen(), checkpoints_path=tmp_path)
    assert seen == [{"val/a": 1.0}, {"val/b": 2.0}, {"val/a": 3.0}]
    assert read_file(tmp_path / "last.ckpt")["callbacks"]["Checkpoints"]["best_epoch"] == 3


def endless() -> Iterator[tuple[Tensor, Tensor]]:
    queries, targets = questions()
    while True:
        yield queries[:64].view(32, 2, 1, 8, 8), targets[:64].view(32, 2)


def coded() -> CodedModel:
    torch.manual_seed(0)
    base, parity = MLP(*SHAPES), MLP(*SHAPES)
    return CodedModel(base, LinearEncoder(2, 1, SHAPES[0]), [parity], LinearDecoder(2, 1, SHAPES[1]))


def test_groups_from_an_endless_iterator(tmp_path: Path) -> None:
    model = coded()
    before = coded()
    quiet(model, endless(), 3, steps_per_epoch=4, log_path=tmp_path, lr=1e-2)
    losses = [float(row["train/loss"]) for row in read_table(tmp_path / "metrics.csv")]
    assert losses[2] < losses[1] < losses[0]
    assert same(model.base_model, before.base_model)
    assert not model.training
    assert "train/reconstruction_top1" in read_table(tmp_path / "metrics.csv")[0]


def test_regression_has_the_loss_alone() -> None:
    queries, _ = questions(64)
    model = quiet(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), [(queries, queries.mean((1, 2, 3)).unsqueeze(1))], 2,
                  val_data=[(queries, torch.zeros(64, 1))], checkpoints_path="run")  # fmt: skip
    assert (Path("run") / "best.ckpt").exists()
    assert not model.training


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (endless, {}, "has no length: give steps_per_epoch"),
        (lambda: (batch for batch in [questions(8)]), dict(steps_per_epoch=2), "ended after 1 of 2 batches"),
        (list, {}, "there are no batches"),
        (lambda: 3, {}, "not a int"),
        (lambda: [(torch.zeros(3, 9), torch.zeros(3).long())], {}, r"cannot take the first batch.* \(9,\)"),
        (lambda: [torch.zeros(3)], {}, r"a pair \(queries, targets\)"),
        (shuffled, dict(label_smoothing=LossStop), "is a class"),
        (shuffled, dict(weight=Exponential(1, 0.5)), "nothing takes the value 'weight'"),
        (shuffled, dict(lr=Exponential(1, 0.5), schedule=OneCycle()), "both set the learning rate"),
        (shuffled, dict(validate=lambda model: 0.5), "validate returns numbers by their names"),
        (shuffled, dict(monitor="val/none"), "nothing is logged as 'val/none'"),
        (shuffled, dict(accumulate_grad_batches=0), "above 0"),
        (lambda: DigitsDataModule(k=2), dict(steps_per_epoch=3), "has its own steps_per_epoch"),
    ],
)
def test_bad_input_is_one_sentence(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParityError, match=message):
        quiet(noisy(), data(), 1, **options)


def test_a_folder_is_of_one_training_at_a_time_and_of_one_kind(tmp_path: Path) -> None:
    quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, lr=Exponential(1e-2, 0.5))
    with pytest.raises(ParityError, match=r"policies\.lr\.multiplier: 0\.5 -> 0\.25\. .*resume=False"):
        quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, lr=Exponential(1e-2, 0.25))
    with RunLock(tmp_path), pytest.raises(ParityError, match="is being written by another process"):
        quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, lr=Exponential(1e-2, 0.5))
    quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, lr=1e-3, resume=False)
    quiet(noisy(), shuffled(), 2, checkpoints_path=tmp_path, lr=1e-3)
    assert read_file(tmp_path / "last.ckpt")["epoch"] + 1 == 2


def test_a_restart_removes_what_train_model_has_left_and_no_file_of_the_users(tmp_path: Path) -> None:
    mine = ["backbone.ckpt", "notes.ckpt.txt", "epoch_best.ckpt"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, log_path=tmp_path / "logs", resume=False)
    (tmp_path / "logs" / "tensorboard" / "others").mkdir()
    (tmp_path / "last.ckpt.damaged1").touch()
    quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, log_path=tmp_path / "logs", resume=False)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt*")) == sorted([*mine, "best.ckpt", "last.ckpt"])
    assert (tmp_path / "logs" / "tensorboard" / "others").is_dir()
    assert len(list((tmp_path / "logs" / "tensorboard").glob("events*"))) == 1
    (tmp_path / "training.json").unlink()
    with pytest.raises(ParityError, match=r"(best|last)\.ckpt is there without the training\.json .*: move it away"):
        quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, resume=False)
    assert (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("table", ["name,age\nA,3\n", "epoch,step,train_loss\n0,9,0.5\n", ""])
def test_a_table_of_the_users_is_not_overwritten(tmp_path: Path, table: str, resume: bool) -> None:
    (tmp_path / "metrics.csv").write_text(table)
    with pytest.raises(ParityError, match=r"metrics\.csv is not a table of train_model's.*: move it away"):
        quiet(noisy(), shuffled(), 1, log_path=tmp_path, resume=resume)
    assert (tmp_path / "metrics.csv").read_text() == table


def test_one_folder_written_in_two_ways_is_locked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quiet(noisy(), shuffled(), 1, checkpoints_path="same", log_path=tmp_path / "same")
    assert {"last.ckpt", "metrics.csv"} <= {path.name for path in (tmp_path / "same").iterdir()}
    with RunLock(tmp_path / "same"), pytest.raises(ParityError, match=r"another folder \(checkpoints_path or"):
        quiet(noisy(), shuffled(), 1, checkpoints_path="same", log_path=tmp_path / "same")


def test_other_trained_parameters_are_no_damage(tmp_path: Path) -> None:
    frozen, other = noisy(), noisy()
    frozen.layers[0].requires_grad_(False)
    other.layers[-1].requires_grad_(False)
    quiet(frozen, shuffled(), 1, checkpoints_path=tmp_path)
    for model, message in (
        (noisy(), r"last\.ckpt is of a training of other parameters \(it trained \d tensors, and \d are to be"),
        (other, r"other parameters \(tensor 1 that it trained has shape"),
    ):
        with pytest.raises(ParityError, match=message):
            quiet(model, shuffled(), 2, checkpoints_path=tmp_path)
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(monitor="val/top11", val_data=[questions(32)]),
            "nothing is logged as 'val/top11': did you mean 'val/top1'",
        ),
        (dict(monitor="val/top1"), "nothing is logged as 'val/top1'"),
    ],
)
def test_an_unknown_monitor_is_refused_before_training(tmp_path: Path, options: Any, message: str) -> None:
    model = noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ParityError, match=message):
        quiet(model, shuffled(), 1, checkpoints_path=tmp_path / "run", **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not (tmp_path / "run").exists()


class ScaledDataModule(DigitsDataModule):
    """Digits, with an argument of its own."""

    def __init__(self, scale: int = 1, num_workers: int = 0, **common: Any) -> None:
        super().__init__(**common)
        self.scale, self.num_workers = scale, num_workers


@pytest.mark.parametrize(
    ("data", "first", "then", "message"),
    [
        (shuffled, {}, dict(monitor="train/loss"), "monitor: None -> train/loss"),
        (
            lambda: itertools.cycle([questions(8)]),
            dict(steps_per_epoch=2),
            dict(steps_per_epoch=3),
            "steps_per_epoch: 2 -> 3",
        ),
        (shuffled, dict(task=Classification(10)), dict(task=None), r"task: \{.*\} -> None"),
        (None, dict(scale=1, num_workers=0), dict(scale=2, num_workers=1), r"settings: data\.scale: 1 -> 2\. "),
    ],
)
def test_what_a_training_is_of_is_its_identity(
    tmp_path: Path, data: Any, first: dict[str, Any], then: dict[str, Any], message: str
) -> None:
    def train(epochs: int, options: dict[str, Any]) -> None:
        made, options = (data(), options) if data else (ScaledDataModule(k=1, **options), {})
        quiet(noisy(), made, epochs, checkpoints_path=tmp_path, **options)

    train(1, first)
    file = tmp_path / "training.json"
    stored = json.loads(file.read_text())
    with pytest.raises(ParityError, match=message):
        train(2, then)
    train(2, first)
    checkpoint = read_file(tmp_path / "last.ckpt")
    for content in (stored, checkpoint["run"]):  # as it was before these were kept
        for name in ("monitor", "steps_per_epoch", "task"):
            del content[name]
        content["data"].pop("scale", None)
    file.write_text(json.dumps(stored))
    torch.save(checkpoint, tmp_path / "last.ckpt")
    train(3, then)
    assert read_file(tmp_path / "last.ckpt")["epoch"] == 2


def test_another_monitor_by_default_begins_to_choose_the_best_epoch_again(tmp_path: Path) -> None:
    options = dict(checkpoints_path=tmp_path, log_path=tmp_path)
    quiet(noisy(), shuffled(), 2, validate=lambda model: {"auc": 9.0}, **options)
    quiet(noisy(), shuffled(), 3, validate=lambda model: {"f1": 0.5}, **options)
    assert read_file(tmp_path / "best.ckpt")["epoch"] == 2
    quiet(noisy(), shuffled(), 4, validate=lambda model: {"f1": 0.4}, **options)
    assert read_file(tmp_path / "best.ckpt")["epoch"] == 2


def test_batches_of_images_of_several_sides() -> None:
    data = [(image := torch.randn(2, 1, side, side), image.clone()) for side in (4, 6, 8)]
    network = nn.Conv2d(1, 1, 3, padding=1)
    history = train_model(network, data, 2, val_data=data, criterion=nn.MSELoss(), progress=False).history
    assert history[1]["val/loss"] == pytest.approx(
        sum(float(nn.functional.mse_loss(network(image).detach(), image)) for image, _ in data) / 3
    )


@dataclass(frozen=True)
class Fast:
    """An optimiser factory with a field that came later."""

    lr: float = 1e-3
    fused: bool = field(default=True, metadata={ABSENT: False})

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        MADE.append(self.fused)
        return torch.optim.SGD(parameters, self.lr)


MADE: list[bool] = []


def test_a_training_from_before_a_field_was_there_is_resumed_as_it_began(tmp_path: Path) -> None:
    quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, optimizer=Fast(fused=False))
    file = tmp_path / "training.json"
    content = json.loads(file.read_text())
    del content["optimizer"]["fused"]
    file.write_text(json.dumps(content))
    for epochs in (2, 3):  # the second time the field is there
        MADE.clear()
        quiet(noisy(), shuffled(), epochs, checkpoints_path=tmp_path, optimizer=Fast())
        assert set(MADE) == {False}
        assert json.loads(file.read_text())["optimizer"]["fused"] is False
    with pytest.raises(ParityError, match=r"optimizer\.lr: 0\.001 -> 0\.5\. "):
        quiet(noisy(), shuffled(), 4, checkpoints_path=tmp_path, optimizer=Fast(lr=0.5))
    MADE.clear()
    quiet(noisy(), shuffled(), 1, checkpoints_path=tmp_path, optimizer=Fast(), resume=False)
    assert set(MADE) == {True}


def test_a_checkpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(ParityError, match="nothing has no checkpoints: train_model saves them there"):
        load_trained(noisy(), "nothing")
    quiet(noisy(), shuffled(), 1, checkpoints_path="run")
    with pytest.raises(ParityError, match="run has no checkpoint 'bst': did you mean 'best'"):
        load_trained(noisy(), "run", "bst")


def code_of_the_page() -> list[str]:
    return [part.split("```")[0] for part in DOCS.read_text().split("```python\n")[1:]]


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    for part in code_of_the_page():
        exec(part, names)
    rows = read_table(tmp_path / "my_model" / "logs" / "metrics.csv")
    assert [float(row["policy/reconstruction_weight"]) for row in rows][:3] == [10, 5, 2.5]
    assert float(rows[-1]["val/largest_norm"]) > 0
    assert (tmp_path / "my_model" / "checkpoints" / "best.ckpt").exists()
    assert (tmp_path / "averaged" / "best.ckpt").exists()


@pytest.mark.slow
def test_a_notebook_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    model, training = code_of_the_page()[:2]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(part) for part in (model, training, training)])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [str(output.get("data", output.get("text"))) for output in notebook.cells[1].outputs]
    assert any("10/10" in text and "val A_d" in text for text in shown), shown
    assert "this training is finished" in str(notebook.cells[2].outputs)


@pytest.mark.parametrize("reload", [2, None])
def test_a_checkpoint_is_named_by_a_text(tmp_path: Path, reload: object) -> None:
    with pytest.raises(ParityError, match=f"a checkpoint is named by a text, .* not {reload}"):
        load_trained(nn.Linear(2, 2), tmp_path, reload)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", ["0.9", True, None, float("nan"), 1.5])
def test_the_decay_of_an_average_is_a_number(decay: Any) -> None:
    with pytest.raises(ParityError, match="the decay of an EMA is a number from 0 to 1, not"):
        EMA(decay)
