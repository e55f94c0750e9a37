import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.experiments import Experiment, catalogue
from parity.experiments.config import frozen, update_config
from parity.models.weights import fingerprint
from parity.plain import ABSENT
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware
from parity.training.loop.run_folder import Identity, RunFolder

OPTIONS = RunOptions(hardware=Hardware("cpu"))


@pytest.fixture
def runs(digits_base: Path) -> Path:
    return digits_base


def experiment(runs: Path, name: str = "mlp_k2_add", epochs: int = 3, **kwargs: object) -> Experiment:
    overrides = {"trainer.max_epochs": epochs, **kwargs.pop("overrides", {})}  # type: ignore[dict-item]
    return Experiment("Digits", name, base_directory=runs, overrides=overrides, **kwargs)  # type: ignore[arg-type]


def test_a_notebook_gets_everything_from_a_run(runs: Path) -> None:
    trained = experiment(runs)
    metrics = run_training(trained, OPTIONS)
    found = Experiment(trained.save_dir)
    assert (found.dataset, found.collection, found.experiment_name) == ("Digits", "original", "mlp_k2_add")
    assert found.config["trainer"]["max_epochs"] == 3
    assert found.available_checkpoints() == ["best", "last", "previous"]
    assert [row["epoch"] for row in found.load_metrics()] == [1, 2, 3]
    assert found.load_test_metrics() == pytest.approx(metrics)
    best = json.loads((found.save_dir / "test_metrics.json").read_text())["epoch"]
    with_test = [row["epoch"] for row in found.load_metrics() if "test/overall_top1" in row]
    assert with_test == [best]

    model = found.load_trained_model()
    assert isinstance(model, CodedModel)
    batch = next(iter(found.get_datamodule(batch_size=7).loader("test")))
    available = torch.ones(7, 3, dtype=torch.bool)
    available[::2, 1] = False
    rebuilt = model(batch.queries, available)
    predictions = model.base_outputs(batch.queries)
    arrived = available[:, :2]
    assert torch.equal(rebuilt[arrived], predictions[arrived])
    assert not torch.allclose(rebuilt[~arrived], predictions[~arrived])


def test_the_base_model_is_trained_first_and_used(tmp_path: Path) -> None:
    parity = experiment(tmp_path, epochs=1)
    with pytest.raises(ParityError, match="mlp_base is not trained: train it first, with python -m parity train"):
        run_training(parity, RunOptions(hardware=Hardware("cpu"), train_base=False))
    assert not list(tmp_path.iterdir())
    base = Experiment("Digits", "mlp_base", base_directory=tmp_path)
    run_training(parity, OPTIONS)
    assert base.available_checkpoints() == ["best", "last", "previous"]
    model = parity.load_trained_model()
    assert isinstance(model, CodedModel)
    assert fingerprint(model.base_model) == fingerprint(base.load_trained_model())


def test_a_run_is_its_config_seed_and_base_weights(runs: Path, tmp_path: Path) -> None:
    first = experiment(runs)
    run_training(first, OPTIONS)
    with pytest.raises(ParityError, match=r"started with other settings: config\.optimizer\.lr: 0\.001 -> 0\.1"):
        run_training(experiment(runs, overrides={"optimizer.lr": 0.1}), OPTIONS)
    with pytest.raises(ParityError, match=r"max_epochs: 3 -> 2"):
        run_training(experiment(runs, epochs=2), OPTIONS)
    with pytest.raises(ParityError, match="seed: None -> 1"):
        run_training(experiment(runs, seed=1, run_name="mlp_k2_add"), OPTIONS)
    other = tmp_path / "other.pt"
    torch.save(Experiment("Digits", "mlp_base").get_model().state_dict(), other)
    with pytest.raises(ParityError, match="base_weights_sha256"):
        run_training(experiment(runs), OPTIONS, base_weights=other)

    assert experiment(runs, seed=1).save_dir.name == "mlp_k2_add-seed=1"
    run_training(experiment(runs, epochs=5), OPTIONS)  # a larger max_epochs extends it
    assert len(first.load_metrics()) == 5
    restarted = RunOptions(hardware=Hardware("cpu"), resume=False)
    run_training(experiment(runs, overrides={"optimizer.lr": 0.1}), restarted)
    assert len(first.load_metrics()) == 3


def test_a_finished_run_is_left_alone(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = experiment(runs)
    run_training(run, OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in run.save_dir.rglob("*") if path.is_file()}
    with caplog.at_level("INFO", logger="parity"):
        run_training(run, OPTIONS)
    assert "this run is finished" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in run.save_dir.rglob("*") if path.is_file()} == before


