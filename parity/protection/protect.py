"""Any network, with data of any form, made resilient in one call."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parity.black_boxes import BlackBox, DefaultNetworks, is_black_box
from parity.data import GroupDataModule, groups_of
from parity.data.containers import seeded
from parity.data.datamodule import Augmentation
from parity.data.loaders import Scaling
from parity.data.queries import QueriesDataModule, regrouped
from parity.data.tokens import check_vocabulary
from parity.errors import ParityError, cause, did_you_mean
from parity.evaluation.evaluate import evaluate
from parity.protection.black_box import asked
from parity.protection.codes import choose, coded_model, loss_for
from parity.protection.networks import Output, check_alone, check_logits, first_predictions, prepared
from parity.protection.protectable import Factory, Protectable, is_factory
from parity.protection.recipe import Recipe, augmentation_for
from parity.protection.result import Protected
from parity.settings import user_path
from parity.tasks import Classification, Task
from parity.training import Hardware, load_trained, train_model
from parity.training.loop.hardware import make_trainer
from parity.vocabulary import vocabulary_of

log = logging.getLogger(__name__)

_TOWARDS = ("labels", "network")
_LOOKED_AT = 256
_ALONE = 4
"""Queries that are also asked one by one."""


def protect(
    network: Any,
    train_data: Any,
    val_data: Any = None,
    *,
    k: int = 4,
    r: int = 1,
    checkpoints_path: str | Path | None = None,
    output: Output = None,
    code: str | Mapping[str, Any] = "auto",
    factory: Factory | None = None,
    encode_after: str | None = None,
    towards: str | None = None,
    queries: str | None = None,
    targets: str | None = None,
    task: Task | None = None,
    scaling: Scaling | None = None,
    size: int | None = None,
    num_validation: int | None = None,
    augmentation: Augmentation | str | None = "auto",
    recipe: Recipe = Recipe(),
    max_epochs: int | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    name: str = "own data",
    **training: Any,
) -> Protected:
    """Protect a network: choose a code for it, train the code's parity models, and measure what is lost.

    The network itself stays as it is. The same call after a crash or Ctrl-C resumes from ``checkpoints_path``; after
    the last epoch it loads what was trained.

    Args:
        network: returns predictions (B, *P) for queries (B, *Q), logits for classes; or several things, see ``output``.
            A ``torch.nn.Module``, which is copied; or a program that is asked as it is: a path of an ONNX or a
            TorchScript file, a session of onnxruntime, a TorchScript or exported program, an estimator of scikit-learn,
            a function of arrays.
        train_data: single queries, in any form that ``groups_of`` takes: arrays (X, y), a ``Dataset``, a
            ``DataLoader``, dicts, a DataFrame, a folder of images, a datamodule. Without targets, codes are trained
            towards the network's predictions.
        val_data: likewise; without it ``num_validation`` training queries are held out.
        k: queries in a coding group.
        r: parity queries made of a group.
        checkpoints_path: where the training is kept; None keeps nothing, and the last weights are taken.
        output: which part of what the network returns is the prediction: a key or attribute, an index, a function.
        code: 'auto' chooses; 'cells', 'packed', 'grid', 'projection', 'keyed', 'stack', 'add', 'concat' or 'tokens'; or
            ``dict(encoder=..., decoder=..., parity_model=..., loss=...)``, each called with shapes as in a config.
        factory: makes the same architecture, untrained, called with the shapes of a query and of a prediction; used
            where the network cannot take smaller queries. By default networks of no higher cost are made.
        encode_after: the name of one of the network's modules: what it puts out is encoded, and not the queries; for
            sums of embeddings of tokens, for example.
        towards: what is trained on: 'labels', the default where there are any, or 'network', its predictions.
        queries, targets: names of entries of dicts, or of columns of a table.
        task: what predictions are measured by; by default what targets leave no doubt of, ``parity.tasks.task_of``.
        scaling: of stored queries, e.g. ``Scaling(255, mean, std)`` for pixels; it becomes part of the artefact.
        size: side in pixels that images of a folder are resized to.
        num_validation: training queries held out where there is no validation data; by default a tenth, at most 5,000.
        augmentation: of training queries in storage type, (B, *Q) -> (B, *Q); 'auto' moves and mirrors images as far
            as that hardly changes the network's predictions, of a program none; None for none.
        recipe: optimiser, schedule, batches.
        max_epochs: how many epochs; by default the recipe's for this number of queries.
        seed: of everything random in the training.
        accelerator: as Lightning names it.
        name: of the data, in reports.
        training: of ``train_model``: ``resume``, ``progress``, ``precision``, ``callbacks``, ...

    Returns:
        The coded model, with what it was measured to lose on validation data.

    Raises:
        ParityError: the network or the data cannot be used, in one sentence; nothing was trained then, but where a
            program's predictions turn out to have changed meanwhile.
    """
    _check_kinds(
        k=k, r=r, output=output, code=code, factory=factory, encode_after=encode_after, task=task, scaling=scaling,
        augmentation=augmentation,
        recipe=recipe, max_epochs=max_epochs, seed=seed, size=size, num_validation=num_validation,
    )  # fmt: skip
    _check_numbers(training)
    k, r = int(k), int(r)  # of whatever type of integer
    _check_choices(k, towards)
    folder = None if checkpoints_path is None else user_path(checkpoints_path)
    if is_black_box(network):
        base: nn.Module = asked(network, output, None if folder is None else folder / "predictions")
    else:
        base = prepared(network, output)
    data = groups_of(
        train_data, k, val_data=val_data, network=partial(first_predictions, base), queries=queries, targets=targets,
        task=task, scaling=scaling, size=size, name=name, num_validation=num_validation,
        vocabulary=partial(vocabulary_of, base),
    )  # fmt: skip
    few = _few_queries(data)
    if not isinstance(data, QueriesDataModule) and not few.is_floating_point():  # else it was checked as it was read
        vocabulary = vocabulary_of(base, few.shape[1:])
        for split in ("train", "val"):
            check_vocabulary(data, split, vocabulary)
    if isinstance(base, BlackBox):
        base.check(few)
        augmentation = None if augmentation == "auto" else augmentation
    else:
        check_alone(base, few[:_ALONE])
    of = Protectable(
        base, few[:2], first_predictions(base, few[:2]), k, r, factory, encode_after,
        default=DefaultNetworks(base, few),
    )  # fmt: skip
    if isinstance(data.task, Classification):
        check_logits(of.predictions)
    if towards is None:
        towards = "labels" if not isinstance(data, QueriesDataModule) or data.has_labels else "network"
    elif towards == "labels" and isinstance(data, QueriesDataModule) and not data.has_labels:
        raise ParityError("there are no labels to train towards: name them, targets='...', or leave out towards.")
    with seeded(seed):
        choice = choose(code, of)
        model = coded_model(choice, of)
        log.info("code '%s' for %s, k = %d, r = %d: %s", choice.name, type(network).__name__, k, r, choice.why)
        data = _for_training(data, augmentation, recipe, k, seed, base, few)
        epochs = max_epochs or recipe.epochs_for(len(data.rows("train")))
        log.info("training towards %s, for %d epochs of %d steps", towards, epochs, len(data.loader("train")))
        arguments: dict[str, Any] = dict(
            criterion=loss_for(choice, data.task, towards, recipe.temperature),
            monitor=f"val/{'overall' if towards == 'labels' else 'reconstruction'}_{data.task.measures[0]}",
            optimizer=recipe.optimizer, schedule=recipe.schedule, checkpoints_path=folder,
            log_path=None if folder is None else folder / "logs", accelerator=accelerator,
        )  # fmt: skip
        trained = train_model(model, data, epochs, **{**arguments, **training})
    if isinstance(base, BlackBox):  # it was asked for a lot meanwhile
        base.check(few[:2])
    if folder is not None:
        load_trained(model, folder)
    device = make_trainer(Hardware(accelerator), logger=False, enable_checkpointing=False).strategy.root_device
    model.requires_grad_(False).to(device)
    measured = evaluate({choice.name: model}, data, split="val", unavailable=(), timed=False)
    if isinstance(base, BlackBox):
        base.keeping = False  # from here on it is served
    return Protected(model, data, measured, choice.name, choice.why, trained.history)


def _check_choices(k: int, towards: str | None) -> None:
    if towards not in (None, *_TOWARDS):
        raise ParityError(f"towards is 'labels' or 'network', not '{towards}': {did_you_mean(str(towards), _TOWARDS)}")
    if k < 2:
        raise ParityError(f"a code protects k = 2 queries or more together, not k = {k}.")


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "k": (lambda value: _is_count(value, 0), "an integer, the number of queries that are protected together"),
    "r": (lambda value: _is_count(value, 1), "the number of parity queries of a group, 1 or more"),
    "output": (lambda value: value is None or isinstance(value, str) or _is_index(value) or callable(value),
               "a key, an index, or a function of what the network returns"),
    "code": (lambda value: isinstance(value, str | Mapping), "'auto', the name of a code, or dict(encoder=...)"),
    "factory": (lambda value: value is None or is_factory(value),
                "called with the shapes of a query and a prediction, lambda query, prediction: ..."),
    "encode_after": (lambda value: isinstance(value, str | None), "the name of one of the network's modules"),
    "task": (lambda value: isinstance(value, Task | None), "a Task, e.g. Classification(10) of parity.tasks"),
    "scaling": (lambda value: isinstance(value, Scaling | None), "a Scaling of parity.data, e.g. Scaling(255.0)"),
    "augmentation": (lambda value: value is None or value == "auto" or callable(value),
                     "'auto', None, or a function of stored queries (B, *Q)"),
    "recipe": (lambda value: isinstance(value, Recipe), "a Recipe of parity.protection, e.g. Recipe(epochs=50)"),
    "max_epochs": (lambda value: value is None or _is_count(value, 1), "a number of epochs, 1 or more"),
    "size": (lambda value: value is None or _is_count(value, 1), "a side in pixels, 1 or more"),
    "num_validation": (lambda value: value is None or _is_count(value, 1), "a number of training queries, 1 or more"),
    "seed": (lambda value: _is_count(value, 0), "an integer, 0 or more"),
}  # fmt: skip
"""What an argument has to be: a check, and in words."""


def _check_kinds(**given: Any) -> None:
    """Refuse what is of another type or range than it has to be, before the data is read."""
    for name, value in given.items():
        fine, expected = _KINDS[name]
        if not fine(value):
            raise ParityError(f"{name} should be {expected}, not {' '.join(repr(value).split()):.80}.")


_OF_RECIPES = {
    "lr": "recipe=Recipe(optimizer=AdamW(lr=...))",
    "weight_decay": "recipe=Recipe(optimizer=AdamW(weight_decay=...))",
    "batch_size": "recipe=Recipe(queries_per_batch=...)",
    "epochs": "max_epochs=...",
}
"""Numbers that are given otherwise than to ``train_model``."""


def _check_numbers(training: Mapping[str, Any]) -> None:
    for name, instead in _OF_RECIPES.items():
        if isinstance(training.get(name), int | float):
            raise ParityError(f"protect takes no number '{name}': give {instead}.")


@torch.no_grad()
def _few_queries(data: GroupDataModule) -> torch.Tensor:
    """Return the first training queries as networks see them: (B, *Q)."""
    return next(data.loader("train").every_query(_LOOKED_AT))[1].cpu()


def _for_training(
    data: GroupDataModule,
    augmentation: Augmentation | str | None,
    recipe: Recipe,
    k: int,
    seed: int,
    base: nn.Module,
    few: torch.Tensor,
) -> GroupDataModule:
    """Return the data in batches of the recipe, with the augmentation that was asked for."""
    batch_size = recipe.batch_size(k, len(data.rows("train")))
    data = regrouped(data, k, batch_size=batch_size, seed=seed)
    if callable(augmentation) and isinstance(data, QueriesDataModule):
        _check_augmentation(augmentation, data.splits["train"].first(2))
    if augmentation != "auto":
        data.augmentation = augmentation  # type: ignore[attr-defined]  # of those that have one
    elif isinstance(data, QueriesDataModule) and isinstance(data.task, Classification):
        data.augmentation = augmentation_for(base, few)
        log.info("training queries are changed by %s", data.augmentation)
    return data


def _check_augmentation(augmentation: Augmentation, stored: torch.Tensor) -> None:
    """Try an augmentation on stored queries (B, *Q)."""
    try:
        changed = augmentation(stored.clone())
    except Exception as error:  # of a user's own function
        raise ParityError(
            f"the augmentation cannot be called with {tuple(stored.shape)} queries ({cause(error).rstrip('.')})."
        ) from error
    if not isinstance(changed, torch.Tensor) or (changed.shape, changed.dtype) != (stored.shape, stored.dtype):
        raise ParityError(
            f"the augmentation makes another shape or type of {tuple(stored.shape)} queries: let it return as many, of "
            "the same shape and type."
        )
