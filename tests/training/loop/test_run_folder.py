"""A run is resumed from its own checkpoints alone, from those of today's form or older, and from all that are whole."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from parity.errors import ParityError
from parity.experiments import Experiment
from parity.models.weights import fingerprint, read_file
from parity.runs.training import RunOptions, run_training
from parity.storage import files
from parity.storage.locks import NAME, PERIOD, RunLock
from parity.training import Hardware
from parity.training.loop.checkpoints import Checkpoints
from parity.training.loop.signals import StopSignals

CPU = Hardware("cpu")
OLD_CONFIG = Path(__file__).parents[2] / "experiments" / "data" / "config_of_df0f91d.json"
"""Of a run of mlp_k2_add by commit df0f91d, whose checkpoints carried no identity."""


def experiment(base: Path, epochs: int = 2, name: str = "run", **overrides: object) -> Experiment:
    overrides = {"trainer.max_epochs": epochs, "data.batch_size": 64, **overrides}
    return Experiment("Digits", "mlp_k2_add", base_directory=base, run_name=name, overrides=overrides)


def train(run: Experiment, *callbacks: pl.Callback, **options: Any) -> None:
    run_training(run, RunOptions(hardware=CPU, callbacks=callbacks, **options))


def checkpoints(run: Experiment) -> Path:
    return run.save_dir / "checkpoints"


def outcome(run: Experiment) -> tuple[str, str, str, dict[str, float]]:
    weights = [fingerprint(run.load_trained_model(name)) for name in ("last", "best")]
    return (*weights, (run.save_dir / "metrics.csv").read_text(), run.load_test_metrics())  # type: ignore[return-value]


class After(pl.Callback):
    """Does something once an epoch is saved, when the next one begins."""

    def __init__(self, epoch: int, act: Callable[[], object]) -> None:
        self.epoch, self.act = epoch, act

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            self.act()


class Cut(Exception):
    """Stands for a kill."""


def cut() -> None:
    raise Cut


def test_checkpoints_on_another_disk_are_removed_through_the_link(digits_base: Path, tmp_path: Path) -> None:
    run = experiment(digits_base, 1, **{"optimizer.lr": 0.5})
    (tmp_path / "scratch").mkdir()
    run.save_dir.mkdir(parents=True)
    checkpoints(run).symlink_to(tmp_path / "scratch")
    train(run, checkpoint_every=1)
    assert (tmp_path / "scratch" / "epoch_1.ckpt").exists()
    again = experiment(digits_base, 1)
    train(again, resume=False)
    assert checkpoints(run).is_symlink()
    assert sorted(os.listdir(tmp_path / "scratch")) == ["best.ckpt", "last.ckpt"]
    whole = experiment(digits_base, 1, "whole")
    train(whole)
    assert outcome(again) == outcome(whole)


def test_an_extended_run_leaves_the_table_of_an_uninterrupted_one_and_no_older_evaluation(digits_base: Path) -> None:
    for epochs in (1, 2):
        run = experiment(digits_base, epochs)
        train(run)
        assert not list(run.save_dir.glob("evaluation_*"))
        for end in ("json", "png"):
            (run.save_dir / f"evaluation_test_best.{end}").write_text("{}")
    whole = experiment(digits_base, 2, "whole")
    train(whole)
    assert outcome(run) == outcome(whole)
    train(run)  # it is finished: nothing is removed
    assert (run.save_dir / "evaluation_test_best.json").exists()
    train(run, resume=False)
    assert not list(run.save_dir.glob("evaluation_*"))


def test_what_cannot_be_removed_ends_a_restart(digits_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = experiment(digits_base, 1)
    train(run)
    before = (run.save_dir / "config.json").read_text()

    def refuse(room: Path, path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_through", refuse)
        with pytest.raises(ParityError, match="cannot be written: operation not permitted"):
            train(experiment(digits_base, 1, **{"optimizer.lr": 0.5}), resume=False)
    assert (run.save_dir / "config.json").read_text() == before


def test_a_checkpoint_of_another_run_is_not_resumed_from(digits_base: Path, tmp_path: Path) -> None:
    own, other = experiment(digits_base, 1), experiment(digits_base, 1, "other", **{"optimizer.lr": 0.5})
    train(own)
    train(other)
    alone = shutil.copy(checkpoints(other) / "last.ckpt", tmp_path / "alone.ckpt")
    message = r"\.ckpt was saved by a run with other settings: config\.optimizer\.lr: 0\.5 -> 0\.001"
    with pytest.raises(ParityError, match=f"alone{message}"):
        train(experiment(digits_base, 2, "third"), resume_from=Path(alone))
    shutil.copy(alone, checkpoints(own) / "last.ckpt")
    with pytest.raises(ParityError, match=f"last{message}"):
        train(experiment(digits_base, 2))


def test_a_foreign_checkpoint_is_refused_before_the_base_model_is_trained(digits_base: Path, tmp_path: Path) -> None:
    other = experiment(digits_base, 1, "other", **{"optimizer.lr": 0.5})
    train(other)
    for run in (experiment(tmp_path / "runs", 1), experiment(tmp_path / "runs", 1, **{"code.k": 3})):
        with pytest.raises(ParityError, match=r"other settings: .*(optimizer\.lr|code\.k)"):
            train(run, resume_from=checkpoints(other) / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_run_of_an_older_commit_is_resumed(digits_base: Path) -> None:
    """Its config as that commit wrote it, and checkpoints that carry no identity."""
    old = json.loads(OLD_CONFIG.read_text())
    run = Experiment("Digits", "mlp_k2_add", base_directory=digits_base, overrides={"trainer.max_epochs": 2})
    train(run)
    old["base_weights_sha256"] = json.loads((run.save_dir / "config.json").read_text())["base_weights_sha256"]
    (run.save_dir / "config.json").write_text(json.dumps(old))
    for path in checkpoints(run).glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content.pop("run", None)  # of a link to another it is gone already
        torch.save(content, path)
    longer = Experiment("Digits", "mlp_k2_add", base_directory=digits_base, overrides={"trainer.max_epochs": 3})
    train(longer)
    assert [row["epoch"] for row in longer.load_metrics()] == [1, 2, 3]
    assert read_file(longer.checkpoint("last"))["run"]["config"]["trainer"]["max_epochs"] == 3


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_without_its_best_checkpoint_a_run_is_resumed(
    digits_base: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    def hurt(run: Experiment) -> None:
        best = checkpoints(run) / "best.ckpt"
        best.unlink()  # else the file that it is a link to would be hurt too
        if damage == "damaged":
            best.write_bytes(b"damaged")

    whole, run = experiment(digits_base, 3, "whole"), experiment(digits_base, 3)
    train(whole)
    with pytest.raises(Cut):
        train(run, After(2, cut), checkpoint_every=1)
    hurt(run)
    train(run)
    assert "is the best checkpoint now" in caplog.text
    assert outcome(run) == outcome(whole)

    os.remove(run.save_dir / "test_metrics.json")
    hurt(run)
    best_epoch = read_file(whole.checkpoint("best"))["epoch"] + 1
    for path in checkpoints(run).glob("*.ckpt"):
        if path.name != "best.ckpt" and read_file(path)["epoch"] + 1 == best_epoch:
            path.unlink()
    if (checkpoints(run) / "last.ckpt").exists():
        with pytest.raises(ParityError, match=r"has no checkpoint 'best', although .* copy it as best\.ckpt"):
            train(run)
        shutil.copy(checkpoints(run) / "last.ckpt", checkpoints(run) / "best.ckpt")
        train(run)
        assert run.load_test_metrics()


@pytest.mark.parametrize("act", ["removed", "replaced"])
def test_a_run_whose_lock_is_removed_or_replaced_ends_in_one_sentence(
    digits_base: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PERIOD, "3")
    run = experiment(digits_base, 500)
    lock = run.save_dir / NAME

    def hurt() -> None:
        lock.unlink()
        if act == "replaced":
            lock.write_text(json.dumps({"host": "node7", "pid": 1, "lock": "another's"}))

    with pytest.raises(ParityError, match=r"has lost the lock of .*(was removed|on host node7, pid 1)") as error:
        train(run, After(2, hurt))
    assert "\n" not in str(error.value)
    assert read_file(checkpoints(run) / "last.ckpt")["epoch"] + 1 == 2


def test_the_other_ranks_do_not_wait_for_one_that_has_lost_its_lock(tmp_path: Path) -> None:
    """They are at the barrier of Lightning's ``save_checkpoint``, which the first one does not come to."""
    met: list[bool] = []
    trainer = SimpleNamespace(strategy=SimpleNamespace(barrier=lambda: met.append(True)))
    with RunLock(tmp_path):
        (tmp_path / NAME).unlink()
        with pytest.raises(ParityError, match="has lost the lock"):
            Checkpoints(tmp_path, None, StopSignals())._write(trainer, tmp_path / "last.ckpt", [])  # type: ignore[arg-type]
    assert met == [True]
