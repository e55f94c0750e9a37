"""Paths as users write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import parity
from parity import settings
from parity.data import get_datamodule_class
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.experiments.catalogue import add_experiments_path
from parity.models import MLP, read_weights
from parity.runs.training import RunOptions
from parity.settings import user_path
from parity.training import load_trained, train_model
from parity.zoo.hub import push_to_hub

BATCHES = [(torch.rand(4, 4), torch.tensor([0, 1, 2, 0]))]


def network() -> MLP:
    return MLP((4,), (3,), hidden=(4,))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs") == tmp_path / "runs"
    assert user_path("~") == tmp_path
    assert user_path("a/~/b") == Path("a/~/b")
    assert Experiment("Digits", "mlp_base", base_directory="~/runs").save_dir.is_relative_to(tmp_path / "runs")


@pytest.mark.parametrize(
    "path", ["~nobody-of-this-name/runs", "a\0b", f"a/{'n' * 256}", f"a/{'é' * 128}", "a/" * 2100, "a/\udcff"]
)
def test_a_path_that_no_file_can_have(path: str) -> None:
    with pytest.raises(ParityError):
        user_path(path)


def test_a_circle_of_links_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    for path in (tmp_path / "one", tmp_path / "other" / "x"):
        with pytest.raises(ParityError, match="a circle of symbolic links"):
            user_path(path)


@pytest.mark.parametrize(
    "call",
    [
        lambda path: train_model(network(), BATCHES, 1, accelerator="cpu", checkpoints_path=path),
        lambda path: train_model(network(), BATCHES, 1, accelerator="cpu", log_path=path),
        lambda path: load_trained(network(), path),
        lambda path: parity.protect(network(), BATCHES, checkpoints_path=path),
        lambda path: parity.protect(network(), path),
        lambda path: parity.load(path),
        lambda path: push_to_hub(path, "me/mine", token="none"),
        lambda path: Experiment("Digits", "mlp_base", base_directory=path),
        lambda path: Experiment(path),
        lambda path: RunOptions(resume_from=path),
        read_weights,
        add_experiments_path,
    ],
)
def test_a_path_of_an_unknown_user_is_the_same_sentence_wherever_it_is_given(call: Callable[[Any], object]) -> None:
    for path in ("~nobody-of-this-name/x", Path("~nobody-of-this-name/x")):
        with pytest.raises(ParityError, match=r"there is no user 'nobody-of-this-name' .*: write the whole path\."):
            call(path)
    assert not list(Path().iterdir()), "nothing is made"


def test_data_root_may_begin_with_a_tilde_and_not_with_an_unknown_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(settings, "DATA_ROOT", Path("~/data"))
    monkeypatch.setattr(settings, "IMAGENET_PATH", Path("~/imagenet"))
    assert settings.data_path("MNIST") == tmp_path / "data" / "MNIST"
    assert settings.imagenet_path() == tmp_path / "imagenet"
    monkeypatch.setattr(settings, "DATA_ROOT", Path("~nobody-of-this-name"))
    monkeypatch.setattr(settings, "IMAGENET_PATH", Path("~nobody-of-this-name"))
    for dataset, variable in [
        ("MNIST", "DATA_ROOT"), ("CIFAR10", "DATA_ROOT"), ("FSDD", "DATA_ROOT"), ("SpeechCommands", "DATA_ROOT"),
        ("CatVsDog", "DATA_ROOT"), ("CUB", "DATA_ROOT"), ("ImageNet", "IMAGENET_PATH"),
    ]:  # fmt: skip
        with pytest.raises(ParityError, match=f"^{variable}: there is no user 'nobody-of-this-name'"):
            get_datamodule_class(dataset)().targets("train")
    assert [path.name for path in tmp_path.iterdir()] == [], "nothing is made"


def test_a_checkpoint_to_resume_from_may_be_given_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunOptions(resume_from=Path("~/last.ckpt")).resume_from == tmp_path / "last.ckpt"


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
