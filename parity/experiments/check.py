"""What is wrong with a config, in one sentence, before any work."""

import functools
import inspect
from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from parity.data import get_datamodule_class
from parity.erasures import MOST
from parity.errors import ParityError, did_you_mean
from parity.experiments.config import KEYS, OF_CODES, Config
from parity.models import Demultiplexed, MIMONet, PackedStudents, PerCell, torchvision_model
from parity.signatures import keywords, named, takes
from parity.training import EMA, ParityTargetLoss, ReconstructionLoss, WeightedSum
from parity.training.loop.hardware import split_trainer_args
from parity.training.loop.lit_module import BaseLitModule, ParityLitModule
from parity.training.loop.running_policies import RunningPolicies

TRAINABLE = ("encoder", "parity_models", "decoder")
PARITY_MODELS = ("parity_models",)

_HANDED_ON = (
    (PerCell, "cell_network", 2),
    (PackedStudents, "student", 2),
    (MIMONet, "trunk", 2),
    (Demultiplexed, "trunk", 2),
    (torchvision_model, "constructor", 0),
)
"""Networks that hand further arguments on: to the value of which of theirs, called with how many by position."""

_SET_ELSEWHERE = {
    "accelerator": "--accelerator", "devices": "--devices", "num_nodes": "--num_nodes", "strategy": "--distributed",
    "sync_batchnorm": "--sync_batchnorm", "fast_dev_run": "--fast_dev_run", "detect_anomaly": "--debug",
    "logger": "--csv_logger and the like", "default_root_dir": "--base_directory",
}  # fmt: skip
_SET_BY_PARITY = {
    "callbacks", "enable_checkpointing", "enable_model_summary", "enable_progress_bar", "num_sanity_val_steps",
    "plugins", "use_distributed_sampler",
}  # fmt: skip


def check_config(config: Config, dataset: str, experiment_name: str, own_network: bool = False) -> None:
    """Make sure that a config has what training needs, and nothing that it does not use.

    Args:
        config: of an experiment.
        dataset, experiment_name: for messages, and to find the datamodule.
        own_network: the collection makes its networks itself, from any arguments in ``model``.

    Raises:
        ParityError: it names an unknown key, or has a value that cannot be right.
    """
    where = f"the config of {dataset} {experiment_name}"
    check_keys(config, "", KEYS, where)
    for key in ("data", "model", "code", "trainer", "policies"):
        if key in config and not isinstance(config[key], Mapping):
            raise ParityError(f"'{key}' in {where} is a dict, not {config[key]!r}.")
    _check_needed(config, where)
    check_data(config, dataset, where)
    _check_trainer(config["trainer"], where)
    if not own_network:
        _check_model(config["model"], where)
    if "code" in config:
        _check_code(config, where)
    _check_objects(config, where)
    _check_loss(config["loss"], "code" in config, config.get("policies", {}), where)
    _check_policies(config, where)


def check_keys(values: Config, of: str, known: Collection[str] | None, where: str) -> None:
    """Refuse a key that is not known.

    Args:
        values: a config, or a dict in it.
        of: 'data.' for the one that ``data`` holds.
        known: keys; None for any.
        where: what they are in, for the message.
    """
    if odd := [key for key in values if not isinstance(key, str)]:
        raise ParityError(f"a key of '{of.rstrip('.') or 'config'}' in {where} is {odd[0]!r:.40}: keys are texts.")
    unknown = sorted(values.keys() - known) if known is not None else []
    if known is not None and unknown:
        raise ParityError(f"{where} has an unknown key '{of}{unknown[0]}': {did_you_mean(unknown[0], known)}")


def _check_needed(config: Config, where: str) -> None:
    needed = ["data", "model", "optimizer", "loss", "trainer", "trainer.max_epochs"]
    if "code" in config:
        needed += ["base", *(f"code.{key}" for key in ("k", "r", "encoder", "decoder"))]
    for path in needed:
        key, _, inner = path.partition(".")
        if key not in config or (inner and inner not in config[key]):
            raise ParityError(f"{where} has no '{path}'.")
    if "code" not in config and (of_codes := sorted(OF_CODES & config.keys())):
        raise ParityError(f"{where} has '{of_codes[0]}', which is of parity experiments, and no 'code'.")


def check_data(config: Config, dataset: str, where: str) -> None:
    """Refuse arguments that the data set's datamodule does not take; k is the code's, and the seed the run's."""
    known = keywords(get_datamodule_class(dataset))
    check_keys(config.get("data", {}), "data.", None if known is None else known - {"k", "seed"}, where)


def _check_trainer(trainer: Config, where: str) -> None:
    split_trainer_args(trainer)
    for key in trainer:
        if key in _SET_ELSEWHERE:
            raise ParityError(f"'trainer.{key}' is not part of {where}: it is set by {_SET_ELSEWHERE[key]}.")
        if key in _SET_BY_PARITY:
            raise ParityError(f"'trainer.{key}' is not part of {where}: it is the same in every run.")
    known = set(inspect.signature(pl.Trainer).parameters)
    check_keys(trainer, "trainer.", known - _SET_ELSEWHERE.keys() - _SET_BY_PARITY, where)


def _check_model(model: Config, where: str) -> None:
    if "network" not in model:
        raise ParityError(f"{where} has no 'model.network'.")
    known = _network_keywords("network", model, 2, where)
    check_keys(model, "model.", None if known is None else known | {"network"}, where)


