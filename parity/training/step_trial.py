"""A training step tried on a few queries, before any work: what raises an error would raise it later, or traces."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from parity.coded_model import CodedModel
from parity.data import GroupBatch
from parity.errors import ParityError, cause
from parity.tasks import Classification, Task
from parity.training.loop.lit_module import BurstModule
from parity.training.loop.random_states import random_states, set_random_states
from parity.training.loop.validation import evaluating
from parity.training.objectives.losses import loss_terms


class WrongOutputError(ParityError):
    """A network returns what cannot be trained on."""


@contextmanager
def user_errors(what: str) -> Iterator[None]:
    """Within this block an error of torch, Lightning or a user's own object ends in a sentence."""
    try:
        yield
    except ParityError:
        raise
    except Exception as error:
        raise ParityError(f"{what} ({cause(error).rstrip('.')}).") from error


@contextmanager
def tried(model: nn.Module) -> Iterator[None]:
    """Within this block a model can be called; then buffers, modes and random generators are as they were."""
    states = random_states()
    kept = [(module, name, value, value.clone()) for module in model.modules() for name, value in
            module._buffers.items() if value is not None and not is_lazy(value)]  # fmt: skip
    networks = [model.base_model, *model.parity_models] if isinstance(model, CodedModel) else [model]
    hooks = [network.register_forward_hook(lambda _, __, output: _check_output(output)) for network in networks]
    try:
        with evaluating(model):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        set_random_states(states)
        with torch.no_grad():
            for module, name, value, before in kept:
                module._buffers[name] = value.copy_(before)


def _check_output(output: object) -> None:
    if not isinstance(output, Tensor) or not output.ndim:
        raise WrongOutputError(
            f"the network returns a {type(output).__name__}, expected one tensor (B, *P): wrap it in a module whose "
            "forward returns the prediction alone (torchvision's networks with aux_logits=False)."
        )
    if not output.is_floating_point():
        name = str(output.dtype).removeprefix("torch.")
        raise WrongOutputError(f"the network returns {name}, expected floats: return logits, not the class.")
    if not output.isfinite().all():
        raise WrongOutputError("the network's predictions for the first batch are NaN or infinite: scale the queries.")


def outputs_of(model: nn.Module, batch: GroupBatch, number: int) -> tuple[Tensor, ...]:
    """Return the predictions for a few queries or groups, and the parity outputs of a coded model."""
    parameter = next(model.parameters(), torch.empty(0))
    queries = batch.queries[:number].to(parameter.device)
    if isinstance(model, CodedModel):
        _, parity_queries = model.encoder.dispatch(queries)
        with torch.no_grad():
            predictions = model.base_outputs(queries)
        return predictions, model.parity_outputs(parity_queries)
    return (model(queries.flatten(0, 1)),)


def predictions(model: nn.Module, batch: GroupBatch, where: str) -> Tensor:
    """Ask a model for its first prediction, in eval mode: (1, *P).

    Raises:
        ParityError: it cannot take the queries, or does not return one tensor.
    """
    what = f"the network cannot take {where}, of queries of shape {tuple(batch.queries.shape[2:])}"
    remedy = "hand over queries as it takes them, images as float32 (B, C, H, W)"
    try:
        with torch.no_grad(), tried(model):
            prediction, *parity_outputs = outputs_of(model, batch, 1)
    except WrongOutputError:
        raise
    except ParityError as error:
        raise ParityError(f"{what}: {error}") from error
    except Exception as error:
        raise ParityError(f"{what}: {remedy} ({cause(error).rstrip('.')}).") from error
    if not isinstance(model, CodedModel):
        return prediction[:1]
    prediction = prediction.flatten(0, 1)
    if tuple(prediction.shape[1:]) != model.decoder.prediction_shape:
        raise ParityError(
            f"the base model's predictions have the shape {tuple(prediction.shape[1:])}, and the decoder takes "
            f"{model.decoder.prediction_shape}."
        )
    _check_parity_outputs(model, parity_outputs)
    return prediction[:1]