def test_an_extended_run_is_not_finished_before_its_test_pass(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.runs import training as module

    run_training(experiment(runs, epochs=1), OPTIONS)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    longer = experiment(runs, epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate_on_test", killed)
        with pytest.raises(KeyboardInterrupt):
            run_training(longer, OPTIONS)
    with pytest.raises(ParityError, match="is not a finished run"):
        longer.load_test_metrics()
    run_training(longer, OPTIONS)
    best = max(longer.load_metrics(), key=lambda row: row["val/reconstruction_top1"])
    assert json.loads((longer.save_dir / "test_metrics.json").read_text())["epoch"] == best["epoch"]


def test_resume_from_another_run_of_the_same_kind(runs: Path) -> None:
    first, second = experiment(runs, epochs=3), experiment(runs, epochs=5, run_name="second")
    run_training(first, OPTIONS)
    last = first.checkpoint("last")
    from_first = RunOptions(hardware=Hardware("cpu"), resume_from=last)
    run_training(second, from_first)
    assert {"best", "last"} <= set(second.available_checkpoints())
    assert [row["epoch"] for row in second.load_metrics()][-1] == 5
    run_training(experiment(runs, epochs=6, run_name="second"), from_first)  # its own checkpoint is the newer one
    assert [row["epoch"] for row in second.load_metrics()] == [4, 5, 6]

    other = experiment(runs, run_name="other", overrides={"optimizer.lr": 0.5})
    with pytest.raises(ParityError, match=r"optimizer\.lr: 0\.001 -> 0\.5"):
        run_training(other, from_first)
    copied = runs / "copied.ckpt"
    shutil.copy(last, copied)
    weights = runs / "other.pt"
    torch.manual_seed(5)
    torch.save(Experiment("Digits", "mlp_base").get_model().state_dict(), weights)
    from_copy = RunOptions(hardware=Hardware("cpu"), resume_from=copied)
    with pytest.raises(ParityError, match="trained for a base model of other weights"):
        run_training(experiment(runs, epochs=3, run_name="other"), from_copy, base_weights=weights)
    with pytest.raises(ParityError, match=r"optimizer\.lr: 0\.001 -> 0\.5"):
        run_training(other, from_copy, base_weights=weights)
    assert not other.save_dir.exists()
    with pytest.raises(ParityError, match="beyond trainer"):
        run_training(experiment(runs, epochs=2, run_name="short"), RunOptions(Hardware("cpu"), resume_from=copied))


def test_nothing_is_begun_from_the_last_checkpoint_of_a_finished_run(runs: Path) -> None:
    first, second = experiment(runs, epochs=1), experiment(runs, epochs=1, run_name="second")
    run_training(first, OPTIONS)
    from_first = RunOptions(hardware=Hardware("cpu"), resume_from=first.checkpoint("last"))
    with pytest.raises(ParityError, match=r"finished, after 1 epochs: nothing .* set trainer\.max_epochs above 1"):
        run_training(second, from_first)
    assert not second.save_dir.exists()
    run_training(experiment(runs, epochs=2, run_name="second"), from_first)
    run_training(experiment(runs, epochs=2, run_name="second"), from_first)  # it is finished: left alone


def test_a_run_that_never_finished_an_epoch_may_begin_differently(runs: Path) -> None:
    with pytest.raises(ParityError, match="the loss was"):
        run_training(experiment(runs, run_name="nan", overrides={"optimizer.lr": 1e30}), OPTIONS)
    run_training(experiment(runs, run_name="nan"), OPTIONS)


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", '{"config": "foo"}'), ("config.json", "{"), ("metrics.csv", "epoch\nx"), ("metrics.csv", "\0\1")],
)
def test_damaged_files_of_a_run_are_named(runs: Path, name: str, content: str) -> None:
    run = experiment(runs)
    run_training(run, OPTIONS)
    (run.save_dir / name).write_text(content)
    with pytest.raises(ParityError, match=f"{name} is damaged"):
        run_training(experiment(runs, epochs=4), OPTIONS)


def test_a_run_killed_before_its_test_pass_keeps_its_table(runs: Path) -> None:
    run = experiment(runs, epochs=6)
    run_training(run, OPTIONS)
    table = run.load_metrics()
    (run.save_dir / "test_metrics.json").unlink()
    run_training(run, OPTIONS)
    assert run.load_metrics() == table
    assert run.load_test_metrics()


def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(
    runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_training(experiment(runs, epochs=5, run_name="whole"), OPTIONS)
    run = experiment(runs)
    run_training(run, OPTIONS)
    folder = run.save_dir / "checkpoints"
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:1000])
    run_training(experiment(runs, epochs=5), OPTIONS)
    assert "last.ckpt.damaged1" in caplog.text
    assert "previous.ckpt" in caplog.text
    assert (folder / "last.ckpt.damaged1").stat().st_size == 1000
    assert run.load_metrics()[:3] == experiment(runs, epochs=5, run_name="whole").load_metrics()[:3]
    assert run.load_trained_model("last").state_dict().keys()


def test_where_every_checkpoint_is_damaged_nothing_is_touched(runs: Path) -> None:
    run = experiment(runs)
    run_training(run, OPTIONS)
    files = sorted((run.save_dir / "checkpoints").glob("*.ckpt"))
    for path in files:
        path.write_bytes(b"no checkpoint")
    with pytest.raises(ParityError, match=r"every checkpoint in .* is damaged \(last.ckpt, previous.ckpt, best.ckpt\)"):
        run_training(experiment(runs, epochs=5), OPTIONS)
    assert sorted((run.save_dir / "checkpoints").iterdir()) == files


def test_seeds_differ_and_repeat(runs: Path) -> None:
    prints = []
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        run = experiment(runs, epochs=1, seed=seed, run_name=name)
        run_training(run, OPTIONS)
        model = run.load_trained_model("last")
        prints.append(fingerprint(model))
    assert prints[0] == prints[1] != prints[2]


def test_several_parity_models(runs: Path) -> None:
    run = experiment(runs, "mlp_k3_linear_r2", epochs=2)
    run_training(run, OPTIONS)
    model = run.load_trained_model()
    assert isinstance(model, CodedModel)
    assert len(model.parity_models) == 2
    assert fingerprint(model.parity_models[0]) != fingerprint(model.parity_models[1])


def test_a_run_that_was_copied_or_linked_is_found_where_it_is_named(runs: Path, tmp_path: Path) -> None:
    folder = runs / "Digits" / "original" / "mlp_base"
    copy = Experiment(shutil.copytree(folder, tmp_path / "copy"))  # this was IndexError: 2
    assert (copy.experiment_name, copy.run_name, copy.base_directory) == ("mlp_base", "copy", Path("experiments"))
    linked = tmp_path / "linked" / "Digits"
    (linked / "original").mkdir(parents=True)
    (linked / "original" / "mlp_base").symlink_to(tmp_path / "copy")
    (tmp_path / "whole").mkdir()
    (tmp_path / "real").symlink_to(linked)
    (tmp_path / "whole" / "Digits").symlink_to(tmp_path / "real")
    for base_directory in (tmp_path / "linked", tmp_path / "whole"):
        found = Experiment(base_directory / "Digits" / "original" / "mlp_base")
        assert (found.base_directory, found.run_name) == (base_directory, "mlp_base")
        assert found.available_checkpoints() == ["best", "last", "previous"]
    (tmp_path / "latest").symlink_to(folder)
    assert Experiment(tmp_path / "latest").base_directory == runs.resolve()


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="is not the folder of a run"):
        Experiment(tmp_path)
    with pytest.raises(ParityError, match="a run name is the name of one folder"):
        Experiment("Digits", "mlp_base", run_name="../elsewhere")


