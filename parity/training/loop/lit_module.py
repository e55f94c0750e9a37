"""The LightningModules: one step, its loss and its accuracies, for base models and for coded models."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from types import MappingProxyType
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders.precision import exact
from parity.data import GroupBatch
from parity.errors import ParityError, cause
from parity.metrics import Accuracy, MeanLoss, with_prefix
from parity.training.loop import ranks
from parity.training.loop.base_predictions import BasePredictions, base_predictions
from parity.training.loop.bursts import (
    STEPS_PER_BURST,
    Burst,
    BurstLoader,
    test_loader,
    train_loader,
    validation_loaders,
)
from parity.training.loop.epoch_record import EpochRecord
from parity.training.loop.optimizer_steps import OptimizerSteps, StepOptions
from parity.training.loop.running_policies import RunningPolicies
from parity.training.objectives.averaging import EMA, RunningAverage
from parity.training.objectives.losses import ReconstructionLoss, loss_terms
from parity.training.objectives.optimizers import OptimizerFactory, ScheduleFactory

SPLITS = ("train", "val", "test")


class SplitMetrics(nn.Module):
    """The accuracies and the mean loss of one split."""

    def __init__(self, accuracy: Accuracy) -> None:
        super().__init__()
        self.accuracy = accuracy
        self.loss = MeanLoss()

    def result(self) -> dict[str, Tensor]:
        """Return all values by name, and reset them."""
        values = self.accuracy.compute() | {"loss": self.loss.compute()}
        self.accuracy.reset()
        self.loss.reset()
        return values


class BurstModule(pl.LightningModule):
    """Trains on bursts of batches (``Burst``): Lightning runs once per burst, the optimiser once per batch.

    Subclasses compute the terms of a batch's loss and count accuracies. Nothing in a step waits for the device: losses
    stay there until the epoch ends, and accuracies are counted there, once per burst.

    Args:
        model: what is trained.
        loss: what is minimised, called with tensors and the values of policies.
        accuracy: what is counted, for each split on its own.
        optimizer: makes the optimiser of whatever has ``requires_grad``.
        schedule: makes the schedule of its learning rate, which moves with every step; None leaves it constant.
        options: how steps are taken.
        policies: values that change with time, by keyword: ``lr`` and ``weight_decay`` go to the optimiser, others to
            ``batch_terms`` where it takes them, else to the loss.
        averaging: of the weights; None for none.

    Raises:
        ParityError: nothing takes a policy's value, or a schedule and a policy both set the learning rate.
    """

    LOSS_ARGUMENTS: ClassVar[int] = 2
    """Tensors, and other things, that the loss is always called with."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        accuracy: Accuracy,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        options: StepOptions = StepOptions(),
        policies: Mapping[str, Any] = MappingProxyType({}),
        averaging: EMA | None = None,
    ) -> None:
        super().__init__()
        if schedule is not None and "lr" in policies:
            raise ParityError("a schedule and the policy 'lr' both set the learning rate: leave out one of them.")
        if not isinstance(averaging, EMA | None):
            raise ParityError(f"averaging is an EMA, e.g. EMA(decay=0.999), not {averaging!r}.")
        self.automatic_optimization = False
        self.model, self.loss = model, loss
        self.policies = RunningPolicies(policies, self.batch_terms, loss, self.LOSS_ARGUMENTS)
        self.averaging = averaging
        self.average: RunningAverage | None = None
        self.ended_before_an_epoch = False
        """Whether a policy ended training at an epoch's start."""
        self.optimizer_factory, self.schedule_factory, self.options = optimizer, schedule, options
        self.monitor: str | None = f"val/{accuracy.monitor}"
        """Logged name of what the best checkpoint is chosen by; None takes every epoch for the best."""
        self.shown = {f"val {label}": f"val/{name}" for label, name in accuracy.shown.items()}
        """What a progress bar shows after an epoch: names of logged values by their labels."""
        self.metrics = {split: SplitMetrics(deepcopy(accuracy)) for split in SPLITS}
        for split, metrics in self.metrics.items():
            self.add_module(f"{split}_metrics", metrics)  # so that they follow the model to its device
        self.record = EpochRecord()
        self._compiled: Callable[..., Any] | None = None
        self._resumed: dict[str, Any] | None = None

    @property
    def step_losses(self) -> list[Tensor]:
        """Losses of this epoch's steps so far, scalars on the device."""
        return self.record.losses

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Return what the loss of a batch is the sum of, and what ``count`` needs of it, in tensors (G, ...).

        An override may take more keywords, for the values of policies of these names.

        Returns:
            Scalars by their names, always the same; and the tensors.
        """
        raise NotImplementedError

    def compile_batches(self, mode: str = "default", **options: Any) -> None:
        """Compile all that is computed of a batch, ``batch_terms``, for the shapes that batches have.

        What an earlier run of this process has compiled is forgotten: how often code is compiled again is limited.

        Args:
            mode: of ``torch.compile``: with "reduce-overhead" a GPU replays what is computed of a batch as CUDA graphs.
            options: further ones.
        """
        torch.compiler.reset()
        self.policies.as_tensors = True
        compiled = torch.compile(self.batch_terms, dynamic=False, mode=mode, **options)
        self._compiled = compiled if mode == "default" else _outputs_kept(compiled)

    def _computation(self) -> Callable[..., Any]:
        """Return what computes a batch in training and validation; a test, which comes once, is not compiled for."""
        return self.batch_terms if self._compiled is None or self.trainer.testing else self._compiled

    def loss_terms(self, *arguments: Any) -> dict[str, Tensor]:
        """Return what the loss is the sum of, by name, with the values of policies that it takes."""
        if self.policies.for_loss:
            return {type(self.loss).__name__: self.loss(*arguments, **self.policies.for_loss)}
        return loss_terms(self.loss, *arguments)

    def count(self, split: str, *outputs: Tensor) -> None:
        """Count accuracies of the outputs of one or several batches, concatenated."""
        raise NotImplementedError

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            ranks.draw_apart()  # here, since DDP gives all ranks the same seed when it is set up

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_factory(list(self.trainable_parameters()))
        if self.schedule_factory is None:
            return optimizer
        self.trainer.fit_loop.setup_data()
        steps = -(-train_loader(self.trainer).num_steps // self.options.accumulate_grad_batches)
        return [optimizer], [self.schedule_factory(optimizer, steps * (self.trainer.max_epochs or 1))]

    def on_train_start(self) -> None:
        if self.averaging is not None:
            self.average = self.average or RunningAverage(self.averaging, self.model)
            self.average.follow()
        num_batches = train_loader(self.trainer).num_steps
        self._steps = OptimizerSteps(self, self.trainable_parameters(), self.options, num_batches, self.average)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.policies:
            checkpoint["policies"] = self.policies.state_dict()
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_state(checkpoint)
        if self.policies:
            self.policies.load_state_dict(checkpoint["policies"])
        if self.averaging is not None:
            self.average = RunningAverage(self.averaging, self.model)
            self.average.load_state_dict(checkpoint["average"])

    def check_state(self, checkpoint: Mapping[str, Any]) -> None:
        """Make sure that a checkpoint has what policies and the average are resumed with.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: it has not.
        """
        if self.policies:
            self.policies.check_state(checkpoint["policies"])
        if self.averaging is not None:
            RunningAverage(self.averaging, self.model).check_state(checkpoint["average"])

    def on_train_epoch_start(self) -> None:
        self.record = EpochRecord()
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            self.record.set_state(resumed, self.device)
            self.metrics["train"].accuracy.set_state(resumed["accuracy"])
            self._steps.set_state(resumed)
        if self.policies:
            self.policies.epoch_started(self.current_epoch, self.trainer.optimizers[0], resumed is not None)
            if self.policies.stopped and resumed is None:
                self._end_before_the_epoch()

    def _end_before_the_epoch(self) -> None:
        if self.current_epoch == 0:
            raise ParityError(f"training was stopped before its first epoch by the policy {self.policies.stopped}.")
        self.ended_before_an_epoch = True
        raise StopIteration  # Lightning's way out of its loop of epochs

    def training_step(self, burst: Burst, burst_index: int) -> None:
        record, policies = self.record, self.policies
        outputs, compute = [], self._computation()
        for batch in () if policies.stopped else burst:
            step = len(record.losses)
            policies.step_started(self.current_epoch, step)
            with _named(batch, step, "train"):
                terms, output = compute(batch, "train", **policies.for_step)
            norm = self._steps.take(record.add(terms, len(batch.indices)), step + 1)
            if norm is not None:
                record.grad_norms.append(norm)
            outputs.append(output)
            policies.step_finished(self.current_epoch, step, record.losses[step])
            if policies.stopped:
                break
        if outputs:  # none where the epoch was resumed, or stopped, before this burst
            with torch.no_grad():
                self._count_together("train", outputs)

    def check_losses(self) -> None:
        """Make sure that this epoch's losses so far are finite, unless a policy handles others.

        Raises:
            ParityError: one is not.
        """
        if not self.policies.accept_any_loss:
            self.record.check_finite(self.current_epoch, self._broken_inputs)

    def _broken_inputs(self, step: int) -> str | None:
        """Return which inputs of a step's loss are not finite: the batch is drawn again, for nothing keeps it."""
        with torch.no_grad(), suppress(Exception):  # an iterable of a user's may raise whatever it likes
            if (batch := train_loader(self.trainer).loader.again(step)) is not None:
                inputs = self.loss_inputs(batch)
                return " and ".join(name for name, values in inputs.items() if not values.isfinite().all()) or None
        return None

    def loss_inputs(self, batch: GroupBatch) -> dict[str, Tensor]:
        """Return what the loss of a batch of training data depends on beside what is trained, by name."""
        return {"queries": batch.queries, "targets": batch.targets}

    def epoch_state(self) -> dict[str, Any]:
        """Return, on the CPU, what this rank has gathered of the epoch so far, for ``resume_epoch``."""
        state = self.record.state() | {"accuracy": self.metrics["train"].accuracy.state()}
        return state | train_loader(self.trainer).epoch_state() | self._steps.state(len(self.record.losses))

    def resume_epoch(self, state: dict[str, Any]) -> None:
        """Let the epoch that begins next be the rest of the one that ``epoch_state`` was called in."""
        self._resumed = state
        train_loader(self.trainer).resume_after(len(state["groups"]), state)

    def on_train_epoch_end(self) -> None:
        self.check_losses()
        values = self._epoch_values()
        self.log_dict(values, logger=False)
        logged = {name: float(value) for name, value in values.items()}
        logged["lr"] = float(self.trainer.optimizers[0].param_groups[0]["lr"])  # that the next step would take
        if self.policies:
            metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name != "step"}
            logged |= self.policies.epoch_finished(self.current_epoch, self.record.fetched(), metrics | logged)
            self.trainer.should_stop = self.trainer.should_stop or self.policies.stopped is not None
        # Lightning would hand them to the loggers after the checkpoint is saved: a run killed between would lose them.
        for logger in self.trainer.loggers:
            logger.log_metrics(logged, step=self.current_epoch + 1)
            logger.save()

    def _epoch_values(self) -> dict[str, Tensor]:
        record, metrics = self.record, self.metrics["train"]
        losses = torch.stack(record.losses)
        metrics.loss.update(losses, torch.tensor(record.groups, device=losses.device))
        values = with_prefix("train", metrics.result())
        if record.grad_norms:
            values["train/grad_norm"] = self._steps.mean_norm(record.grad_norms)
        return values

    def _evaluation_step(self, burst: Burst, burst_index: int, split: str) -> None:
        outputs, compute = [], self._computation()
        for number, batch in enumerate(burst, burst_index * STEPS_PER_BURST):
            with _named(batch, number, split):
                terms, output = compute(batch, split, **self.policies.for_step)
            self.metrics[split].loss.update(torch.stack(list(terms.values())).sum(), len(batch.indices))
            outputs.append(output)
        self._count_together(split, outputs)

    def _count_together(self, split: str, outputs: Sequence[tuple[Tensor, ...]]) -> None:
        """Count the outputs of several batches at once, where they are of one shape; else one by one."""
        shapes = {tuple(tensor.shape[1:] for tensor in output) for output in outputs}
        for part in [outputs] if len(shapes) == 1 else [[output] for output in outputs]:
            self.count(split, *map(torch.cat, zip(*part, strict=True)))

    def on_validation_start(self) -> None:
        ranks.share_buffers(self.model)
        if self.policies and self.record.losses:
            self.policies.validation_started(self.current_epoch, self.record.fetched())

    def validation_step(self, burst: Burst, burst_index: int, dataloader_idx: int = 0) -> None:
        self._evaluation_step(burst, burst_index, validation_loaders(self.trainer)[dataloader_idx].split)

    def test_step(self, burst: Burst, burst_index: int) -> None:
        self._evaluation_step(burst, burst_index, "test")

    def on_validation_epoch_end(self) -> None:
        for loader in validation_loaders(self.trainer):
            self._log_split(loader.split)

    def on_test_epoch_end(self) -> None:
        self._log_split("test")

    def _log_split(self, split: str) -> None:
        values = with_prefix(split, self.metrics[split].result())
        # Lightning takes a value named 'step' as the axis of all loggers: epochs, counted from 1.
        self.log_dict(values | {"step": torch.tensor(float(self.current_epoch + 1))})


