import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder, MLPDecoder, MLPEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.models import MLP
from parity.models.weights import fingerprint
from parity.tasks import Classification
from parity.training import (
    SGD,
    Adam,
    Hardware,
    OneCycle,
    ParityLitModule,
    ParityTargetLoss,
    ReconstructionAccuracy,
    ReconstructionLoss,
    SquaredError,
    StepOptions,
    fit,
)
from parity.training.loggers.epoch_table import EpochTable, read_table
from parity.training.loop.checkpoints import check_checkpoint

CPU = Hardware("cpu")


def coded_model(k: int = 2, base: nn.Module | None = None) -> CodedModel:
    torch.manual_seed(0)
    shapes = DigitsDataModule.QUERY_SHAPE, (10,)
    return CodedModel(
        base or MLP(*shapes), LinearEncoder(k, 1, shapes[0]), [MLP(*shapes)], LinearDecoder(k, 1, shapes[1])
    )


def lit_module(model: CodedModel, lr: float = 1e-3, options: StepOptions = StepOptions()) -> ParityLitModule:
    accuracy = ReconstructionAccuracy(Classification(10), model.k)
    return ParityLitModule(model, ParityTargetLoss(nn.MSELoss()), accuracy, Adam(lr), options=options)


class DropoutBase(nn.Module):
    """A base model with everything that training could disturb: running statistics, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10))

    def forward(self, queries: Tensor) -> Tensor:
        return self.layers(queries)


class NoisyParity(MLP):
    """A parity model that uses random numbers, so that a resumed run needs the generators' states."""

    def forward(self, queries: Tensor) -> Tensor:
        if self.training:
            queries = queries + 0.1 * torch.randn_like(queries)
        return super().forward(queries)


def test_base_model_is_untouched_by_training(tmp_path: Path) -> None:
    base = DropoutBase()
    before = fingerprint(base)
    model = coded_model(base=base)
    parity_before = fingerprint(model.parity_models)
    fit(lit_module(model), DigitsDataModule(k=2), tmp_path, {"max_epochs": 2}, hardware=CPU)
    assert fingerprint(base) == before
    assert fingerprint(model.parity_models) != parity_before
    assert not any(module.training for module in base.modules())


def test_test_data_is_not_read_unless_asked_for(tmp_path: Path) -> None:
    class Guarded(DigitsDataModule):
        def load(self, train: bool) -> tuple[Tensor, Tensor]:
            if not train:
                raise AssertionError("test data was read")
            return super().load(train)

    fit(lit_module(coded_model()), Guarded(k=2), tmp_path, {"max_epochs": 1}, hardware=CPU)
    asked = Guarded(k=2)
    asked.validation_splits = ("val", "test")
    with pytest.raises(ParityError, match="test data was read"):
        fit(lit_module(coded_model()), asked, tmp_path / "asked", {"max_epochs": 1}, hardware=CPU)


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
def test_resumed_run_ends_bit_identical(tmp_path: Path, stopped_after: int) -> None:
    def run(folder: Path, epochs: int, resume_from: Path | None = None) -> tuple[str, list[dict[str, str]]]:
        model = coded_model()
        model.parity_models[0] = NoisyParity(DigitsDataModule.QUERY_SHAPE, (10,))
        torch.manual_seed(7 if resume_from is None else 8)
        table = EpochTable(folder / "metrics.csv", keep=stopped_after if resume_from else 0)
        datamodule = DigitsDataModule(k=2, batch_size=50)
        fit(
            lit_module(model), datamodule, folder, {"max_epochs": epochs},
            hardware=CPU, loggers=[table], resume_from=resume_from,
        )  # fmt: skip
        return fingerprint(model), read_table(folder / "metrics.csv")

    whole = run(tmp_path / "whole", 5)
    run(tmp_path / "parts", stopped_after)
    assert run(tmp_path / "parts", 5, tmp_path / "parts" / "checkpoints" / "last.ckpt") == whole
    assert [int(row["epoch"]) for row in whole[1]] == [1, 2, 3, 4, 5]


