"""Policies: their values by hand, where these go, how they end a run, and that a stopped run goes on with them."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data import GroupBatch
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError, Stopped
from parity.experiments.config import apply_overrides
from parity.models import MLP
from parity.models.weights import read_file
from parity.plain import to_plain
from parity.tasks import Classification
from parity.training import (
    EMA,
    SGD,
    Hardware,
    OneCycle,
    ParityLitModule,
    ReconstructionAccuracy,
    TargetsAndReconstructions,
    fit,
)
from parity.training.loggers.epoch_table import EpochTable, read_table
from parity.training.loop.checkpoints import stopped_early
from parity.training.loop.signals import StopSignals
from parity.training.objectives.policies import (
    Constant,
    DecreasingOnPlateau,
    EarlyStopping,
    Exponential,
    LambdaEpoch,
    LossStop,
    Policy,
    Schedule,
    Switch,
    TimeProfiler,
    ValuePolicy,
)

SHAPES = DigitsDataModule.QUERY_SHAPE, (10,)

# Mean training losses of ten epochs, and what DecreasingOnPlateau makes of them: 1.0 and 0.94 fall (below 0.95), 0.90
# and 0.895 do not (0.89): halved. 0.89 does not, 0.5 does, then 0.46 twice does not (0.45): halved, and once more.
LOSSES = [1.0, 0.94, 0.90, 0.895, 0.89, 0.5, 0.46, 0.46, 0.46, 0.46]

TABLE: list[tuple[ValuePolicy, list[Any]]] = [
    (Constant(3), [3] * 10),
    (Exponential(10, 0.5), [10, 5, 2.5, 1.25, 0.625, 0.3125, 0.15625, 0.078125, 0.0390625, 0.01953125]),
    (Exponential(10, 0.5, step_length=3, min_value=2), [10, 10, 10, 5, 5, 5, 2.5, 2.5, 2.5, 2]),
    (Exponential(1, 4, 2, floordiv=False, max_value=100), [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]),
    (Schedule(1.0, {5: 4, 2: 0.5}), [1, 1, 0.5, 0.5, 0.5, 2, 2, 2, 2, 2]),
    (Schedule.constant_multiplier(8, 0.5, [1, 4]), [8, 4, 4, 4, 2, 2, 2, 2, 2, 2]),
    (Switch("a", {7: "c", 3: "b"}), ["a"] * 3 + ["b"] * 4 + ["c"] * 3),
    (LambdaEpoch(lambda epoch: epoch * epoch), [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]),
    (DecreasingOnPlateau(8, 0.5, patience=1, rtol=0.1, atol=0.05), [8, 8, 8, 8, 4, 4, 4, 4, 2, 2]),
]


@pytest.mark.parametrize(("policy", "values"), TABLE, ids=lambda value: type(value).__name__)
def test_values_over_ten_epochs(policy: ValuePolicy, values: list[Any]) -> None:
    found = []
    for epoch, loss in enumerate(LOSSES):
        policy.epoch_started(epoch)
        found.append(policy.value)
        policy.validation_started(epoch, [loss - 0.25, loss + 0.25])
        policy.epoch_finished(epoch, train_losses=[loss - 0.25, loss + 0.25], metrics={})
    assert found == values


@pytest.mark.parametrize(
    ("losses", "stops_in"),
    [
        ([4, 2, 5.9, 6.1], 3),
        ([1, float("nan")], 1),
        ([1, 2, float("inf")], 2),
        ([3, 2, 1], None),
        ([-1, -2, 1.9, 2.1], 3),
    ],
)
def test_loss_stop(losses: Sequence[float], stops_in: int | None) -> None:
    policy = LossStop(max_ratio=3)
    for epoch, loss in enumerate(losses):
        if epoch == stops_in:
            with pytest.raises(EarlyStopping):
                policy.validation_started(epoch, [loss])
            return
        policy.validation_started(epoch, [loss])
    assert stops_in is None


def test_a_plateau_of_a_negative_loss() -> None:
    policy = DecreasingOnPlateau(8, 0.5, patience=0, rtol=0.1, atol=0.05)
    found = []
    for loss in (-1.0, -1.02, -1.2, -1.2):  # -1.05 is the margin, then -1.25
        policy.epoch_finished(0, train_losses=[loss], metrics={})
        found.append(policy.value)
    assert found == [8, 4, 4, 2]


def test_a_loss_stop_that_would_stop_at_once_is_refused() -> None:
    with pytest.raises(ParityError, match="above 1, not"):
        LossStop(max_ratio=0.5)


class Recorded(TargetsAndReconstructions):
    """Notes the weights that it is called with while training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, *arguments: Any, **weights: Any) -> Tensor:
        if arguments[2].requires_grad:
            self.seen.append(weights["reconstruction_weight"])
        return super().forward(*arguments, **weights)


