"""One trial: a short training through ``fit``, and what is recorded of it."""

import functools
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from parity.analyses.grid import Trial
from parity.analyses.probe import layer_profile
from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data import GroupDataModule, get_datamodule_class
from parity.errors import ParityError
from parity.metrics import BaseAccuracy, ReconstructionAccuracy
from parity.models import load_into, read_weights
from parity.models.layered_mlp import LayeredMLP
from parity.plain import walk
from parity.storage.files import written_whole
from parity.tasks import Classification
from parity.training.loop.fit import fit
from parity.training.loop.hardware import Hardware
from parity.training.loop.lit_module import BaseLitModule, BurstModule, ParityLitModule
from parity.training.loop.optimizer_steps import StepOptions
from parity.training.loop.progress import TrainingProgress
from parity.training.objectives.losses import CrossEntropy, Distance, ParityTargetLoss
from parity.training.objectives.optimizers import SGD, OptimizerFactory
from parity.training.predictive_coding import (
    HalfSquaredError,
    MeanEnergy,
    ParityPredictiveCodingLitModule,
    PredictiveCoding,
    PredictiveCodingLitModule,
    stages_of,
)

K = 2
"""Queries in a coding group of parity trials."""

BEYOND = 2.0
"""A training has diverged when the loss ends above so many times that of the untrained network, or as no number."""

_VALIDATION_IMAGES = 2000
_BASE = dict(
    rule="bp", width=128, optimizer="adamw", lr=0.003, state_lr=None, steps=None, state_init=None, batch_size=64
)
"""How the base model of parity trials is trained, the same for all of a task."""
_BASE_EPOCHS = 20


def run_trial(trial: Trial, folder: Path) -> dict[str, Any]:
    """Train, and return what is recorded, as JSON can hold it.

    Args:
        trial: what.
        folder: of the study: a base model that is not there yet is trained and kept in it.

    Returns:
        The trial's settings, ``accuracy`` (A_d of a parity model), ``reconstruction_accuracy`` (of a parity model) and
        ``loss`` of the last epoch on validation data; ``diverged`` and ``diverged_epoch``, from which on it stayed so;
        ``train_losses``, ``accuracies`` and ``gradient_norms`` of all finished epochs; ``start`` and ``end``, the
        layers' profiles before and after training on one batch of validation data; ``seconds``.

    Raises:
        ParityError: bad settings, or data that is not there.
    """
    started = time.perf_counter()
    base = _base_network(trial, folder) if trial.parity else None
    pl.seed_everything(trial.seed, verbose=False)
    datamodule = _data(trial)
    module = _module(trial, datamodule, base)
    start = _profile(trial, module, datamodule)
    rows, broken_epoch = _train(trial, module, datamodule)
    measures = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    losses = [row["train/loss"] for row in rows] + [math.nan] * (broken_epoch is not None)
    untrained = sum(start["energy"][-1])
    diverged_epoch = _diverged_epoch(losses, untrained)
    accuracy = "val/overall_top1" if trial.parity else "val/top1"
    result = {
        **asdict(trial),
        "accuracy": measures[accuracy],
        "reconstruction_accuracy": measures.get("val/reconstruction_top1"),
        "loss": measures["val/loss"],
        "untrained_loss": untrained,
        "diverged": diverged_epoch is not None,
        "diverged_epoch": diverged_epoch,
        "train_losses": losses,
        "accuracies": [row[accuracy] for row in rows],
        "gradient_norms": [row["train/grad_norm"] for row in rows],
        "start": start,
        "end": _profile(trial, module, datamodule),
        "seconds": time.perf_counter() - started,
    }
    return walk(result, _finite)


def _diverged_epoch(losses: list[float], untrained: float) -> int | None:
    """Return the epoch, counted from 1, from which on all losses were too high; None if the last one was not."""
    epoch = None
    for number, loss in reversed(list(enumerate(losses, 1))):
        if loss <= BEYOND * untrained:  # false of NaN
            break
        epoch = number
    return epoch


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _data(trial: Trial) -> GroupDataModule:
    datamodule = _read(trial.dataset, K if trial.parity else 1)
    datamodule.batch_size, datamodule.steps_per_epoch = trial.batch_size, trial.steps_per_epoch
    datamodule.seed = trial.seed
    return datamodule


@functools.cache
def _read(dataset: str, k: int) -> GroupDataModule:
    """Return a data set that is read once for all trials of this process."""
    datamodule_class = get_datamodule_class(dataset)
    return datamodule_class(k=k, num_validation=min(datamodule_class.NUM_VALIDATION, _VALIDATION_IMAGES))


def _network(trial: Trial, datamodule: GroupDataModule) -> LayeredMLP:
    return LayeredMLP(
        datamodule.query_shape,
        _task(trial, datamodule).prediction_shape,
        [trial.width] * trial.hidden_layers,
        trial.activation,
        trial.weight_init,
        resized_to=round(trial.width**0.5) if trial.constant_layer_size else None,
    )


