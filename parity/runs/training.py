"""A config turned into a call of fit: base model first, then the run itself, resumed where it stopped."""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from parity.coded_model import CodedModel
from parity.data import GroupDataModule
from parity.errors import ParityError
from parity.evaluation import evaluate_base
from parity.evaluation.costs import parity_model_costs
from parity.experiments.experiment import (
    CONFIG_FILE,
    METRICS_FILE,
    TEST_FILE,
    Experiment,
)
from parity.metrics import BaseAccuracy, ReconstructionAccuracy
from parity.models import load_into, read_weights
from parity.models.weights import fingerprint
from parity.storage.files import DISK_IS_FULL, check_writable, disk_errors, remove_temporaries, write_json
from parity.storage.locks import RunLock
from parity.training.loggers.epoch_table import TENSORBOARD, EpochTable, tensorboard_logger
from parity.training.loggers.wandb_logger import WANDB_ID_FILE, WandbLogger
from parity.training.loop import ranks
from parity.training.loop.checkpoints import (
    CHECKPOINTS,
    check_base_model,
    check_checkpoint,
    model_weights,
    newest_whole,
    steps_within_epoch,
    stopped_early,
)
from parity.training.loop.fit import Hardware, evaluate_on_test, fit, make_trainer, split_trainer_args
from parity.training.loop.lit_module import BurstModule, lit_module_class
from parity.training.loop.progress import TrainingProgress
from parity.training.loop.signals import StopSignals
from parity.wandb_server import check_wandb_project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """What ``train.py`` is asked beside the experiment: none of it changes what a run computes.

    Raises:
        ParityError: what makes no sense.
    """

    hardware: Hardware = field(default_factory=Hardware)
    resume: bool = True
    resume_from: Path | None = None
    train_base: bool = True
    test_every_epoch: bool = False
    checkpoint_every: int | None = None
    save_every_minutes: float | None = 30.0
    grace: float = 60.0
    compile: bool = False
    track_grad_norm: bool = False
    refresh_rate: int = 50
    csv: bool = True
    tensorboard: bool = False
    wandb: bool = False
    wandb_project: str | None = None
    wandb_id: str | None = None
    wandb_name: str | None = None
    wandb_checkpoint: bool = False
    callbacks: Sequence[pl.Callback] = ()

    def __post_init__(self) -> None:
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ParityError(f"checkpoints are kept every 1 epoch or more, not every {self.checkpoint_every}.")
        if self.save_every_minutes is not None and self.save_every_minutes <= 0:
            raise ParityError(f"a run is saved every so many minutes, not every {self.save_every_minutes:g}.")
        if self.grace <= 0:
            raise ParityError(f"a signal leaves some seconds of grace to save in, not {self.grace:g}.")
        if self.resume_from is not None and not self.resume:
            raise ParityError("a run is resumed from a checkpoint or started anew, not both.")

    @property
    def leaves_nothing(self) -> bool:
        """Whether this is a dry run of a few steps."""
        return bool(self.hardware.options.get("fast_dev_run"))


def run_training(
    experiment: Experiment, options: RunOptions = RunOptions(), base_weights: Path | None = None
) -> dict[str, float]:
    """Train an experiment, or go on where its run stopped, and evaluate its best checkpoint on test data, once.

    Args:
        experiment: what to train, and where it lies.
        options: how.
        base_weights: a file of weights for the base model, instead of what the config names.

    Returns:
        The test metrics of the best checkpoint.

    Raises:
        ParityError: bad input of any kind; nothing was written then, or what was there is as it was.
        Stopped: a signal ended it; it is saved, and the same call goes on.
    """
    with StopSignals(options.grace) as stop, disk_errors(experiment.save_dir, DISK_IS_FULL):
        return _train(experiment, options, base_weights, stop)