class Told(Policy):
    """Notes what it is told; ends the run when it is told something."""

    def __init__(self, last: tuple[Any, ...] = ()) -> None:
        self.last, self.heard = last, []

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        if what[: len(self.last)] == self.last and self.last:
            raise EarlyStopping

    def epoch_started(self, epoch: int) -> None:
        self._hear("epoch", epoch)

    def train_step_started(self, epoch: int, iteration: int) -> None:
        self._hear("step", epoch, iteration)

    def train_step_finished(self, epoch: int, iteration: int, loss: float) -> None:
        self._hear("stepped", epoch, iteration, loss)

    def validation_started(self, epoch: int, train_losses: Sequence[float]) -> None:
        self._hear("validation", epoch, list(train_losses))

    def epoch_finished(self, epoch: int, *, train_losses: Sequence[float], metrics: dict[str, float]) -> None:
        self._hear("finished", epoch, list(train_losses), metrics["val/loss"])


class Steps(ValuePolicy):
    """A learning rate that depends on everything that was told so far."""

    def __init__(self) -> None:
        self.value, self.sum = 1e-3, 0.0

    def train_step_started(self, epoch: int, iteration: int) -> None:
        self.value = 1e-3 / (1 + self.sum)

    def train_step_finished(self, epoch: int, iteration: int, loss: float) -> None:
        assert type(loss) is float
        self.sum += loss


class Random(MLP):
    def forward(self, queries: Tensor) -> Tensor:
        return super().forward(queries + 0.1 * torch.randn_like(queries) if self.training else queries)


def lit_module(policies: dict[str, Any], loss: nn.Module | None = None, **options: Any) -> ParityLitModule:
    torch.manual_seed(0)
    model = CodedModel(MLP(*SHAPES), LinearEncoder(2, 1, SHAPES[0]), [Random(*SHAPES)], LinearDecoder(2, 1, SHAPES[1]))
    accuracy = ReconstructionAccuracy(Classification(10), 2)
    lit_class = options.pop("lit_class", ParityLitModule)
    loss = loss or TargetsAndReconstructions()
    return lit_class(model, loss, accuracy, options.pop("optimizer", SGD(1e-3)), policies=policies, **options)


def train(folder: Path, module: ParityLitModule, epochs: int, steps: int = 2, **options: Any) -> list[dict[str, str]]:
    last = folder / "checkpoints" / "last.ckpt"
    resume_from = last if last.exists() else None
    done = read_file(last)["epoch"] + 1 if resume_from else 0
    table = EpochTable(folder / "metrics.csv", keep=done)
    datamodule = DigitsDataModule(k=2, batch_size=8, steps_per_epoch=steps)
    arguments = dict(hardware=Hardware("cpu"), loggers=[table], resume_from=resume_from, **options)
    fit(module, datamodule, folder, {"max_epochs": epochs}, **arguments)
    return read_table(folder / "metrics.csv")


