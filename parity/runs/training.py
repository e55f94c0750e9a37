"""A config turned into a call of fit: base model first, then the run itself, resumed where it stopped."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from parity.coded_model import CodedModel
from parity.data import GroupDataModule
from parity.errors import DamagedFileError, ParityError
from parity.evaluation import evaluate_base
from parity.evaluation.costs import parity_model_costs
from parity.experiments.experiment import Experiment
from parity.models import load_into, read_weights
from parity.models.weights import check_finite, fingerprint
from parity.plain import to_plain
from parity.settings import user_path
from parity.training.defaults import accuracy_of
from parity.training.loggers.wandb_logger import WandbLogger
from parity.training.loop import ranks
from parity.training.loop.checkpoints import check_checkpoint, check_saving, model_weights
from parity.training.loop.fit import fit
from parity.training.loop.hardware import Hardware, evaluate_on_test, make_trainer, split_trainer_args
from parity.training.loop.lit_module import BurstModule, lit_module_class
from parity.training.loop.progress import TrainingProgress
from parity.training.loop.run_folder import Identity, RunFolder, Start
from parity.training.loop.signals import StopSignals
from parity.training.step_trial import check_optimizer, check_step, check_task, predictions
from parity.wandb_server import check_wandb_project, in_sweep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """The options of ``train.py`` beside the experiment: none of them changes what a run computes.

    Raises:
        ParityError: an option that makes no sense.
    """

    hardware: Hardware = field(default_factory=Hardware)
    resume: bool = True
    resume_from: Path | None = None
    train_base: bool = True
    test_every_epoch: bool = False
    checkpoint_every: int | None = None
    save_every_minutes: float | None = 30.0
    grace: float = 60.0
    compile: str | None = None
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
        check_saving(self.checkpoint_every, self.save_every_minutes)
        if not self.grace > 0:
            raise ParityError(f"grace must be above 0 seconds, not {self.grace:g}.")
        if self.resume_from is not None and not self.resume:
            raise ParityError("a run is resumed from a checkpoint or restarted, not both.")
        if self.resume_from is not None:
            object.__setattr__(self, "resume_from", user_path(self.resume_from))

    @property
    def leaves_nothing(self) -> bool:
        """Whether this is a dry run of a few steps."""
        return bool(self.hardware.options.get("fast_dev_run"))


class Weights(NamedTuple):
    """A base model's weights, and where they come from."""

    state: dict[str, torch.Tensor]
    source: Path


class _Run(NamedTuple):
    """What a run is made of."""

    experiment: Experiment
    options: RunOptions
    folder: RunFolder
    datamodule: GroupDataModule
    model: nn.Module
    module: BurstModule
    trainer_args: dict[str, Any]

    @property
    def max_epochs(self) -> int:
        return int(self.trainer_args["max_epochs"])


def run_training(
    experiment: Experiment, options: RunOptions = RunOptions(), base_weights: Path | None = None
) -> dict[str, float]:
    """Train an experiment, or resume its run where it stopped, and evaluate its best checkpoint on test data, once.

    Args:
        experiment: what to train, and where it lies.
        options: how.
        base_weights: a file of weights for the base model, instead of what the config names.

    Returns:
        The test metrics of the best checkpoint.

    Raises:
        ParityError: bad input of any kind; nothing was written then, or what was there is as it was.
        Stopped: a signal ended it; it is saved, and the same call resumes it.
    """
    with StopSignals(options.grace) as stop:
        return _train(experiment, options, base_weights, stop)


def _train(
    experiment: Experiment, options: RunOptions, base_weights: Path | None, stop: StopSignals, wait: bool = False
) -> dict[str, float]:
    experiment.check_config()
    folder = RunFolder() if options.leaves_nothing else experiment.folder
    experiment = experiment.as_before(_stored_settings(folder, options))
    datamodule = experiment.get_datamodule()
    trainer = _check_before_any_work(experiment, datamodule, options)
    if experiment.is_base and base_weights is not None:
        raise ParityError(f"{experiment.experiment_name} trains a base model: base weights are for parity experiments.")
    ranks.join(trainer)
    datamodule.device = trainer.strategy.root_device
    base = None if experiment.is_base else _base_weights(experiment, options, base_weights, stop)
    with folder.held(wait):
        return _train_alone(experiment, options, folder, datamodule, base, stop)


