"""What ``train_model`` is given, as a datamodule; checked on the first batch of every split, before any work."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.data import GroupBatch, GroupDataModule
from parity.data.checks import check_targets
from parity.errors import ParityError
from parity.models.batch_statistics import check_statistics
from parity.models.weights import check_finite
from parity.tasks import Task, task_of
from parity.tasks.checks import check_finite as check_finite_values
from parity.tasks.checks import is_one_hot
from parity.training.loop.batch_form import BatchForm
from parity.training.loop.iterables import BatchData, first_batch
from parity.training.loop.random_states import random_states, set_random_states
from parity.training.step_trial import check_task, outputs_of, predictions, tried, user_errors


class Inputs(NamedTuple):
    """What a training needs of its data."""

    datamodule: GroupDataModule
    task: Task | None
    firsts: dict[str, GroupBatch]
    """The first batches, by what messages call their split; that of training data comes first."""


def read_inputs(
    model: nn.Module,
    data: Any,
    val_data: Iterable[Any] | None,
    task: Task | None,
    steps_per_epoch: int | None,
    trainer: pl.Trainer,
    by_default: bool,
) -> Inputs:
    """Return the data as one of our datamodules, and the task; the first batch of each split is checked.

    Args:
        model, data, val_data, task, steps_per_epoch: of ``train_model``.
        trainer: what a datamodule of Lightning sees as its Trainer while it is set up.
        by_default: whether the criterion is the one that the targets ask for, and takes classes as integers.

    Raises:
        ParityError: the data is not what the model can be trained on, or the model's weights are not finite.
    """
    with user_errors(f"the weights of {type(model).__name__} cannot be read"):
        list(model.parameters())
        model.state_dict()
    check_finite(model)
    check_statistics(model)
    k = model.k if isinstance(model, CodedModel) else None
    if isinstance(data, GroupDataModule):
        if val_data is not None or steps_per_epoch is not None:
            what = "validation data" if val_data is not None else "steps_per_epoch"
            raise ParityError(f"{type(data).__name__} has its own {what}: leave out the argument.")
        if k is not None and data.k != k:
            raise ParityError(f"the model has groups of k = {k}, and {type(data).__name__} of k = {data.k}.")
        return _of_datamodule(model, data, task or data.task)
    if isinstance(data, pl.LightningDataModule):
        data, val_data = _loaders(data, val_data, trainer)
    form = BatchForm(
        k,
        next((value.dtype for value in model.parameters() if value.dtype.is_floating_point), torch.float32),
        ids=isinstance(model, CodedModel) and model.encoder.takes_ids,
    )
    sources = {"train": ("the train data", data)} | ({} if val_data is None else {"val": ("val_data", val_data)})
    drawn = {split: first_batch(source, name) for split, (name, source) in sources.items()}
    datamodule = BatchData(drawn["train"][1], drawn["val"][1] if "val" in drawn else None, form, steps_per_epoch)
    firsts: dict[str, GroupBatch] = {}
    for split, (name, _) in sources.items():
        where = f"the first batch of {name}"
        firsts[split] = datamodule.form.groups(drawn[split][0], where)
        prediction = predictions(model, firsts[split], where)
        if split == "train":
            task = task or _task(firsts[split], prediction)
            if task is None and by_default:
                _check_not_classes(firsts[split], prediction, k, where)
            datamodule.form = replace(form, task=task)
            firsts[split] = datamodule.form.groups(drawn[split][0], where)
        check_task(prediction, task)
    _check_alike(firsts, task)
    datamodule.form = replace(datamodule.form, first=firsts["train"])
    return Inputs(datamodule, task, {sources[split][0]: batch for split, batch in firsts.items()})


def _check_alike(firsts: dict[str, GroupBatch], task: Task | None) -> None:
    """Refuse targets to validate on that are not as those to train on; a task has checked them."""
    if task is None and "val" in firsts:
        train, val = firsts["train"].targets, firsts["val"].targets
        if train.is_floating_point() != val.is_floating_point() or train.ndim != val.ndim:
            found, expected = (f"{_name(of)} of shape {tuple(of.shape[2:])}" for of in (val, train))
            raise ParityError(f"the first batch of val_data: targets are {found}, and to train on {expected}.")


def _of_datamodule(model: nn.Module, data: GroupDataModule, task: Task) -> Inputs:
    states, firsts = random_states(), {}
    task = task.fitted(check_targets(data.targets("train").cpu(), task, f"the train data of {data.dataset}"))
    for split in ("train", *data.validation_splits):
        where = f"the {split} data of {data.dataset}"
        check_targets(data.targets(split).cpu(), task, where)
        firsts[where] = next(iter(data.loader(split).batches()))
        check_finite_values(firsts[where].queries.flatten(0, 1), "queries", where)
        check_task(predictions(model, firsts[where], where), task)
    set_random_states(states)
    return Inputs(data, task, firsts)


def _loaders(
    data: pl.LightningDataModule, val_data: Iterable[Any] | None, trainer: pl.Trainer
) -> tuple[Any, Iterable[Any] | None]:
    """Return what a datamodule of Lightning trains on and validates on."""
    name, own = type(data).__name__, data.trainer
    for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
        if is_overridden(hook, data, pl.LightningDataModule):
            raise ParityError(f"{name}.{hook} would not be called: let the data set or the loader do what it does.")
    data.trainer = own or trainer
    try:
        with user_errors(f"{name} cannot be set up"):
            data.prepare_data()
            data.setup("fit")
            train = data.train_dataloader()
            if val_data is None and is_overridden("val_dataloader", data, pl.LightningDataModule):
                val_data = _only(data.val_dataloader(), name, "val_dataloader")
    finally:
        data.trainer = own
    return _only(train, name, "train_dataloader"), val_data


def _only(loaders: Any, name: str, method: str) -> Any:
    """Return the one of a list or dictionary of loaders; a list of batches is not one."""
    several = list(loaders.values()) if isinstance(loaders, dict) else loaders
    loads = isinstance(several, list | tuple) and all(hasattr(loader, "dataset") for loader in several)
    if not isinstance(loaders, dict) and not loads:
        return loaders
    if len(several) > 1:
        raise ParityError(f"{name}.{method} returns {len(several)} loaders: return one, or hand one over as data.")
    return several[0] if several else None


def _name(targets: Tensor) -> str:
    return str(targets.dtype).removeprefix("torch.")


def _task(batch: GroupBatch, prediction: Tensor) -> Task | None:
    """Return the task that integer targets are of, by a prediction (1, *P); None for other targets."""
    if batch.targets.is_floating_point():
        return None
    with suppress(ParityError):  # integers that the loss alone knows how to take
        return task_of(prediction, batch.targets.flatten(0, 1))
    return None


def _check_not_classes(batch: GroupBatch, prediction: Tensor, k: int | None, where: str) -> None:
    """Refuse floats that can only be meant as classes, by a prediction (1, *P): without a task they are regressed to.

    Raises:
        ParityError: they are one-hot, or one number for each query where several are predicted.
    """
    targets, numbers = batch.targets.flatten(0, 1), prediction[0].numel()
    if tuple(targets.shape[1:]) == tuple(prediction.shape[1:]) and is_one_hot(targets):
        raise ParityError(
            f"{where}: targets of shape {tuple(targets.shape)} look one-hot, and classes are numbers, (N,): hand over "
            "targets.argmax(1), or a criterion if they are to be floats."
        )
    if k is None and numbers > 1 and targets[0].numel() == 1:  # by default a coded model's loss does not need them
        raise ParityError(
            f"{where}: targets are {_name(targets)}, one number for each query, and the network predicts {numbers}: "
            "hand over targets.long() if they are classes."
        )


def check_batches_of_one(model: nn.Module, inputs: Inputs) -> None:
    """Make sure that no batch is of one query where batch normalisation needs several numbers for each channel.

    Raises:
        ParityError: the last one is.
    """
    first = next(iter(inputs.firsts.values()))
    if len(first.queries) == 1:
        return
    try:
        with torch.no_grad(), tried(model):
            model.train()
            outputs_of(model, first, 1)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error) or not isinstance(inputs.datamodule, BatchData):
            return
        inputs.datamodule.need_two()
        if inputs.datamodule.has_last_batch_of_one():
            raise ParityError(
                "the last batch of the train data has one query, which batch normalisation cannot be trained on: use "
                "drop_last=True or another batch_size."
            ) from error