def test_overrides_of_what_the_data_is_are_the_base_models_too() -> None:
    parity = Experiment("SpeechCommands", "lenet_k2_add", overrides={"data.version": "0.02", "data.batch_size": 8})
    model = parity.get_model()
    assert model.decoder.prediction_shape == (35,)
    assert model.base_model(torch.rand(1, 1, 161, 101)).shape == (1, 35)
    assert parity.base_experiment is not None
    assert parity.base_experiment.overrides == {"data.version": "0.02"}


def test_queries_of_another_shape_than_the_base_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.experiments.experiment._EACH_RUN_ITS_OWN", {"size"})
    parity = Experiment("CatVsDog", "small_resnet_k2_add", overrides={"data.size": 32})
    with pytest.raises(ParityError, match=r"queries of shape \(3, 32, 32\), its base model small_resnet_base of"):
        parity.get_model()


def test_a_run_with_a_schedule_cannot_be_made_longer(runs: Path) -> None:
    def identity(epochs: int) -> Identity:
        scheduled = Experiment("DigitBoxes", "convnet_base", overrides={"trainer.max_epochs": epochs})
        return scheduled.identity(None)

    folder = runs / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "config.json").write_text(json.dumps(identity(3).plain()))
    own = RunFolder.of_experiment(folder)
    own.check(identity(3))
    with pytest.raises(ParityError, match=r"config\.trainer\.max_epochs: 3 -> 4"):
        own.check(identity(4))


