"""What ``train_model`` is given, as a datamodule; checked on the first batch of every split, before any work."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from parity.coded_model import CodedModel
from parity.data import GroupBatch, GroupDataModule
from parity.data.checks import check_finite as check_finite_values
from parity.data.checks import check_targets
from parity.errors import ParityError, in_one_line
from parity.models.weights import check_finite
from parity.tasks import Classification, Task
from parity.training.loop.batch_form import BatchForm
from parity.training.loop.iterables import BatchData, first_batch
from parity.training.loop.random_states import random_states, set_random_states
from parity.training.loop.validation import evaluating
from parity.training.objectives.losses import loss_terms


class Inputs(NamedTuple):
    """What a training needs of its data."""

    datamodule: GroupDataModule
    task: Task | None
    first: GroupBatch
    """The first batch of training data."""


def read_inputs(
    model: nn.Module,
    data: Any,
    val_data: Iterable[Any] | None,
    task: Task | None,
    steps_per_epoch: int | None,
    trainer: pl.Trainer,
) -> Inputs:
    """Return the data as one of our datamodules, and the task; the first batch of each split is checked.

    Args:
        model, data, val_data, task, steps_per_epoch: of ``train_model``.
        trainer: what a datamodule of Lightning sees as its Trainer while it is set up.

    Raises:
        ParityError: the data is not what the model can be trained on, or the model's weights are not finite.
    """
    check_finite(model)
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
        k, next((value.dtype for value in model.parameters() if value.dtype.is_floating_point), torch.float32)
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
            datamodule.form = replace(form, task=task)
            firsts[split] = datamodule.form.groups(drawn[split][0], where)
        _check_task(prediction, task)
    return Inputs(datamodule, task, firsts["train"])


def _of_datamodule(model: nn.Module, data: GroupDataModule, task: Task) -> Inputs:
    states, firsts = random_states(), {}
    for split in ("train", *data.validation_splits):
        where = f"the {split} data of {data.dataset}"
        check_targets(data.targets(split).cpu(), task, where)
        firsts[split] = next(iter(data.loader(split).batches()))
        check_finite_values(firsts[split].queries.flatten(0, 1), "queries", where)
        _check_task(predictions(model, firsts[split], where), task)
    set_random_states(states)
    return Inputs(data, task, firsts["train"])


def _loaders(
    data: pl.LightningDataModule, val_data: Iterable[Any] | None, trainer: pl.Trainer
) -> tuple[Any, Iterable[Any] | None]:
    """Return what a datamodule of Lightning trains on and validates on."""
    name, own = type(data).__name__, data.trainer
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


def _task(batch: GroupBatch, prediction: Tensor) -> Task | None:
    """Return the classification that integer targets are of, by a prediction (1, *P); None for other targets."""
    if batch.targets.is_floating_point() or prediction.ndim != 2:
        return None
    return Classification(prediction.shape[1])


def _check_task(prediction: Tensor, task: Task | None) -> None:
    if task is None:
        return
    found, expected = tuple(prediction.shape[1:]), task.prediction_shape
    if found != expected and not (isinstance(task, Classification) and len(found) == 1 and found > expected):
        raise ParityError(
            f"the network's predictions have the shape {found}, and the data needs {expected}: change the network's "
            "last layer."
        )


@contextmanager
def user_errors(what: str) -> Iterator[None]:
    """Within this block an error of torch, Lightning or a user's own object ends in a sentence."""
    try:
        yield
    except ParityError:
        raise
    except Exception as error:
        why = in_one_line(error).rstrip(".")
        raise ParityError(f"{what} ({type(error).__name__}: {why}).") from error


@contextmanager
def _tried(model: nn.Module) -> Iterator[None]:
    """Within this block a model can be called; then buffers, modes and random generators are as they were."""
    states = random_states()
    kept = [(module, name, value, value.clone()) for module in model.modules() for name, value in
            module._buffers.items() if value is not None and not is_lazy(value)]  # fmt: skip
    try:
        with torch.no_grad(), evaluating(model):
            yield
    finally:
        set_random_states(states)
        with torch.no_grad():
            for module, name, value, before in kept:
                module._buffers[name] = value.copy_(before)


