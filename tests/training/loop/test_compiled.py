"""Compiled runs: one graph for a batch, compiled for its shapes once, in every run of a process."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch._dynamo.utils import counters

from parity.data.digits import DigitsDataModule
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware
from parity.training.loop.lit_module import BurstModule

NAMES = ("mlp_k2_add", "mlp_k3_linear_r2", "mlp_k2_concat", "mlp_k2_learned", "mlp_k2_cells_kl")


class Compilations(pl.Callback):
    """Notes after each epoch, its validation included, how many graphs there are by then, and how many breaks."""

    def __init__(self) -> None:
        self.graphs: list[int] = []

    def on_train_epoch_end(self, *_: Any) -> None:
        self.graphs.append(counters["stats"]["unique_graphs"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let graphs be run as they are traced: what is traced, and when again, is the same."""
    compile_batches = BurstModule.compile_batches
    monkeypatch.setattr(
        BurstModule, "compile_batches", lambda module, mode: compile_batches(module, mode, backend="eager")
    )
    counters.clear()


@pytest.mark.usefixtures("quick")
def test_five_experiments_in_one_process_are_compiled_whole_and_once(digits_base: Path) -> None:
    for name in NAMES:
        overrides = {"trainer.max_epochs": 2}
        experiment = Experiment("Digits", name, base_directory=digits_base, overrides=overrides)
        watch = Compilations()
        run_training(experiment, RunOptions(hardware=Hardware("cpu"), compile="default", callbacks=[watch]))
        assert not counters["graph_break"], name
        assert len(set(watch.graphs)) == 1, name
        assert watch.graphs[0] > 0
        counters.clear()


@pytest.mark.usefixtures("quick")
def test_a_compiled_run_ends_as_another(digits_base: Path) -> None:
    ends = []
    for compiled in (None, "default", "reduce-overhead"):
        experiment = Experiment(
            "Digits", "mlp_k2_add", base_directory=digits_base, run_name=f"compiled={compiled}",
            overrides={"trainer.max_epochs": 2},
        )  # fmt: skip
        ends.append(run_training(experiment, RunOptions(hardware=Hardware("cpu"), compile=compiled)))
    assert ends[0] == ends[1] == ends[2]


def test_what_a_graph_overwrites_was_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph puts its outputs where it put the last ones; here, the last ones become NaN."""
    from parity.metrics import BaseAccuracy
    from parity.models import MLP
    from parity.tasks import Classification
    from parity.training import SGD, BaseLitModule, fit

    def overwriting(function: Any, **_: Any) -> Any:
        last: list[torch.Tensor] = []

        def computed(*arguments: Any, **values: Any) -> Any:
            for tensor in last:
                tensor.data.fill_(torch.nan)
            terms, outputs = function(*arguments, **values)
            last[:] = [each for each in (*terms.values(), *outputs) if each.is_floating_point()]
            return terms, outputs

        return computed

    monkeypatch.setattr(torch, "compile", overwriting)
    ends = []
    for mode in (None, "reduce-overhead"):
        torch.manual_seed(0)
        accuracy = BaseAccuracy(Classification(10))
        module = BaseLitModule(MLP((1, 8, 8), (10,)), torch.nn.CrossEntropyLoss(), accuracy, SGD())
        if mode is not None:
            module.compile_batches(mode)
        fit(module, DigitsDataModule(batch_size=64), None, {"max_epochs": 2}, hardware=Hardware("cpu"))
        ends.append({name: float(value) for name, value in module.trainer.callback_metrics.items()})
    assert ends[0] == ends[1]


def test_graphs_are_of_fixed_shapes() -> None:
    from parity.metrics import BaseAccuracy
    from parity.models import MLP
    from parity.tasks import Classification
    from parity.training import SGD, BaseLitModule, fit

    sizes: list[bool] = []

    def backend(graph: Any, inputs: Any) -> Any:
        sizes.extend(isinstance(each, torch.SymInt) for each in inputs)
        return graph

    module = BaseLitModule(MLP((1, 8, 8), (10,)), torch.nn.CrossEntropyLoss(), BaseAccuracy(Classification(10)), SGD())
    module.compile_batches(backend=backend)  # of the last batch and of validation, shapes are other ones
    fit(module, DigitsDataModule(batch_size=64), None, {"max_epochs": 1}, hardware=Hardware("cpu"))
    assert sizes
    assert not any(sizes)


class Weighted(torch.nn.Module):
    """A loss with a weight that a policy sets."""

    def forward(self, predictions: torch.Tensor, targets: torch.Tensor, *, weight: Any) -> torch.Tensor:
        return weight * torch.nn.functional.cross_entropy(predictions, targets)


def test_a_policys_values_are_not_compiled_in(tmp_path: Path) -> None:
    from parity.metrics import BaseAccuracy
    from parity.models import MLP
    from parity.tasks import Classification
    from parity.training import SGD, BaseLitModule, fit
    from parity.training.objectives.policies import Exponential

    module = BaseLitModule(
        MLP((1, 8, 8), (10,)), Weighted(), BaseAccuracy(Classification(10)), SGD(),
        policies=dict(weight=Exponential(1.0, 0.5)),
    )  # fmt: skip
    counters.clear()
    module.compile_batches(backend="eager")
    watch = Compilations()
    fit(module, DigitsDataModule(batch_size=64), None, {"max_epochs": 4}, hardware=Hardware("cpu"), callbacks=[watch])
    assert len(set(watch.graphs)) == 1
    assert not counters["graph_break"]