def _train(
    experiment: Experiment, options: RunOptions, base_weights: Path | None, stop: StopSignals, wait: bool = False
) -> dict[str, float]:
    datamodule = experiment.get_datamodule()
    trainer = _check_before_any_work(experiment, datamodule, options)
    if experiment.is_base and base_weights is not None:
        raise ParityError(f"{experiment.experiment_name} trains a base model: base weights are for parity experiments.")
    ranks.join(trainer)
    datamodule.device = trainer.strategy.root_device
    base_state = None if experiment.is_base else _base_weights(experiment, options, base_weights, stop)
    with contextlib.nullcontext() if options.leaves_nothing else _only_writer(experiment.save_dir, wait):
        return _train_alone(experiment, datamodule, options, base_state, stop)


@contextmanager
def _only_writer(folder: Path, wait: bool) -> Iterator[None]:
    """Lock a run's folder and tidy it up, on rank 0."""
    lock = RunLock(folder, wait)

    def enter() -> None:
        lock.__enter__()
        remove_temporaries(folder)
        remove_temporaries(folder / CHECKPOINTS)

    try:
        ranks.on_first(enter)
        yield
    finally:
        if ranks.rank() == 0:
            lock.__exit__()


def _train_alone(
    experiment: Experiment,
    datamodule: GroupDataModule,
    options: RunOptions,
    base_state: tuple[dict[str, Any], Path] | None,
    stop: StopSignals,
) -> dict[str, float]:
    pl.seed_everything(experiment.seed or 0, verbose=False)
    model = experiment.get_model()
    if isinstance(model, CodedModel) and base_state is not None:
        load_into(model.base_model, *base_state)
        experiment.start_parity_models(model)
    identity = experiment.identity(fingerprint(model.base_model) if isinstance(model, CodedModel) else None)
    module, trainer_args = lit_module(experiment, datamodule, model, options)
    resume_from, done, steps, stopped = ranks.on_first(lambda: _resume_from(experiment, options, identity, module))

    _announce(experiment, datamodule, model, options)
    if resume_from is not None:
        if done > trainer_args["max_epochs"]:
            raise ParityError(f"{resume_from} is of epoch {done}, beyond trainer.max_epochs.")
        if (done >= trainer_args["max_epochs"] or stopped) and ranks.on_first((experiment.save_dir / TEST_FILE).exists):
            why = f", stopped by {stopped}" if stopped else ""
            log.info("this run is finished, after %d epochs%s: nothing to do (%s)", done, why, experiment.save_dir)
            return experiment.load_test_metrics()
        within = f" and {steps} steps" if steps else ""
        log.info("going on after epoch %d%s of %d, from %s", done, within, trainer_args["max_epochs"], resume_from)

    if options.compile:
        for network in [model.base_model, *model.parity_models] if isinstance(model, CodedModel) else [model]:
            network.compile()
    if options.test_every_epoch:
        datamodule.validation_splits = ("val", "test")
    loggers: list[Logger] = []
    if not options.leaves_nothing:
        ranks.on_first(lambda: _begin(experiment.save_dir, identity, options.resume))
        loggers = _loggers(experiment, options, done, str(module.monitor))
    checkpoints = fit(
        module,
        datamodule,
        experiment.save_dir,
        trainer_args,
        hardware=options.hardware,
        loggers=loggers,
        callbacks=[TrainingProgress(module.shown, options.refresh_rate), *options.callbacks],
        checkpoint_every=options.checkpoint_every,
        save_every_minutes=options.save_every_minutes,
        resume_from=resume_from,
        stop=stop,
    )
    if module.policies.stopped:
        log.info("training was stopped by %s", module.policies.stopped)
    if options.leaves_nothing:
        log.info("a dry run: nothing was written")
        return {}
    best = experiment.checkpoint("best")
    load_into(model, model_weights(check_checkpoint(best)["state_dict"]), best)
    return _test(experiment, module, datamodule, options, loggers, checkpoints.best_epoch or 0)