def _check_parity_outputs(model: CodedModel, parity_outputs: Sequence[Tensor]) -> None:
    """Refuse parity models that put out something else than the decoder takes.

    Raises:
        ParityError: one does.
    """
    needed = model.decoder.parity_shape(model.decoder.prediction_shape)
    for outputs in parity_outputs:
        if tuple(outputs.shape[2:]) != needed:
            raise ParityError(
                f"the parity models put out {tuple(outputs.shape[2:])} for a parity query, and "
                f"{type(model.decoder).__name__} takes {needed}: make their last layer put that out."
            )


def check_task(prediction: Tensor, task: Task | None) -> None:
    """Refuse predictions (1, *P) that a task cannot measure; more classes than there are do not matter.

    Raises:
        ParityError: they are not.
    """
    if task is None:
        return
    found, expected = tuple(prediction.shape[1:]), task.prediction_shape
    if found != expected and not (isinstance(task, Classification) and len(found) == 1 and found > expected):
        raise ParityError(
            f"the network's predictions have the shape {found}, and the data needs {expected}: change the network's "
            "last layer."
        )
    task.measure(prediction, task.as_targets(prediction))  # which raises what it still needs


def check_optimizer(module: BurstModule) -> None:
    """Make what would train a module, and refuse one of something else.

    Raises:
        ParityError: nothing can be trained, or the factory makes no optimiser, or one of other parameters.
    """
    parameters = list(module.trainable_parameters())
    if not parameters:
        raise ParityError("nothing in the model can be trained: no parameter has requires_grad.")
    with user_errors("the optimiser cannot be made"):
        made = module.optimizer_factory(parameters)
    if not isinstance(made, torch.optim.Optimizer):
        raise ParityError(f"optimizer makes a {type(made).__name__}, expected a torch.optim.Optimizer.")
    own = set(map(id, parameters))
    if any(id(parameter) not in own for group in made.param_groups for parameter in group["params"]):
        raise ParityError(
            "the optimiser is one of parameters that this model does not train: make it of those that the factory is "
            "called with, lambda parameters: torch.optim.SGD(parameters, lr=0.1)."
        )


def check_step(module: BurstModule, batches: Mapping[str, GroupBatch]) -> None:
    """Try a training step on a few queries of each split; nothing is changed by it.

    Args:
        module: what is trained, and its loss; one that takes values of policies is not tried.
        batches: by what messages call the split; the first is of training data.

    Raises:
        ParityError: the model or the loss cannot take them.
    """
    first = next(iter(batches.values()))
    what = f"the network cannot be trained on the first batch of {next(iter(batches))}"
    with user_errors(what), torch.no_grad(), tried(module.model):
        module.model.train()
        try:
            outputs_of(module.model, first, 2)
        except ValueError as error:
            if len(first.queries) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise ParityError(
                f"{what}: it has one query, and batch normalisation needs two or more: use a larger batch_size."
            ) from error
    if not module.policies.feed_the_loss:
        for where, batch in batches.items():
            _check_loss(module, batch, where)


def _check_loss(module: BurstModule, batch: GroupBatch, where: str) -> None:
    model, loss = module.model, module.loss
    targets = batch.targets[:2]
    what = f"the criterion {type(loss).__name__} cannot take the targets of the first batch of {where}"
    with user_errors(f"{what}, of shape {tuple(targets.shape)}"), warnings.catch_warnings(), tried(model):
        warnings.filterwarnings("error", message="Using a target size")  # torch would broadcast one to the other
        outputs = [output.float() for output in outputs_of(model, batch, 2)]
        targets = targets.to(outputs[0].device)
        arguments = (
            (model.decoder, *outputs, targets) if isinstance(model, CodedModel) else (*outputs, targets.flatten(0, 1))
        )
        values = list(loss_terms(loss, *arguments).values())
    for value in values:
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ParityError("the criterion returns more than one number: use reduction='mean'.")
    if not any(value.requires_grad for value in values):
        raise ParityError(
            "the loss does not depend on what is trained: neither the network nor the criterion may detach it, or turn "
            "it to classes or plain numbers."
        )
