"""Training in one call, in a notebook or a script, by the same loop as ``train.py``'s."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from parity import terminal
from parity.black_boxes import kept
from parity.data import GroupDataModule
from parity.errors import ParityError, Stopped
from parity.models import load_into
from parity.plain import as_before
from parity.signatures import keywords
from parity.tasks import Task
from parity.training.defaults import accuracy_of, default_criterion
from parity.training.inputs import check_batches_of_one, read_inputs
from parity.training.loggers.epoch_table import EpochTable
from parity.training.loop.checkpoints import check_checkpoint, check_logged, check_saving, model_weights
from parity.training.loop.fit import fit
from parity.training.loop.hardware import Hardware, make_trainer, split_trainer_args
from parity.training.loop.iterables import BatchData
from parity.training.loop.lit_module import BurstModule, lit_module_class
from parity.training.loop.progress import TrainingProgress
from parity.training.loop.run_folder import Identity, RunFolder, Start
from parity.training.loop.running_policies import OF_OPTIMIZER
from parity.training.loop.signals import Interrupts
from parity.training.loop.validation import Validate, Validation
from parity.training.objectives.averaging import EMA, averaged
from parity.training.objectives.optimizers import Adam, OptimizerFactory, ScheduleFactory
from parity.training.step_trial import check_optimizer, check_step

log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """What ``train_model`` returns."""

    model: nn.Module
    """The model that was handed over, trained."""
    history: list[dict[str, float]]
    """What was logged of each epoch, by name: those of this call, or with ``log_path`` all."""


def train_model(
    model: nn.Module,
    data: GroupDataModule | pl.LightningDataModule | Iterable[Any],
    max_epochs: int,
    *,
    criterion: Callable[..., Tensor] | None = None,
    optimizer: OptimizerFactory | None = None,
    schedule: ScheduleFactory | None = None,
    log_path: str | Path | None = None,
    checkpoints_path: str | Path | None = None,
    validate: Validate | None = None,
    val_data: Iterable[Any] | None = None,
    monitor: str | None = None,
    steps_per_epoch: int | None = None,
    accumulate_grad_batches: int = 1,
    gradient_clip_val: float | None = None,
    gradient_clip_algorithm: str = "norm",
    averaging: EMA | None = None,
    task: Task | None = None,
    lit_module: type[BurstModule] | None = None,
    accelerator: str = "auto",
    precision: str = "32-true",
    checkpoint_every: int | None = None,
    save_every_minutes: float | None = 30.0,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[pl.Callback] | pl.Callback = (),
    **policies: Any,
) -> Trained:
    """Train a model; it has the last step's weights then, and is in eval mode.

    The same call after a crash, a kill or a ``KeyboardInterrupt`` resumes from ``checkpoints_path``, and ends with the
    weights of an uninterrupted call: with our datamodules, and with any iterable that yields the same batches again
    when the global random generators are in the same state, as a list or a shuffling ``DataLoader`` does. An iterator
    cannot be started again: what is resumed takes the batches that it yields next. After the last epoch, or where a
    policy ended the training, the same call loads the last weights and does nothing else; with a larger ``max_epochs``
    and no schedule it trains further, unless a policy ended it.

    Args:
        model: a ``CodedModel``, whose parameters with ``requires_grad`` are trained, but for its base model's; or a
            network, (B, *Q) -> (B, *P), to train as a base model.
        data: a datamodule; or an iterable of (queries, targets): of groups (G, k, *Q), (G, k, ...) for a coded model,
            else (B, *Q), (B, ...). Without a length it needs ``steps_per_epoch``. Tensors, arrays and lists are taken;
            floats are cast to the model's type, classes of any integer type to int64.
        max_epochs: the number of epochs.
        criterion: as a config's ``loss``, e.g. ``ParityTargetLoss(nn.MSELoss())``; by default
            ``TargetsAndReconstructions`` for a coded model, cross-entropy for a classification, else squared error.
        optimizer: a factory, called with the parameters; by default ``Adam`` with the numbers that ``lr`` and
            ``weight_decay`` are.
        schedule: a factory of the learning rate's schedule, called with (optimizer, number of steps).
        log_path: for TensorBoard's files and ``metrics.csv``; None logs nothing.
        checkpoints_path: for ``last.ckpt``, ``best.ckpt``, ...; None saves nothing.
        validate: called after each epoch with the model in eval mode; the numbers that it returns by name are logged
            as ``val/<name>``.
        val_data: as ``data``, to validate on after each epoch; our datamodules have their own.
        monitor: logged name of what the best epoch has most of, or least, where the name ends in loss, error, mse,
            rmse, mae or nll; by default the accuracy on validation data, else the first number of ``validate``, else
            every epoch is the best so far.
        steps_per_epoch: of an iterable that has no end, or is cut off there.
        accumulate_grad_batches, gradient_clip_val, gradient_clip_algorithm, accelerator, precision: as Lightning's.
        averaging: of the weights, e.g. ``EMA(0.999)``; ``load_trained(..., ema=True)`` loads it.
        task: what predictions are measured by; by default the datamodule's, or a classification where targets are
            integers, else the loss alone is measured.
        lit_module: a subclass of ``ParityLitModule`` or ``BaseLitModule`` whose ``batch_terms`` is overridden.
        checkpoint_every: also keep ``epoch_<N>.ckpt`` every N epochs.
        save_every_minutes: also save within an epoch, when the last checkpoint is this old.
        resume: resume from what is there; False removes it and restarts.
        progress: show a progress bar.
        callbacks: of Lightning.
        **policies: values and ``Policy`` objects: ``lr`` and ``weight_decay`` go to the optimiser, others to the
            keyword of the criterion (or of an overridden ``batch_terms``) that is named like them.

    Returns:
        The model, and what was logged of each epoch; ``parity.evaluate`` takes it.

    Raises:
        ParityError: bad input of any kind; nothing was trained then.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button; it is saved within the epoch.
    """
    if optimizer is None:
        numbers = [name for name in OF_OPTIMIZER if type(policies.get(name)) in (int, float)]
        optimizer = Adam(**{name: policies.pop(name) for name in numbers})
    callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]  # type: ignore[list-item]
    _check_objects(criterion, optimizer, schedule)
    _check_kinds(model, task, validate, lit_module, callbacks, resume, progress)
    if not isinstance(monitor, str | None):
        raise ParityError(f"monitor is the name of something logged, e.g. 'val/loss', not {monitor!r:.60}.")
    if max_epochs is None:
        raise ParityError("max_epochs is the number of epochs: give one.")
    check_saving(checkpoint_every, save_every_minutes)
    trainer = dict(
        max_epochs=max_epochs, precision=precision, accumulate_grad_batches=accumulate_grad_batches,
        gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm,
    )  # fmt: skip
    options, trainer_args = split_trainer_args(trainer)
    alike = make_trainer(Hardware(accelerator), logger=False, enable_checkpointing=False, **trainer_args)
    described_task = task and {"object": type(task), "prediction_shape": task.prediction_shape}
    inputs = read_inputs(model, data, val_data, task, steps_per_epoch, alike, criterion is None and lit_module is None)
    datamodule, task = inputs.datamodule, inputs.task
    criterion = default_criterion(model, task) if criterion is None else criterion
    folder = RunFolder.of_paths(checkpoints_path, log_path)
    given: dict[str, Any] = dict(
        criterion=criterion, optimizer=optimizer, schedule=schedule, policies=policies, averaging=averaging
    )
    if resume:
        given = as_before(given, folder.stored_settings())
    module = (lit_module or lit_module_class(model))(
        model, given["criterion"], accuracy_of(model, task), given["optimizer"], schedule=given["schedule"],
        options=options, policies=given["policies"], averaging=given["averaging"],
    )  # fmt: skip
    check_optimizer(module)
    if lit_module is None:
        check_step(module, inputs.firsts)
        check_batches_of_one(model, inputs)
    if not datamodule.validation_splits:
        module.monitor, module.shown = None, {}
    module.monitor = monitor or module.monitor
    if validate is None and lit_module is None and not callbacks:  # those may log more
        check_logged(module, module.monitor, datamodule.validation_splits)
    later = dict(
        monitor=monitor, steps_per_epoch=steps_per_epoch, task=described_task, data=_described(datamodule, data)
    )  # fmt: skip
    settings = dict(trainer, model=type(model), lit_module=type(module), **given, **later)
    # A schedule is made for its number of epochs; what older trainings have not stored counts as it is now.
    identity = Identity(settings, epochs="max_epochs", extends=schedule is None, defaults=later)
    report: Callable[[str], None] = terminal.print_line if progress else log.info
    bars = [TrainingProgress(module.shown, print_line=report)] if progress else []
    listeners = [*([Validation(validate)] if validate else []), *bars, *callbacks]
    folder.check_writable()
    with _interrupted() as stop, folder.held(), kept(model):
        start = folder.find(identity, module) if resume else Start()
        loggers = _loggers(folder, start)
        if start.is_end(max_epochs):
            _load_end(start, module)
            report(f"this training is finished, {start.finished()}: nothing to do ({start.checkpoint})")
        else:
            folder.begin(identity, restart=not resume)
            fit(
                module, datamodule, None, trainer_args, hardware=Hardware(accelerator),
                loggers=loggers, callbacks=listeners, checkpoints_path=folder.checkpoints,
                checkpoint_every=checkpoint_every, save_every_minutes=save_every_minutes,
                resume_from=start.checkpoint, stop=stop, run=identity.plain(),
            )  # fmt: skip
            if module.policies.stopped:
                report(f"training was stopped by {module.policies.stopped}")
    model.eval()
    return Trained(model, next(logger.history for logger in loggers if isinstance(logger, EpochTable)))


@contextmanager
def _interrupted() -> Iterator[Interrupts]:
    """Within this block Ctrl-C saves before it raises ``KeyboardInterrupt``."""
    try:
        with Interrupts() as stop:
            yield stop
    except Stopped as stopped:
        raise KeyboardInterrupt from stopped


def _load_end(start: Start, module: BurstModule) -> None:
    assert start.checkpoint is not None, "a training that has ended has left a checkpoint"
    module.load_state_dict(check_checkpoint(start.checkpoint)["state_dict"])


def _loggers(folder: RunFolder, start: Start) -> list[Logger]:
    if folder.logs is None:
        return [EpochTable(None)]
    try:
        return folder.loggers(start.epochs)
    except ParityError as error:
        loggers = folder.loggers(start.epochs, tensorboard=False)  # raises where it is not TensorBoard
        log.warning("%s Only metrics.csv is written.", error)
        return loggers


def load_trained(model: nn.Module, checkpoints_path: str | Path, reload: str = "best", ema: bool = False) -> nn.Module:
    """Load what ``train_model`` has saved into a model of the same shapes; it is in eval mode then.

    Args:
        model: as it was given to ``train_model``.
        checkpoints_path: likewise.
        reload: 'best', 'last' or 'epoch_<N>'.
        ema: load the averaged weights.

    Raises:
        ParityError: there is no such checkpoint, or it has no averaged weights.
    """
    path = RunFolder.of_paths(checkpoints_path, None).checkpoint(reload, "train_model saves them there.")
    checkpoint = check_checkpoint(path)
    state = averaged(checkpoint, path) if ema else checkpoint["state_dict"]
    load_into(model, model_weights(state), path)
    return model.eval()


def _described(datamodule: GroupDataModule, data: Any) -> dict[str, Any]:
    names = ("k", "batch_size", "num_validation", "steps_per_epoch", "seed", "augmentation")
    settings = {} if isinstance(datamodule, BatchData) else {name: getattr(datamodule, name, None) for name in names}
    return {"object": type(data).__name__, **settings, **_own_arguments(data, names)}


def _own_arguments(data: Any, known: Sequence[str]) -> dict[str, Any]:
    """Return the numbers and words that a datamodule of ours was made with, beside the known ones; no path is one."""
    if not isinstance(data, GroupDataModule):
        return {}
    named = {name: getattr(data, name, None) for name in keywords(type(data)) or () if name not in known}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, bool | int | float | str) and "/" not in str(value) and name != "num_workers"
    }


def _check_objects(criterion: object, optimizer: object, schedule: object) -> None:
    """Refuse a class where an object is expected, and an object where a factory is."""
    if isinstance(criterion, type):
        raise ParityError(f"criterion is a class: make an object of it, {criterion.__name__}().")
    if criterion is not None and not callable(criterion):
        raise ParityError(
            f"criterion is called with predictions and targets, and cannot be a {type(criterion).__name__}."
        )
    for name, value, made in (
        ("optimizer", optimizer, "an optimiser of parameters, e.g. Adam(lr=1e-3) of parity.training"),
        ("schedule", schedule, "a schedule of (optimizer, steps), e.g. OneCycle() of parity.training"),
    ):
        if value is not None and (isinstance(value, torch.optim.Optimizer) or not callable(value)):
            raise ParityError(f"{name} is a factory that makes {made}, not a {type(value).__name__}.")


def _check_kinds(
    model: object,
    task: object,
    validate: object,
    lit_module: object,
    callbacks: Sequence[object],
    resume: object,
    progress: object,
) -> None:
    """Refuse what is of another type than it has to be: a sentence for each argument."""
    for name, fine, expected, value in (
        ("model", isinstance(model, nn.Module), "a network or a CodedModel, an object of nn.Module", model),
        ("task", isinstance(task, Task | None), "a Task, e.g. Classification(10) of parity.tasks", task),
        ("validate", validate is None or callable(validate), "called with the model, and returns numbers", validate),
        (
            "lit_module",
            lit_module is None or (isinstance(lit_module, type) and issubclass(lit_module, BurstModule)),
            "a subclass of ParityLitModule or BaseLitModule",
            lit_module,
        ),
        ("resume", isinstance(resume, bool), "True or False", resume),
        ("progress", isinstance(progress, bool), "True or False", progress),
        ("callbacks", all(isinstance(item, pl.Callback) for item in callbacks), "Lightning's, made already", callbacks),
    ):
        if not fine:
            raise ParityError(f"{name} should be {expected}, not {value!r:.80}.")