def check_resumed(experiment: Experiment, options: RunOptions) -> None:
    """Raise what keeps a training from resuming the experiment's run, where one was begun with other settings.

    Raises:
        ParityError: one was, or what is there is damaged.
    """
    folder = RunFolder() if options.leaves_nothing else experiment.folder
    _check_resumed(experiment.as_before(_stored_settings(folder, options)), options, None)


def _stored_settings(folder: RunFolder, options: RunOptions) -> dict[str, Any] | None:
    """Return the settings of the run that is resumed; None where a new one begins."""
    if not options.resume or options.leaves_nothing:
        return None
    stored = folder.stored_settings()
    if stored is None and options.resume_from is not None:
        stored = _folder_of(options.resume_from).stored_settings()
    return stored


def _folder_of(checkpoint: Path) -> RunFolder:
    return RunFolder.of_experiment(checkpoint.absolute().parent.parent)


def _check_before_any_work(experiment: Experiment, datamodule: GroupDataModule, options: RunOptions) -> pl.Trainer:
    """Raise what is bound to fail, before a base model is trained or a folder made; return a Trainer like the run's."""
    if options.wandb:
        check_wandb_project(options.wandb_project, options.wandb_id)
    _, trainer_args = split_trainer_args(experiment.config["trainer"])
    model = experiment.get_model()
    module, _ = lit_module(experiment, datamodule, model, options)
    trainer = make_trainer(options.hardware, logger=False, enable_checkpointing=False, **trainer_args)
    if not options.leaves_nothing:
        experiment.folder.check_writable()
    _check_resumed(experiment, options, module)
    for split in ("train", "val", "test"):
        datamodule.check(split)
    where = datamodule.where("train")
    loader = datamodule.loader("train")
    batch = loader.trial_groups(min([2, *loader.sampler.batch_sizes]))
    check_task(predictions(model, batch, where), datamodule.task)
    check_step(module, {where: batch})
    check_optimizer(module)
    return trainer


def _check_resumed(experiment: Experiment, options: RunOptions, module: BurstModule | None) -> None:
    """Raise what keeps the run, or the checkpoint to resume from, from being resumed, whatever the base model is."""
    if not options.resume or options.leaves_nothing:
        return
    identity = experiment.identity(None).without("base_weights_sha256")
    experiment.folder.check(identity)
    if options.resume_from is not None:
        _folder_of(options.resume_from).check(identity)
        identity.check_checkpoint(options.resume_from, check_checkpoint(options.resume_from, module))


def _base_weights(
    experiment: Experiment, options: RunOptions, base_weights: Path | None, stop: StopSignals
) -> Weights | None:
    """Return the base model's weights; train them first where they are not there yet."""
    base = experiment.base_experiment
    file = base_weights or (None if base else Path(experiment.config["base"]))
    if file is not None:
        return Weights(read_weights(file), file)
    assert base is not None, "a config names its base model"
    if not ranks.on_first(base.folder.is_finished):
        _train_base(base, options, stop)
        if options.leaves_nothing:
            log.warning("a dry run: the base model is left untrained")
            return None
    elif found := base.trained_otherwise():
        what = f"the base model in {base.save_dir} was trained with other settings: {'; '.join(found)}"
        raise ParityError(f"{what}. {_base_remedy(base)}")
    _warn_of_training_queries(experiment, base)
    path = base.checkpoint("best")
    try:
        return Weights(model_weights(check_checkpoint(path)["state_dict"]), path)
    except DamagedFileError as error:
        raise ParityError(f"{error} To train the base model again: {base.command()} --force-no-resume") from error


def _warn_of_training_queries(experiment: Experiment, base: Experiment) -> None:
    """Log a warning where a code is validated on queries that its base model was trained on."""
    stored = (base.folder.stored_settings() or {}).get("config", {}).get("data", {}).get("num_validation")
    held = base.get_datamodule(**({} if stored is None else {"num_validation": stored})).num_validation
    own = experiment.get_datamodule()
    if own.num_validation > held:
        log.warning(
            "data.num_validation = %d holds out %d queries that the base model %s was trained on: validation is "
            "too optimistic; train a base model with --set data.num_validation=%d.",
            own.num_validation, own.num_validation - held, base.run_name, own.num_validation,
        )  # fmt: skip