def test_how_many_processes_read_is_not_part_of_a_run(runs: Path) -> None:
    folder = runs / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    with_two = Experiment("CatVsDog", "small_resnet_base", overrides={"data.num_workers": 2})
    (folder / "config.json").write_text(json.dumps(with_two.identity(None).plain()))
    RunFolder.of_experiment(folder).check(Experiment("CatVsDog", "small_resnet_base").identity(None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(trained=("encoder",)), "nothing in encoder can be trained"),
        (dict(trained=("decoders",)), "'trained' is a tuple of some of encoder, parity_models, decoder, not"),
        (dict(trained=()), "'trained' is a tuple of some of"),
    ],
)
def test_what_cannot_be_trained_is_refused(monkeypatch: pytest.MonkeyPatch, changes: dict, message: str) -> None:
    own = Experiment("Digits", "mlp_k2_add")
    monkeypatch.setattr(own, "config", update_config(own.config, changes))
    with pytest.raises(ParityError, match=message):
        own.get_model()


OLD_CONFIG = Path(__file__).parent / "data" / "config_of_a447963.json"
"""Of a run of mlp_k3_add by commit a447963, which had no version and modules in its names."""


def test_a_run_of_an_older_commit_is_resumed_and_evaluated(
    runs: Path, caplog: pytest.LogCaptureFixture, evaluate: Callable[..., int]
) -> None:
    run = experiment(runs, "mlp_k3_add", epochs=2)
    run_training(run, OPTIONS)
    file = run.save_dir / "config.json"
    old = json.loads(OLD_CONFIG.read_text())
    old["base_weights_sha256"] = json.loads(file.read_text())["base_weights_sha256"]
    old["config"]["trainer"]["max_epochs"] = 2
    file.write_text(json.dumps(old))
    for path in run.save_dir.glob("checkpoints/*.ckpt"):  # they carried no identity then
        content = torch.load(path, weights_only=True)
        content.pop("run", None)
        torch.save(content, path)

    with caplog.at_level("INFO", logger="parity"):
        run_training(run, OPTIONS)
        assert "this run is finished" in caplog.text
        run_training(experiment(runs, "mlp_k3_add", epochs=3), OPTIONS)
    assert "resuming after epoch 2 of 3" in caplog.text
    assert isinstance(Experiment(run.save_dir).load_trained_model(), CodedModel)
    assert evaluate("--dataset", "Digits", "--experiment_name", "mlp_k3_add", "--base_directory", str(runs)) == 0

    old["config"]["optimizer"]["lr"] = 0.5
    file.write_text(json.dumps(old))
    with pytest.raises(ParityError, match=r"with other settings: config\.optimizer\.lr: 0\.5 -> 0\.001\. "):
        run_training(experiment(runs, "mlp_k3_add", epochs=4), OPTIONS)


MADE: list[bool] = []


@dataclass(frozen=True)
class Fast:
    """An optimiser factory with a field that came later."""

    lr: float = 1e-3
    fused: bool = field(default=True, metadata={ABSENT: False})

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        MADE.append(self.fused)
        return torch.optim.Adam(parameters, lr=self.lr)


def fast(runs: Path, epochs: int, optimizer: Fast = Fast(), **kwargs: object) -> Experiment:
    own = experiment(runs, epochs=epochs, **kwargs)
    own.config = frozen(update_config(own.config, dict(optimizer=optimizer)))
    return own


def test_a_run_from_before_a_field_was_there_is_resumed_as_it_began(runs: Path, tmp_path: Path) -> None:
    file = fast(runs, 1).save_dir / "config.json"
    run_training(fast(runs, 1, Fast(fused=False)), OPTIONS)
    content = json.loads(file.read_text())
    del content["config"]["optimizer"]["fused"]
    file.write_text(json.dumps(content))

    for epochs in (2, 3):  # the second time the field is there
        MADE.clear()
        run_training(fast(runs, epochs), OPTIONS)
        assert set(MADE) == {False}
        assert json.loads(file.read_text())["config"]["optimizer"]["fused"] is False
    MADE.clear()
    from_it = RunOptions(hardware=Hardware("cpu"), resume_from=fast(runs, 3).checkpoint("last"))
    run_training(fast(runs, 4, run_name="another"), from_it)
    assert set(MADE) == {False}

    with pytest.raises(ParityError, match=r"optimizer\.lr: 0\.001 -> 0\.5"):
        run_training(fast(runs, 4, Fast(lr=0.5)), OPTIONS)
    MADE.clear()
    run_training(fast(runs, 1), RunOptions(hardware=Hardware("cpu"), resume=False))
    assert set(MADE) == {True}
    assert json.loads(file.read_text())["config"]["optimizer"]["fused"] is True