def test_values_go_where_their_names_say_and_are_logged(tmp_path: Path) -> None:
    loss, rates = Recorded(), []

    class Rates(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: torch.optim.Optimizer) -> None:
            (group,) = optimizer.param_groups
            rates.append((group["lr"], group["weight_decay"]))

    given = dict(
        lr=Schedule(1e-3, {1: 0.5}), weight_decay=Exponential(0.1, 0.5), reconstruction_weight=Switch(2.0, {2: 0.5}),
        parity_weight=0.25, time=TimeProfiler(),
    )  # fmt: skip
    rows = train(tmp_path, lit_module(given, loss), 3, callbacks=[Rates()])
    assert rates == [(1e-3, 0.1)] * 2 + [(5e-4, 0.05)] * 2 + [(5e-4, 0.025)] * 2
    assert loss.seen == [2.0, 2.0, 2.0, 2.0, 0.5, 0.5]
    assert [float(row["policy/reconstruction_weight"]) for row in rows] == [2.0, 2.0, 0.5]
    assert [float(row["policy/lr"]) for row in rows] == [1e-3, 5e-4, 5e-4]
    assert {float(row["policy/parity_weight"]) for row in rows} == {0.25}
    assert all(0 < float(row["policy/time/step"]) < float(row["policy/time/epoch"]) for row in rows)
    assert (given["lr"].value, given["reconstruction_weight"].value) == (1e-3, 2.0), "the config's own are as they were"


def test_what_policies_are_told(tmp_path: Path) -> None:
    module = lit_module({"told": Told()})
    rows = train(tmp_path, module, 2)
    heard = module.policies.by_name["told"].heard
    assert [what[:3] if what[0].startswith("step") else what[:2] for what in heard] == [
        told
        for epoch in (0, 1)
        for told in (("epoch", epoch), ("step", epoch, 0), ("stepped", epoch, 0), ("step", epoch, 1),
                     ("stepped", epoch, 1), ("validation", epoch), ("finished", epoch))
    ]  # fmt: skip
    losses = [what[3] for what in heard if what[0] == "stepped"]
    assert [what[2] for what in heard if what[0] in ("validation", "finished")] == [losses[:2]] * 2 + [losses[2:]] * 2
    assert sum(losses[:2]) / 2 == pytest.approx(float(rows[0]["train/loss"]))
    assert [repr(what[3]) for what in heard if what[0] == "finished"] == [row["val/loss"] for row in rows]


class Weighted(ParityLitModule):
    """A training step of one's own."""

    def batch_terms(self, batch: GroupBatch, split: str, *, doubled: float = 1.0) -> Any:
        terms, outputs = super().batch_terms(batch, split)
        return {name: doubled * term for name, term in terms.items()}, outputs


def test_an_overridden_step_takes_values(tmp_path: Path) -> None:
    losses = [
        float(train(tmp_path / str(value), lit_module({"doubled": value}, lit_class=Weighted), 1, 1)[0]["train/loss"])
        for value in (1, Constant(2.0))
    ]
    assert losses[1] == pytest.approx(2 * losses[0])


class Unplain(Policy):
    def __init__(self) -> None:
        self.seen = {1, 2}