def _base_remedy(base: Experiment) -> str:
    return f"Move that folder away, or train it again: {base.command()} --force-no-resume"


def _train_base(base: Experiment, options: RunOptions, stop: StopSignals) -> None:
    if not options.train_base:
        raise ParityError(
            f"the base model {base.experiment_name} is not trained: train it first, with {base.command()}"
        )
    if not options.leaves_nothing:
        own_folder = replace(base.folder, remedy=_base_remedy(base))
        own_folder.check(base.as_before(own_folder.stored_settings()).identity(None))
    log.info("the base model %s is not trained yet: training it first", base.experiment_name)
    own = replace(
        options, resume=True, resume_from=None, checkpoint_every=None, wandb=options.wandb and not in_sweep(),
        wandb_id=None, wandb_name=None,
    )  # fmt: skip
    _train(base, own, None, stop, wait=True)


def _train_alone(
    experiment: Experiment,
    options: RunOptions,
    folder: RunFolder,
    datamodule: GroupDataModule,
    base: Weights | None,
    stop: StopSignals,
) -> dict[str, float]:
    """Train while no other process writes into the folder."""
    pl.seed_everything(experiment.seed or 0, verbose=False)
    model = experiment.get_model()
    if isinstance(model, CodedModel) and base is not None:
        load_into(model.base_model, *base)
        check_finite(model.base_model)
        experiment.start_parity_models(model)
    identity = experiment.identity(fingerprint(model.base_model) if isinstance(model, CodedModel) else None)
    run = _Run(experiment, options, folder, datamodule, model, *lit_module(experiment, datamodule, model, options))
    start = ranks.on_first(lambda: _start(run, identity))
    _announce(run)
    if start.is_end(run.max_epochs) and ranks.on_first(folder.is_finished):
        log.info("this run is finished, %s: nothing to do (%s)", start.finished(), experiment.save_dir)
        return experiment.load_test_metrics()
    return _fit_and_test(run, identity, start, stop)


def lit_module(
    experiment: Experiment, datamodule: GroupDataModule, model: nn.Module, options: RunOptions
) -> tuple[BurstModule, dict[str, Any]]:
    """Return what trains a model as its experiment's config asks, and arguments for Lightning's Trainer."""
    steps, trainer_args = split_trainer_args(experiment.config["trainer"], options.track_grad_norm)
    config, accuracy = experiment.config, accuracy_of(model, datamodule.task)
    module = lit_module_class(model)(
        model, config["loss"], accuracy, config["optimizer"], config.get("schedule"), steps,
        config.get("policies", {}), config.get("averaging"),
    )  # fmt: skip
    return module, trainer_args


def _start(run: _Run, identity: Identity) -> Start:
    options = run.options
    if not options.resume or options.leaves_nothing:
        return Start()
    start = run.folder.find(identity, run.module)
    new = start.checkpoint is None
    if new and options.resume_from is not None:  # else this run has begun, perhaps from there
        _folder_of(options.resume_from).check(identity)
        content = check_checkpoint(options.resume_from, run.module)
        start = Start.at(options.resume_from, content, run.module, identity)
    if start.epochs > run.max_epochs:
        raise ParityError(f"{start.checkpoint} is of epoch {start.epochs}, beyond trainer.max_epochs.")
    if new and start.is_end(run.max_epochs):
        remedy = "resume from an earlier one" if start.stopped else f"set trainer.max_epochs above {start.epochs}"
        raise ParityError(
            f"{start.checkpoint} is the last of its run, which is finished, {start.finished()}: nothing is left to "
            f"train from it, so {remedy}."
        )
    return start