def test_resume_from_a_bare_file_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(experiment(runs, epochs=1), OPTIONS)
    monkeypatch.chdir(experiment(runs).save_dir / "checkpoints")
    second = experiment(runs, epochs=2, run_name="second")
    run_training(second, RunOptions(hardware=Hardware("cpu"), resume_from=Path("last.ckpt")))
    assert [row["epoch"] for row in second.load_metrics()] == [2]


class FoldedDigitsDataModule(DigitsDataModule):
    """Digits with one more argument that the data depends on."""

    def __init__(
        self, k: int = 1, batch_size: int = 32, num_validation: int = 240, seed: int = 0, fold: int = 0
    ) -> None:
        super().__init__(k=k, batch_size=batch_size, num_validation=num_validation, seed=seed)
        self.fold = fold


OWN_DATA = """
from parity.experiments.Digits.original.experiment_parameters import CONFIGS as ORIGINAL
from parity.experiments.config import update_config

SHORT = dict(data=dict(fold=0), trainer=dict(max_epochs=1))
CONFIGS = {
    "own_base": update_config(ORIGINAL["mlp_base"], SHORT),
    "own_k2": update_config(ORIGINAL["mlp_k2_add"], dict(SHORT, base="own_base")),
}
"""


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """A base directory; the configs of ``own_k2`` and its base have ``data.fold`` to override."""
    file = tmp_path / "configs" / "FoldedDigits" / "own" / "experiment_parameters.py"
    file.parent.mkdir(parents=True)
    file.write_text(OWN_DATA)
    catalogue.add_experiments_path(tmp_path / "configs")
    return tmp_path / "runs"


def own(runs: Path, name: str = "own_k2", **overrides: object) -> Experiment:
    return Experiment("FoldedDigits", name, base_directory=runs, overrides=overrides)


def test_other_data_has_a_base_model_of_its_own(own_data: Path) -> None:
    run_training(own(own_data), OPTIONS)
    other = Experiment(
        "FoldedDigits", "own_k2", base_directory=own_data, run_name="other", overrides={"data.fold": "1"}
    )
    run_training(other, OPTIONS)
    bases = [own_data / "FoldedDigits" / "own" / name / "config.json" for name in ("own_base", "own_base-data.fold=1")]
    assert [json.loads(base.read_text())["config"]["data"]["fold"] for base in bases] == [0, 1]
    assert other.base_experiment is not None
    assert "--run_name own_base-data.fold=1 --set data.fold=1" in other.base_experiment.command()


def test_a_base_model_that_other_data_was_trained_into_is_refused(own_data: Path) -> None:
    run_training(own(own_data, "own_base", **{"data.fold": 1, "data.batch_size": 64}), OPTIONS)
    with pytest.raises(
        ParityError, match=r"was trained with other settings: config\.data\.fold: 1 -> 0\. .*own_base --"
    ):
        run_training(own(own_data), OPTIONS)
    run_training(own(own_data, **{"data.fold": 1}), OPTIONS)  # what that base model was trained on
    assert sorted(path.name for path in (own_data / "FoldedDigits" / "own").iterdir()) == ["own_base", "own_k2"]


def test_an_unfinished_base_model_of_other_settings_is_refused_by_its_own_command(own_data: Path) -> None:
    base = own(own_data, "own_base", **{"optimizer.lr": 0.5})
    run_training(base, OPTIONS)
    (base.save_dir / "test_metrics.json").unlink()
    with pytest.raises(
        ParityError, match=r"lr: 0\.5 -> 0\.001\. Move .* again: python .* own_base --.*-force-no-resume"
    ):
        run_training(own(own_data), OPTIONS)


def test_validation_on_queries_that_the_base_model_was_trained_on_is_warned_of(
    own_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_training(own(own_data, **{"data.num_validation": 100}), OPTIONS)
    assert "was trained on" not in caplog.text
    run_training(
        Experiment(
            "FoldedDigits", "own_k2", base_directory=own_data, run_name="b", overrides={"data.num_validation": 300}
        ),
        OPTIONS,
    )
    assert "data.num_validation = 300 holds out 60 queries that the base model own_base was trained on" in caplog.text