@pytest.mark.parametrize(
    ("policies", "options", "message"),
    [
        ({"reconstruction_wait": 1.0}, {}, r"nothing takes the value 'reconstruction_wait'.*'reconstruction_weight'"),
        ({"lr": 1.0}, {"schedule": OneCycle()}, "both set the learning rate"),
        ({"stop": LossStop}, {}, "is a class"),
        ({"lr": "fast"}, {}, "a number or a policy"),
        ([LossStop()], {}, "by their keywords"),
        ({"mine": Unplain()}, {}, r"Unplain\.seen is a set"),
        ({}, {"averaging": 0.999}, "averaging is an EMA"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(policies: Any, options: Any, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        lit_module(policies, **options)


class StopIn(pl.Callback):
    """Lets a signal be heard after a burst of training or of validation, or in an epoch's end."""

    def __init__(self, stop: StopSignals, when: tuple[str, int, int]) -> None:
        self.stop, self.when = stop, when

    def _hear(self, *now: Any) -> None:
        if now == self.when:
            self.stop.received = signal.SIGTERM

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._hear("step", trainer.current_epoch, args[3])

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._hear("validation", trainer.current_epoch, args[3])

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._hear("epoch", trainer.current_epoch, 0)


def everything(folder: Path, stop_in: tuple[str, int, int] | None = None) -> Any:
    """Train four epochs of 20 steps with policies of all kinds, or go on; return all that must be the same."""
    policies = dict(
        lr=Steps(), stop=LossStop(1.05), told=Told(),
        reconstruction_weight=DecreasingOnPlateau(0.1, 0.5, patience=0, rtol=0.9, atol=9.0),
    )  # fmt: skip
    stop = StopSignals()
    callbacks = [StopIn(stop, stop_in)] if stop_in else []
    module = lit_module(policies, averaging=EMA(0.9))
    rows = train(folder, module, 4, 20, callbacks=callbacks, stop=stop)
    checkpoint = read_file(folder / "checkpoints" / "last.ckpt")
    return rows, checkpoint["policies"], checkpoint["state_dict"], checkpoint["average"], checkpoint["optimizer_states"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return everything(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stopped_in", [("step", 1, 0), ("validation", 2, 0), ("epoch", 1, 0)])
def test_a_run_that_is_stopped_goes_on_with_the_same_values(
    tmp_path: Path, uninterrupted: Any, stopped_in: tuple[str, int, int]
) -> None:
    rows, state, weights, average, optimizer = uninterrupted
    values = [float(row["policy/reconstruction_weight"]) for row in rows]
    assert values == [0.1, 0.1, 0.05, 0.025], "the loss does not fall by nine tenths in an epoch"
    with pytest.raises(Stopped):
        everything(tmp_path, stopped_in)
    resumed = everything(tmp_path)
    assert resumed[:2] == (rows, state)
    for ours, theirs in ((resumed[2], weights), (resumed[3], average)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    torch.testing.assert_close(resumed[4], optimizer, rtol=0, atol=0)
    assert any(not torch.equal(average[name], weights[f"model.{name}"]) for name in average)


@pytest.mark.parametrize(
    ("last", "epochs", "losses"),
    [
        (("epoch", 2), 2, 0),
        (("step", 1, 0), 2, 1),
        (("stepped", 1, 0), 2, 1),
        (("validation", 1), 2, 2),
        (("finished", 0), 1, 2),
    ],
)
def test_a_policy_ends_the_run_and_it_stays_ended(
    tmp_path: Path, last: tuple[Any, ...], epochs: int, losses: int
) -> None:
    module = lit_module({"told": Told(last)})
    assert len(train(tmp_path, module, 4)) == epochs
    assert len(module.step_losses) == losses
    checkpoint = read_file(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint["epoch"] + 1 == epochs
    assert (stopped_early(checkpoint) or "").startswith("told (Told)")
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
    again = lit_module({"told": Told(last)})
    train(tmp_path, again, 4)
    assert again.policies.by_name["told"].heard == module.policies.by_name["told"].heard
    assert all(torch.equal(mine, its) for mine, its in zip(again.parameters(), module.parameters(), strict=True))


def test_loss_stop_ends_a_run_whose_loss_is_no_number(tmp_path: Path) -> None:
    given = {"stop": LossStop(None)}
    assert len(train(tmp_path, lit_module(given, optimizer=SGD(1e30)), 4)) == 1
    assert "nan" in (stopped_early(read_file(tmp_path / "checkpoints" / "last.ckpt")) or "")


def test_nothing_is_trained_before_a_first_epoch_that_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="before its first epoch by the policy told"):
        train(tmp_path, lit_module({"told": Told(("epoch", 0))}), 4)


def test_a_config_shows_policies_and_takes_overrides_of_them() -> None:
    config = {"policies": {"lr": Exponential(10, 0.5), "other": LambdaEpoch(float), "mine": Enough()}}
    shown = to_plain(config)["policies"]
    assert shown["lr"] == {"object": "Exponential", "initial": 10, "multiplier": 0.5,
                           "step_length": 1, "floordiv": True, "min_value": None, "max_value": None}  # fmt: skip
    assert shown["other"] == {"object": "LambdaEpoch", "func": "builtins.float"}
    assert shown["mine"].keys() == {"object"}, "nothing that is another in every process"
    assert apply_overrides(config, {"policies.lr.initial": "5"})["policies"]["lr"].value == 5


class Enough(Policy):
    pass


def test_a_named_tuple_cannot_be_kept_by_a_policy() -> None:
    # Its class could not be read back from a checkpoint without running code.
    policy = Policy()
    policy.shape = NamedTuple("Shape", [("width", int), ("height", int)])(3, 4)  # type: ignore[attr-defined]
    with pytest.raises(ParityError, match=r"Policy\.shape is a Shape, which a checkpoint cannot hold"):
        policy.state_dict()