@contextmanager
def _named(batch: GroupBatch, number: int, split: str) -> Iterator[None]:
    """Within this block an error of the network or the loss names the batch; that of the first one is not its own."""
    try:
        yield
    except (ParityError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a user's own objects
        if number == 0:
            raise
        raise ParityError(
            f"the network or its loss cannot take batch {number + 1} of the {split} data, of queries of shape "
            f"{tuple(batch.queries.shape[2:])} ({cause(error).rstrip('.')}): make all batches alike."
        ) from error


class BaseLitModule(BurstModule):
    """Trains a base model on (query, target) pairs; its loss is called with predictions (B, *P), targets (B, ...)."""

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        targets = batch.targets.flatten(0, 1)
        predictions = self.model(batch.queries.flatten(0, 1)).float()
        return self.loss_terms(predictions, targets), (predictions.detach(), targets)

    def count(self, split: str, *outputs: Tensor) -> None:
        self.metrics[split].accuracy.update(*outputs)


class ParityLitModule(BurstModule):
    """Trains what is trainable in a coded model: its base model never is, and stays in eval mode.

    Its loss is called with decoder, predictions (G, k, *P), parity outputs (G, r, *P'), targets (G, k, ...).
    """

    LOSS_ARGUMENTS = 4

    model: CodedModel

    def __init__(self, model: CodedModel, *arguments: Any, **keywords: Any) -> None:
        model.base_model.requires_grad_(False)
        super().__init__(model, *arguments, **keywords)
        self._predictions: dict[str, BasePredictions] = {}

    def on_fit_start(self) -> None:
        self._predictions = {}

    def on_train_start(self) -> None:
        super().on_train_start()
        for loss in self.loss.modules() if isinstance(self.loss, nn.Module) else ():
            if isinstance(loss, ReconstructionLoss):
                self.model.decoder.patterns_of(loss.patterns, self.device)  # checked before a step, or a compilation
        self._make_predictions([train_loader(self.trainer)])

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self._make_predictions(validation_loaders(self.trainer))

    def on_test_start(self) -> None:
        self._predictions.pop("test", None)
        self._make_predictions([test_loader(self.trainer)])

    def _make_predictions(self, loaders: list[BurstLoader]) -> None:
        for loader in loaders:
            if loader.split not in self._predictions:
                self._predictions[loader.split] = base_predictions(self.model, loader.loader)

    def loss_inputs(self, batch: GroupBatch) -> dict[str, Tensor]:
        return super().loss_inputs(batch) | {"base model's predictions": self._predictions["train"](batch)}

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        predictions = self._predictions[split](batch).float()
        _, parity_queries = self.model.encoder.dispatch(batch.queries)
        parity_outputs = self.model.parity_outputs(parity_queries).float()
        with exact(predictions):
            terms = self.loss_terms(self.model.decoder, predictions, parity_outputs, batch.targets)
        return terms, (predictions, parity_outputs.detach(), batch.targets)

    def count(self, split: str, *outputs: Tensor) -> None:
        predictions, parity_outputs, targets = outputs
        with exact(predictions):
            reconstructions = self.model.decoder.rebuild_each(predictions, parity_outputs)
        self.metrics[split].accuracy.update(reconstructions, predictions, targets)


def lit_module_class(model: nn.Module) -> type[Any]:
    """Return what trains this model: ``ParityLitModule`` for a coded model, else ``BaseLitModule``."""
    return ParityLitModule if isinstance(model, CodedModel) else BaseLitModule


def _outputs_kept(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return copies of what is computed of a batch: a CUDA graph writes its outputs where it wrote the last ones."""

    def computed(*arguments: Any, **values: Any) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        torch.compiler.cudagraph_mark_step_begin()
        terms, outputs = compute(*arguments, **values)
        return {name: term.clone() for name, term in terms.items()}, tuple(output.clone() for output in outputs)

    return computed