def test_rows_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    module = lit_module(coded_model())
    for epochs in (3, 2):  # a crash after epoch 3's row was written, but not its checkpoint
        folder = tmp_path / str(epochs)
        fit(module, DigitsDataModule(k=2), folder, {"max_epochs": epochs}, hardware=CPU,
            loggers=[EpochTable(folder / "metrics.csv")])  # fmt: skip
        module = lit_module(coded_model())
    shutil.copy(tmp_path / "2" / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")
    table = EpochTable(tmp_path / "3" / "metrics.csv", keep=2)
    fit(module, DigitsDataModule(k=2), tmp_path / "3", {"max_epochs": 4}, hardware=CPU, loggers=[table],
        resume_from=tmp_path / "last.ckpt")  # fmt: skip
    assert [row["epoch"] for row in read_table(tmp_path / "3" / "metrics.csv")] == ["1", "2", "3", "4"]


def test_checkpoints(tmp_path: Path) -> None:
    table = EpochTable(tmp_path / "metrics.csv")
    kept = fit(
        lit_module(coded_model(), lr=1e-2), DigitsDataModule(k=2), tmp_path, {"max_epochs": 5},
        hardware=CPU, loggers=[table], checkpoint_every=2,
    )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.ckpt", "epoch_2.ckpt", "epoch_4.ckpt", "last.ckpt", "previous.ckpt"]
    values = [float(row["val/reconstruction_top1"]) for row in read_table(tmp_path / "metrics.csv")]
    assert kept.best_epoch == values.index(max(values)) + 1
    for name, epoch in (("best", kept.best_epoch), ("epoch_2", 2), ("epoch_4", 4), ("last", 5)):
        content = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["epoch"] + 1 == epoch


def test_table_has_a_row_per_epoch_and_every_column(tmp_path: Path) -> None:
    datamodule = DigitsDataModule(k=3)
    datamodule.validation_splits = ("val", "test")
    fit(lit_module(coded_model(k=3)), datamodule, tmp_path, {"max_epochs": 2}, hardware=CPU,
        loggers=[EpochTable(tmp_path / "metrics.csv")])  # fmt: skip
    rows = read_table(tmp_path / "metrics.csv")
    wanted = {f"{split}/{of}_top{top}" for split in ("train", "val", "test") for of in ("overall", "reconstruction")
              for top in (1, 2, 5, 10)} | {f"{split}/loss" for split in ("train", "val", "test")}  # fmt: skip
    assert wanted <= rows[0].keys()
    assert all(row[column] for row in rows for column in wanted)
    positions = [float(rows[0][f"val/overall_top1_position{i}"]) for i in range(3)]
    assert float(rows[0]["val/overall_top1"]) == pytest.approx(sum(positions) / 3)


def test_nan_loss_stops_with_the_step_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    fit(lit_module(coded_model()), DigitsDataModule(k=2), tmp_path, {"max_epochs": 1}, hardware=CPU)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with pytest.raises(ParityError, match=r"the loss was (nan|inf) in step \d+ of epoch 1"):
        fit(lit_module(coded_model(), lr=1e30), DigitsDataModule(k=2), tmp_path, {"max_epochs": 3}, hardware=CPU)
    assert last.read_bytes() == before
    assert not list(last.parent.glob(".*"))


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    weights = []
    for batch_size, options in ((40, StepOptions()), (20, StepOptions(accumulate_grad_batches=2))):
        model = coded_model()
        datamodule = DigitsDataModule(k=2, batch_size=batch_size, num_validation=316)  # leaves 560 = 14 * 40 groups
        fit(lit_module(model, options=options), datamodule, tmp_path / str(batch_size), {"max_epochs": 1}, hardware=CPU)
        weights.append(torch.cat([parameter.flatten() for parameter in model.parity_models.parameters()]))
    untrained = torch.cat([parameter.flatten() for parameter in coded_model().parity_models.parameters()])
    assert (weights[0] - untrained).norm() > 0.1
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)