def _network_keywords(key: str, model: Config, positional: int, where: str) -> set[str] | None:
    """Return the arguments that the network under this key takes, with those of the one that it hands some on to."""
    network = model[key]
    _check_constructor(network, f"model.{key}", "the query's and the prediction's shape", where)
    names, any_other = named(network, positional)
    if not any_other:
        return names
    for hands_on, inner, inner_positional in _HANDED_ON:
        if network is hands_on and inner in model:
            further = _network_keywords(inner, model, inner_positional, where)
            return None if further is None else names | further
    return None


def _check_constructor(value: Any, path: str, called_with: str, where: str) -> None:
    if isinstance(value, nn.Module):
        raise ParityError(
            f"'{path}' in {where} is made already: give its class, {type(value).__name__}, which is called with "
            f"{called_with}."
        )
    if not callable(value):
        raise ParityError(f"'{path}' in {where} is called with {called_with}, and {value!r} cannot be called.")


def _check_code(config: Config, where: str) -> None:
    code = config["code"]
    check_keys(code, "code.", {"k", "r", "encoder", "decoder"}, where)
    for key in ("k", "r"):
        if not isinstance(code[key], int) or isinstance(code[key], bool):
            raise ParityError(f"'code.{key}' in {where} is a whole number, not {code[key]!r}.")
        if code[key] > MOST:
            raise ParityError(f"'code.{key}' in {where} is at most {MOST}, not {code[key]:.6g}.")
    for key in ("encoder", "decoder"):
        _check_constructor(code[key], f"code.{key}", "(k, r, shape)", where)
    trained_parts(config)
    if not isinstance(config["base"], str | PathLike):
        raise ParityError(f"'base' in {where} is an experiment's name or a file's path, not {config['base']!r}.")


def trained_parts(config: Config) -> Collection[str]:
    """Return which parts of a code are trained.

    Raises:
        ParityError: there are no such parts.
    """
    trained: Any = config.get("trained", PARITY_MODELS)
    if isinstance(trained, str) or not isinstance(trained, Collection) or not trained or set(trained) - {*TRAINABLE}:
        raise ParityError(f"'trained' is a tuple of some of {', '.join(TRAINABLE)}, not {trained!r}.")
    return trained


def _check_objects(config: Config, where: str) -> None:
    """Refuse what cannot be called, and a class where an object of it was meant."""
    if isinstance(config["optimizer"], torch.optim.Optimizer):
        name = type(config["optimizer"]).__name__
        raise ParityError(
            f"'optimizer' in {where} has parameters already: give what makes one, as parity.training.Adam(lr=1e-3) or "
            f"functools.partial(torch.optim.{name}, lr=1e-3) do."
        )
    makers: tuple[tuple[str, type | tuple[()]], ...] = (
        ("optimizer", torch.optim.Optimizer), ("schedule", LRScheduler), ("parity_init", ()), ("parity_start", ()),
    )  # fmt: skip
    for key, made in makers:
        value = config.get(key)
        if isinstance(value, type) and not issubclass(value, made):
            raise ParityError(f"'{key}' in {where} is a class: make an object of it, {value.__name__}(...).")
        if not callable(value) and (value is not None or key == "optimizer"):
            raise ParityError(f"'{key}' in {where} cannot be called: {value!r}.")
    if not isinstance(config.get("averaging"), EMA | None):
        raise ParityError(f"'averaging' in {where} is an EMA, e.g. EMA(decay=0.999), not {config['averaging']!r}.")


def _check_loss(loss: Any, of_code: bool, policies: Config, where: str) -> None:
    _check_called(loss, "loss", where)
    for part in _distances(loss):
        _check_called(part, f"the distance of {type(loss).__name__}", where)
    if isinstance(loss, WeightedSum):
        for term in loss.losses:
            _check_loss(term, of_code, policies, where)
    elif of_code and (_is_torchs(loss) or not takes(loss, 4, policies)):
        name = getattr(loss, "__name__", f"{type(loss).__name__}()")
        wrapped = f"nn.{name}" if _is_torchs(loss) and isinstance(loss, nn.Module) else name
        raise ParityError(
            f"the loss in {where} is called with decoder, predictions, parity outputs and targets, and {name} is not "
            f"made for these: wrap it, ParityTargetLoss({wrapped})."
        )
    elif not of_code and not takes(loss, 2, policies):
        raise ParityError(
            f"the loss in {where} is called with predictions and targets, and {type(loss).__name__} is not made for "
            "these: a base model is trained with e.g. nn.CrossEntropyLoss()."
        )


def _distances(loss: Any) -> list[Any]:
    return [loss.distance] if isinstance(loss, ParityTargetLoss | ReconstructionLoss) else []


def _check_called(loss: Any, what: str, where: str) -> None:
    if isinstance(loss, type):
        raise ParityError(f"{what} in {where} is a class: make an object of it, {loss.__name__}().")
    if not callable(loss):
        raise ParityError(f"{what} in {where} cannot be called: it is an object as nn.MSELoss() is, not {loss!r}.")


def _is_torchs(loss: Any) -> bool:
    """Return whether this is one of PyTorch's own losses, which compare two tensors."""
    module = getattr(loss, "__module__", None) or ""
    return module.startswith("torch.nn.")


def _check_policies(config: Config, where: str) -> None:
    module: Any = ParityLitModule if "code" in config else BaseLitModule
    step = functools.partial(module.batch_terms, None)
    try:
        RunningPolicies(config.get("policies", {}), step, config["loss"], module.LOSS_ARGUMENTS)
    except ParityError as error:
        raise ParityError(f"in {where}, {error}") from error