def _check_before_any_work(experiment: Experiment, datamodule: GroupDataModule, options: RunOptions) -> pl.Trainer:
    """Raise what is bound to fail, before a base model is trained or a folder made; return a Trainer like the run's."""
    if options.wandb:
        check_wandb_project(options.wandb_project, options.wandb_id)
    experiment.check_config()
    _, trainer_args = split_trainer_args(experiment.config["trainer"])
    model = experiment.get_model()
    lit_module(experiment, datamodule, model, options)
    trainer = make_trainer(options.hardware, logger=False, enable_checkpointing=False, **trainer_args)
    if not options.leaves_nothing:
        check_writable(experiment.save_dir)
    if options.resume_from is not None:
        check_checkpoint(options.resume_from)
    for split in ("train", "val"):
        datamodule.loader(split)
    try:
        experiment.config["optimizer"](model.parameters())
    except ValueError as error:
        raise ParityError(f"the optimiser of {experiment.experiment_name} cannot be made: {error}.") from error
    return trainer


def _base_weights(
    experiment: Experiment, options: RunOptions, base_weights: Path | None, stop: StopSignals
) -> tuple[dict[str, Any], Path] | None:
    """Return the base model's weights and where they come from; train them first where they are not there yet."""
    base = experiment.base_experiment
    file = base_weights or (None if base else Path(experiment.config["base"]))
    if file is not None:
        state = read_weights(file)
        return model_weights(state) or state, file
    assert base is not None, "a config names its base model"
    finished = ranks.on_first((base.save_dir / TEST_FILE).exists)
    if not finished and not options.train_base:
        raise ParityError(
            f"the base model {base.experiment_name} is not trained: train it first, with {base.command()}"
        )
    if not finished:
        log.info("the base model %s is not trained yet: training it first", base.experiment_name)
        own = replace(
            options, resume=True, resume_from=None, checkpoint_every=None, wandb_id=None, wandb_name=None
        )  # fmt: skip
        _train(base, own, None, stop, wait=True)
        if options.leaves_nothing:
            log.warning("a dry run: the base model is left untrained")
            return None
    path = base.checkpoint("best")
    return model_weights(check_checkpoint(path)["state_dict"]), path


def _resume_from(
    experiment: Experiment, options: RunOptions, identity: dict[str, Any], module: BurstModule
) -> tuple[Path | None, int, int, str | None]:
    """Return the checkpoint to go on from, epochs finished, steps beyond and why it was stopped; None to begin."""
    if not options.resume or options.leaves_nothing:
        return None, 0, 0, None
    experiment.check_identity(identity)
    found = newest_whole(experiment.save_dir / CHECKPOINTS, partial(check_checkpoint, module=module))
    if found is None and options.resume_from is not None:  # else this run has begun already, perhaps from there
        experiment.check_identity(identity, options.resume_from.parents[1])
        found = options.resume_from, check_checkpoint(options.resume_from, module)
    if found is None:
        return None, 0, 0, None
    path, checkpoint = found
    check_base_model(checkpoint["state_dict"], module.model, path)
    return path, checkpoint["epoch"] + 1, steps_within_epoch(checkpoint), stopped_early(checkpoint)


def lit_module(
    experiment: Experiment, datamodule: GroupDataModule, model: nn.Module, options: RunOptions
) -> tuple[BurstModule, dict[str, Any]]:
    steps, trainer_args = split_trainer_args(experiment.config["trainer"], options.track_grad_norm)
    accuracy: BaseAccuracy | ReconstructionAccuracy
    if isinstance(model, CodedModel):
        accuracy = ReconstructionAccuracy(datamodule.task, model.k)
    else:
        accuracy = BaseAccuracy(datamodule.task)
    config = experiment.config
    module = lit_module_class(model)(
        model, config["loss"], accuracy, config["optimizer"], config.get("schedule"), steps,
        config.get("policies", {}), config.get("averaging"),
    )  # fmt: skip
    return module, trainer_args