def _outputs(model: nn.Module, batch: GroupBatch, number: int) -> tuple[Tensor, ...]:
    """Return the predictions for a few queries or groups, and the parity outputs of a coded model."""
    parameter = next(model.parameters(), torch.empty(0))
    queries = batch.queries[:number].to(parameter.device)
    if isinstance(model, CodedModel):
        _, parity_queries = model.encoder.dispatch(queries)
        return model.base_outputs(queries), model.parity_outputs(parity_queries)
    return (model(queries.flatten(0, 1)),)


def predictions(model: nn.Module, batch: GroupBatch, where: str) -> Tensor:
    """Ask a model for its first prediction, in eval mode: (1, *P).

    Raises:
        ParityError: it cannot take the queries, or does not return one tensor.
    """
    what = f"the network cannot take {where}, of queries of shape {tuple(batch.queries.shape[2:])}"
    try:
        with user_errors(f"{what}: hand over queries as it takes them, images as float32 (B, C, H, W)"), _tried(model):
            outputs = _outputs(model, batch, 1)
    except ParityError as error:
        raise ParityError(str(error) if str(error).startswith(what) else f"{what}: {error}") from error
    for output in outputs:
        _check_output(output)
    if not isinstance(model, CodedModel):
        return outputs[0][:1]
    prediction = outputs[0].flatten(0, 1)
    if tuple(prediction.shape[1:]) != model.decoder.prediction_shape:
        raise ParityError(
            f"the base model's predictions have the shape {tuple(prediction.shape[1:])}, and the decoder takes "
            f"{model.decoder.prediction_shape}."
        )
    return prediction[:1]


def _check_output(output: object) -> None:
    if not isinstance(output, Tensor) or not output.ndim:
        raise ParityError(
            f"the network returns a {type(output).__name__}, expected one tensor (B, *P): wrap it in a module whose "
            "forward returns the prediction alone (torchvision's networks with aux_logits=False)."
        )
    if not output.isfinite().all():
        raise ParityError("the network's predictions for the first batch are NaN or infinite: scale the queries.")


def check_step(model: nn.Module, criterion: Callable[..., Tensor], inputs: Inputs, *, with_loss: bool) -> None:
    """Try a training step on a few queries; nothing is changed by it.

    Args:
        model, criterion: of ``train_model``.
        inputs: its data.
        with_loss: whether the criterion can be called without values of policies.

    Raises:
        ParityError: the model or the criterion cannot take them.
    """
    number = min(2, len(inputs.first.queries))
    few = inputs.first.queries[:number], inputs.first.targets[:number]
    if number > 1:
        with user_errors("the network cannot be trained on the first batch of the train data"), _tried(model):
            model.train()
            for output in _outputs(model, inputs.first, number):
                _check_output(output)
        _check_batches_of_one(model, inputs)
    if not with_loss:
        return
    what = f"the criterion {type(criterion).__name__} cannot take the targets of the first batch"
    with user_errors(f"{what}, of shape {tuple(few[1].shape)}"), warnings.catch_warnings(), _tried(model):
        warnings.filterwarnings("error", message="Using a target size")  # torch would broadcast one to the other
        outputs = [output.float() for output in _outputs(model, inputs.first, number)]
        targets = few[1].to(outputs[0].device)
        arguments = (
            (model.decoder, *outputs, targets) if isinstance(model, CodedModel) else (*outputs, targets.flatten(0, 1))
        )
        for value in loss_terms(criterion, *arguments).values():
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ParityError("the criterion returns more than one number: use reduction='mean'.")


def _check_batches_of_one(model: nn.Module, inputs: Inputs) -> None:
    """Make sure that no batch is of one query where batch normalisation needs several numbers for each channel."""
    try:
        with _tried(model):
            model.train()
            _outputs(model, inputs.first, 1)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error) or not isinstance(inputs.datamodule, BatchData):
            return
        inputs.datamodule.need_two()
        if inputs.datamodule.has_last_batch_of_one():
            raise ParityError(
                "the last batch of the train data has one query, which batch normalisation cannot be trained on: use "
                "drop_last=True or another batch_size."
            ) from error