def test_clipping_and_gradient_norm(tmp_path: Path) -> None:
    norms = []
    for clip in (None, 1e-3):
        model = coded_model()
        module = ParityLitModule(
            model, ParityTargetLoss(nn.MSELoss()), ReconstructionAccuracy(Classification(10), 2),
            lambda parameters: torch.optim.SGD(parameters, lr=1.0),
            options=StepOptions(gradient_clip_val=clip, track_grad_norm=True),
        )  # fmt: skip
        before = [parameter.clone() for parameter in model.parity_models.parameters()]
        datamodule = DigitsDataModule(k=2, batch_size=1000, num_validation=240)
        folder = tmp_path / str(clip)
        fit(module, datamodule, folder, {"max_epochs": 1}, hardware=CPU, loggers=[EpochTable(folder / "metrics.csv")])
        steps = [new - old for old, new in zip(before, model.parity_models.parameters(), strict=True)]
        norms.append(float(torch.nn.utils.get_total_norm(steps)))
        assert float(read_table(folder / "metrics.csv")[0]["train/grad_norm"]) == pytest.approx(norms[0], rel=1e-4)
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_the_schedule_moves_with_every_step_and_is_resumed(tmp_path: Path) -> None:
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_before_optimizer_step(self, trainer: object, module: object, optimizer: torch.optim.Optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    def run(folder: Path, stopped_after: int | None = None) -> str:
        model = coded_model()
        accuracy = ReconstructionAccuracy(Classification(10), 2)
        module = ParityLitModule(
            model, ParityTargetLoss(nn.MSELoss()), accuracy, SGD(lr=0.02), OneCycle(warm_up=0.25),
            StepOptions(accumulate_grad_batches=2),
        )  # fmt: skip
        stop = [StopAfter(stopped_after)] if stopped_after else []
        last = folder / "checkpoints" / "last.ckpt"
        fit(module, DigitsDataModule(k=2, batch_size=50, steps_per_epoch=7), folder, {"max_epochs": 4}, hardware=CPU,
            callbacks=[Rates(), *stop], resume_from=last if last.exists() else None)  # fmt: skip
        return fingerprint(model)

    whole = run(tmp_path / "whole")
    assert len(rates) == 4 * 4, "7 batches of an epoch are 4 optimiser steps"
    assert max(rates) == pytest.approx(0.02)
    assert rates.index(max(rates)) == 3, "a quarter of all steps"
    assert rates[0] < 0.002
    assert rates[-1] < 0.001
    run(tmp_path / "parts", stopped_after=2)
    assert run(tmp_path / "parts") == whole
    assert rates[16:] == rates[:16]


class StopAfter(pl.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


class Shifted(DigitsDataModule):
    """Digits whose training queries are augmented: brighter than they are, each by itself."""

    @staticmethod
    def brighter(stored: Tensor) -> Tensor:
        return stored + torch.randint(0, 8, (len(stored), 1, 1, 1), dtype=torch.uint8)

    AUGMENTATION = brighter


def test_augmented_queries_are_answered_in_the_step_by_the_base_model(tmp_path: Path) -> None:
    asked: list[Tensor] = []

    class Listening(MLP):
        def forward(self, queries: Tensor) -> Tensor:
            asked.append(queries)
            return super().forward(queries)

    seen: list[Tensor] = []
    model = coded_model(base=Listening(DigitsDataModule.QUERY_SHAPE, (10,)))
    model.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    fit(lit_module(model), Shifted(k=2, batch_size=100), tmp_path, {"max_epochs": 2}, hardware=CPU)
    assert not model.base_model.training
    training = [queries for queries in seen if queries.max() > 1]
    assert len(training) == 2 * 6
    answered = {float(queries.double().sum()) for queries in asked}
    assert {float(queries.double().sum()) for queries in training} <= answered
    whole = torch.cat([queries.flatten(0, 1) for queries in training[:6]])
    assert len({tuple(query.flatten().tolist()) for query in whole}) > 1190


def test_encoder_and_decoder_train_around_a_frozen_parity_model(tmp_path: Path) -> None:
    def run(folder: Path, epochs: int, resume_from: Path | None = None) -> CodedModel:
        torch.manual_seed(0)
        shapes = DigitsDataModule.QUERY_SHAPE, (10,)
        base = MLP(*shapes)
        model = CodedModel(base, MLPEncoder(2, 1, shapes[0]), [base], MLPDecoder(2, 1, shapes[1]))
        accuracy = ReconstructionAccuracy(Classification(10), 2)
        module = ParityLitModule(model, ReconstructionLoss(SquaredError()), accuracy, Adam())
        fit(module, DigitsDataModule(k=2), folder, {"max_epochs": epochs}, hardware=CPU, resume_from=resume_from)
        return model

    untrained, whole = run(tmp_path / "none", 1), run(tmp_path / "whole", 4)
    assert fingerprint(untrained.base_model) == fingerprint(whole.base_model)
    for part in ("encoder", "decoder"):
        assert fingerprint(getattr(untrained, part)) != fingerprint(getattr(whole, part))
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 4, tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert fingerprint(resumed) == fingerprint(whole)


def test_callbacks_with_step_hooks_are_called(tmp_path: Path) -> None:
    class Listener(pl.Callback):
        calls = 0

        def on_before_optimizer_step(self, *args: object) -> None:
            Listener.calls += 1

    datamodule = DigitsDataModule(k=2)
    fit(lit_module(coded_model()), datamodule, tmp_path, {"max_epochs": 1}, hardware=CPU, callbacks=[Listener()])
    assert Listener.calls == len(datamodule.loader("train"))


@pytest.mark.parametrize("damage", ["missing", "cut off", "text", "foreign", "another model"])
def test_a_bad_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "last.ckpt"
    fit(lit_module(coded_model()), DigitsDataModule(k=2), tmp_path, {"max_epochs": 1}, hardware=CPU)
    whole = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    if damage == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "another model":
        content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        content["state_dict"]["model.parity_models.0.layers.0.weight"] = torch.zeros(3, 3)
        torch.save(content, path)
    with pytest.raises(ParityError, match=r"last\.ckpt"):
        check_checkpoint(path, lit_module(coded_model()))


@pytest.mark.parametrize("resumed", [True, False])
def test_too_little_memory_is_reported_as_that(tmp_path: Path, resumed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a checkpoint that training cannot resume from."""
    if resumed:
        fit(lit_module(coded_model()), DigitsDataModule(k=2), tmp_path, {"max_epochs": 1}, hardware=CPU)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.read_bytes() if resumed else b""

    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(torch.optim.Optimizer, "load_state_dict" if resumed else "zero_grad", too_much)
    module = lit_module(coded_model())
    with pytest.raises(ParityError, match=r"memory of cpu is too small .* smaller batch size") as raised:
        fit(
            module, DigitsDataModule(k=2), tmp_path, {"max_epochs": 2}, hardware=CPU,
            resume_from=last if resumed else None,
        )  # fmt: skip
    assert "cannot resume" not in str(raised.value)
    assert not resumed or last.read_bytes() == before