def _announce(experiment: Experiment, datamodule: GroupDataModule, model: nn.Module, options: RunOptions) -> None:
    loader, config = datamodule.loader("train"), experiment.config
    if isinstance(model, CodedModel):
        what = (
            f"parity model of {experiment.dataset} {experiment.experiment_name}: (k, r) = ({model.k}, {model.r}), "
            f"{type(model.encoder).__name__}, {type(model.decoder).__name__}"
        )
    else:
        what = f"base model {experiment.dataset} {experiment.experiment_name}"
    log.info(
        "training %s: %d epochs of %d steps of %d groups, in %s",
        what, config["trainer"]["max_epochs"], len(loader), datamodule.batch_size, experiment.save_dir,
    )  # fmt: skip
    if isinstance(model, CodedModel):
        if model.parity_models:
            query = torch.zeros(1, *datamodule.query_shape)
            log.info(
                "a parity model has %.2f x the base model's multiply-adds and %.2f x its parameters; encoding: %.2f x",
                *parity_model_costs(model, query),
            )  # fmt: skip
        # The base model is finished: measuring it on test data checks data, scaling and weights, and chooses nothing.
        # Training data that is augmented is not gone through only for this.
        base_model = model.base_model.to(datamodule.device)
        training = ("train", "val") if loader.queries_are_fixed else ("val",)
        for name, splits in (("training" if len(training) > 1 else "validation", training), ("test", ("test",))):
            parts = [evaluate_base(base_model, datamodule.loader(split), datamodule.task) for split in splits]
            queries = sum(part["queries"] for part in parts)
            means = {
                measure: sum(part[measure] * part["queries"] for part in parts) / queries
                for measure in datamodule.task.measures
            }
            log.info("base model on %s data: %s", name, datamodule.task.describe(means, queries))


def _loggers(experiment: Experiment, options: RunOptions, done: int, monitor: str) -> list[Logger]:
    folder = experiment.save_dir
    loggers: list[Logger] = []
    if options.csv:
        loggers.append(EpochTable(folder / METRICS_FILE, keep=done))
    if options.tensorboard:
        loggers.append(tensorboard_logger(folder, done))
    if options.wandb:
        identity = experiment.identity(None)
        names = ("dataset", "collection", "experiment_name", "seed")
        loggers.append(
            WandbLogger(
                folder,
                check_wandb_project(options.wandb_project),
                options.wandb_name or experiment.run_name,
                run_id=options.wandb_id,
                config={**{name: identity[name] for name in names}, **identity["config"]},
                monitor=monitor,
                done=done,
                history=experiment.load_metrics() if done else (),
            )
        )
    return loggers


def _test(
    experiment: Experiment,
    module: BurstModule,
    datamodule: GroupDataModule,
    options: RunOptions,
    loggers: list[Logger],
    best_epoch: int,
) -> dict[str, float]:
    metrics = evaluate_on_test(module, datamodule, options.hardware)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.finish(metrics, best_epoch, experiment.checkpoint("best") if options.wandb_checkpoint else None)
        else:
            logger.log_metrics(metrics, step=best_epoch)
            logger.save()
    ranks.on_first(lambda: write_json(experiment.save_dir / TEST_FILE, {"epoch": best_epoch, "metrics": metrics}))
    names = [name.replace("val/", "test/") for name in dict.fromkeys([*module.shown.values(), str(module.monitor)])]
    log.info("best epoch %d: %s", best_epoch, ", ".join(f"{name} {metrics[name]:.4f}" for name in names))
    return metrics


def _begin(folder: Path, identity: dict[str, Any], resume: bool) -> None:
    if not resume:
        _clear(folder)
    write_json(folder / CONFIG_FILE, identity)
    (folder / TEST_FILE).unlink(missing_ok=True)  # it is of a shorter run


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    for name in (CHECKPOINTS, TENSORBOARD):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (CONFIG_FILE, METRICS_FILE, TEST_FILE, WANDB_ID_FILE):  # W&B's files of it may not be uploaded yet
        (folder / name).unlink(missing_ok=True)