def _fit_and_test(run: _Run, identity: Identity, start: Start, stop: StopSignals) -> dict[str, float]:
    options = run.options
    if start.checkpoint is not None:
        within = f" and {start.steps} steps" if start.steps else ""
        log.info("resuming after epoch %d%s of %d, from %s", start.epochs, within, run.max_epochs, start.checkpoint)
    if options.compile is not None:
        run.module.compile_batches(options.compile)
    if options.test_every_epoch:
        run.datamodule.validation_splits = ("val", "test")
    ranks.on_first(lambda: run.folder.begin(identity, not options.resume, options.test_every_epoch))
    loggers = _loggers(run, start)
    checkpoints = fit(
        run.module,
        run.datamodule,
        run.experiment.save_dir,
        run.trainer_args,
        hardware=options.hardware,
        loggers=loggers,
        callbacks=[TrainingProgress(run.module.shown, options.refresh_rate), *options.callbacks],
        checkpoint_every=options.checkpoint_every,
        save_every_minutes=options.save_every_minutes,
        resume_from=start.checkpoint,
        stop=stop,
        run=identity.plain(),
    )
    if run.module.policies.stopped:
        log.info("training was stopped by %s", run.module.policies.stopped)
    if options.leaves_nothing:
        log.info("a dry run: nothing was written")
        return {}
    return _test(run, loggers, checkpoints.best_epoch or 0)


def _loggers(run: _Run, start: Start) -> list[Logger]:
    options, experiment = run.options, run.experiment
    loggers = run.folder.loggers(start.epochs, options.csv, options.tensorboard)
    if options.wandb and not options.leaves_nothing:
        names = ("dataset", "collection", "experiment_name", "seed")
        loggers.append(
            WandbLogger(
                experiment.save_dir,
                check_wandb_project(options.wandb_project),
                options.wandb_name or experiment.run_name,
                run_id=options.wandb_id,
                config={**{name: getattr(experiment, name) for name in names}, **to_plain(experiment.config)},
                monitor=str(run.module.monitor),
                done=start.epochs,
                history=experiment.load_metrics() if start.epochs else (),
            )
        )
    return loggers


def _test(run: _Run, loggers: Sequence[Logger], best_epoch: int) -> dict[str, float]:
    """Evaluate the best checkpoint on test data, log its metrics and keep them."""
    best = run.folder.checkpoint("best")
    load_into(run.model, model_weights(check_checkpoint(best)["state_dict"]), best)
    metrics = evaluate_on_test(run.module, run.datamodule, run.options.hardware)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.finish(metrics, best_epoch, best if run.options.wandb_checkpoint else None)
        else:
            logger.log_metrics(metrics, step=best_epoch)
            logger.save()
    ranks.on_first(lambda: run.folder.finish(best_epoch, metrics))
    shown = dict.fromkeys([*run.module.shown.values(), str(run.module.monitor)])
    names = [name.replace("val/", "test/") for name in shown]
    log.info("best epoch %d: %s", best_epoch, ", ".join(f"{name} {metrics[name]:.4f}" for name in names))
    return metrics


def _announce(run: _Run) -> None:
    """Log what is trained; of a code, what it costs and what its base model is worth."""
    experiment, model = run.experiment, run.model
    what = f"base model {experiment.dataset} {experiment.experiment_name}"
    if isinstance(model, CodedModel):
        what = (
            f"parity model of {experiment.dataset} {experiment.experiment_name}: (k, r) = ({model.k}, {model.r}), "
            f"{type(model.encoder).__name__}, {type(model.decoder).__name__}"
        )
    log.info(
        "training %s: %d epochs of %d steps of %d groups, in %s",
        what, run.max_epochs, len(run.datamodule.loader("train")), run.datamodule.batch_size, experiment.save_dir,
    )  # fmt: skip
    if isinstance(model, CodedModel):
        if model.parity_models:
            log.info(
                "a parity model has %.2f x the base model's multiply-adds and %.2f x its parameters; encoding: %.2f x",
                *parity_model_costs(model, model.blank_query().unsqueeze(0)),
            )  # fmt: skip
        _measure_base_model(model.base_model.to(run.datamodule.device), run.datamodule)


def _measure_base_model(base_model: nn.Module, datamodule: GroupDataModule) -> None:
    """Log the accuracy of the base model, which is finished: that checks data, scaling and weights, on test data too.

    Training data that is augmented is not gone through only for this.
    """
    task = datamodule.task
    training = ("train", "val") if datamodule.loader("train").queries_are_fixed else ("val",)
    for name, splits in (("training" if len(training) > 1 else "validation", training), ("test", ("test",))):
        parts = [evaluate_base(base_model, datamodule.loader(split), task) for split in splits]
        queries = sum(part["queries"] for part in parts)
        means = {measure: sum(part[measure] * part["queries"] for part in parts) / queries for measure in task.measures}
        log.info("base model on %s data: %s", name, task.describe(means, queries))