def _task(trial: Trial, datamodule: GroupDataModule) -> Classification:
    if not isinstance(datamodule.task, Classification):
        raise ParityError(f"studies are of classification, which --task {trial.task} is not: try MNIST.")
    if trial.constant_layer_size and trial.width < datamodule.NUM_CLASSES:
        raise ParityError(f"--widths {trial.width} with --constant_layer_size are too few for all classes.")
    return Classification(trial.width) if trial.constant_layer_size else datamodule.task


def _rule(trial: Trial) -> PredictiveCoding:
    """Return how the trial's network learns; of backpropagation, what the layers' profile is taken by."""
    energy: Distance = HalfSquaredError() if trial.parity else CrossEntropy()
    if trial.rule == "bp":
        return PredictiveCoding(energy, steps=0)
    assert trial.state_lr is not None
    assert trial.steps is not None
    assert trial.state_init is not None
    return PredictiveCoding(energy, trial.state_lr, trial.steps, trial.state_init)


def _module(trial: Trial, datamodule: GroupDataModule, base: nn.Module | None) -> BurstModule:
    network, task, rule = _network(trial, datamodule), _task(trial, datamodule), _rule(trial)
    options = StepOptions(track_grad_norm=True)
    if base is None:
        accuracy, optimizer = BaseAccuracy(task), _optimizer(trial)
        if trial.rule == "pc":
            return PredictiveCodingLitModule(network, rule, accuracy, optimizer, options=options)
        return BaseLitModule(network, MeanEnergy(rule.output_energy), accuracy, optimizer, options=options)
    encoder, decoder = LinearEncoder(K, 1, datamodule.query_shape), LinearDecoder(K, 1, task.prediction_shape)
    model = CodedModel(base, encoder, [network], decoder)
    rebuilt = ReconstructionAccuracy(task, K)
    if trial.rule == "pc":
        return ParityPredictiveCodingLitModule(model, rule, rebuilt, _optimizer(trial), options=options)
    loss = ParityTargetLoss(MeanEnergy(rule.output_energy))
    return ParityLitModule(model, loss, rebuilt, _optimizer(trial), options=options)


def _optimizer(trial: Trial) -> OptimizerFactory:
    if trial.optimizer == "sgd":
        return SGD(trial.lr, trial.momentum)
    return functools.partial(torch.optim.AdamW, lr=trial.lr, betas=(trial.momentum, 0.999), weight_decay=1e-4)


def _train(trial: Trial, module: BurstModule, datamodule: GroupDataModule) -> tuple[list[dict[str, float]], int | None]:
    """Train with the one training loop.

    Returns:
        The metrics of each finished epoch, and the epoch that the loss was no number in, if there was one.
    """
    rows, broken_epoch = _Rows(), None
    try:
        fit(
            module,
            datamodule,
            None,
            {"max_epochs": trial.epochs},
            hardware=Hardware("cpu"),
            loggers=[rows],
            callbacks=[TrainingProgress(module.shown)],
        )
    except ParityError:
        if torch.stack(module.step_losses).isfinite().all():
            raise
        broken_epoch = module.current_epoch + 1
    return [row for row in rows.by_epoch.values() if "train/loss" in row], broken_epoch


class _Rows(Logger):
    """Keeps the metrics of each epoch in memory."""

    name, version = "rows", ""

    def __init__(self) -> None:
        super().__init__()
        self.by_epoch: dict[int | None, dict[str, float]] = {}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: they are the trial."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Put metrics into the row of epoch ``step``."""
        self.by_epoch.setdefault(step, {}).update(metrics)


def _profile(trial: Trial, module: BurstModule, datamodule: GroupDataModule) -> dict[str, Any]:
    batch = next(datamodule.loader("val").batches())
    if isinstance(module.model, CodedModel):
        model = module.model
        with torch.no_grad():
            targets: Tensor = model.decoder.parity_targets(model.base_outputs(batch.queries))[:, 0]
        network, queries = model.parity_models[0], model.encoder(batch.queries)[:, 0]
    else:
        network, queries, targets = module.model, batch.queries.flatten(0, 1), batch.targets.flatten(0, 1)
    return layer_profile(_rule(trial), stages_of(network), queries, targets)


def _base_network(trial: Trial, folder: Path) -> nn.Module:
    """Return the base model of a task's parity trials: read, or trained and kept.

    Two processes that train it at once get the same weights, and the later one replaces the file.
    """
    recipe = Trial(task=trial.task, epochs=_BASE_EPOCHS, steps_per_epoch=trial.steps_per_epoch, **_BASE)  # type: ignore[arg-type]
    pl.seed_everything(recipe.seed, verbose=False)
    datamodule = _data(recipe)
    module = _module(recipe, datamodule, None)
    path = folder / "bases" / f"{recipe.id}.pt"
    if path.exists():
        load_into(module.model, read_weights(path), path)
    else:
        _train(recipe, module, datamodule)
        with written_whole(path) as temporary:
            torch.save(module.model.state_dict(), temporary)
    return module.model
