"""The LightningModules: one step, its loss and its accuracies, for base models and for coded models."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.data import Burst, GroupBatch, GroupLoader
from parity.errors import ParityError
from parity.metrics import Accuracy, MeanLoss, with_prefix
from parity.training.loop import ranks
from parity.training.loop.base_predictions import BasePredictions, base_predictions
from parity.training.loop.iterables import BatchLoader
from parity.training.loop.running_policies import RunningPolicies
from parity.training.objectives.averaging import EMA, RunningAverage
from parity.training.objectives.losses import loss_terms
from parity.training.objectives.optimizers import OptimizerFactory, ScheduleFactory

SPLITS = ("train", "val", "test")


class StepOptions(NamedTuple):
    """How a training step is taken, beside its optimiser; the names are those of Lightning's Trainer."""

    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    track_grad_norm: bool = False


class SplitMetrics(nn.Module):
    """The accuracies and the mean loss of one split."""

    def __init__(self, accuracy: Accuracy) -> None:
        super().__init__()
        self.accuracy = accuracy
        self.loss = MeanLoss()

    def result(self) -> dict[str, Tensor]:
        """Return all values by name, and start anew."""
        values = self.accuracy.compute() | {"loss": self.loss.compute()}
        self.accuracy.reset()
        self.loss.reset()
        return values


class BurstModule(pl.LightningModule):
    """Trains on bursts of batches (``parity.data.Burst``): Lightning runs once a burst, the optimiser once a batch.

    Subclasses have a ``model`` and say what the loss of a batch is and how accuracies are counted. Nothing in a step
    waits for the device: losses stay there until the epoch ends, and accuracies are counted there, once a burst.

    Args:
        model: what is trained.
        loss: what is minimised, called with tensors and the values of policies.
        accuracy: what is counted, for each split on its own.
        optimizer: makes the optimiser of whatever has ``requires_grad``.
        schedule: makes the schedule of its learning rate, which moves on with every step; None leaves it constant.
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
        """Whether a policy has ended training when it was told of an epoch's start."""
        self.optimizer_factory, self.schedule_factory, self.options = optimizer, schedule, options
        self.monitor: str | None = f"val/{accuracy.monitor}"
        """Logged name of what the best checkpoint is chosen by; None takes every epoch for the best."""
        self.shown = {f"val {label}": f"val/{name}" for label, name in accuracy.shown.items()}
        """What a progress bar shows after an epoch: names of logged values by their labels."""
        self.metrics = {split: SplitMetrics(deepcopy(accuracy)) for split in SPLITS}
        for split, metrics in self.metrics.items():
            self.add_module(f"{split}_metrics", metrics)  # so that they follow the model to its device
        self._begin_epoch()
        self._resumed: dict[str, Any] | None = None

    def _begin_epoch(self) -> None:
        self.step_losses: list[Tensor] = []
        """Losses of this epoch's steps so far, scalars on the device."""
        self._step_terms: list[Tensor] = []
        self._step_groups: list[int] = []
        self._grad_norms: list[Tensor] = []
        self._term_names: list[str] = []
        self._fetched: list[float] = []

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Return what the loss of a batch is the sum of, and what ``count`` needs of it, in tensors that begin with G.

        An override may take more keywords, for the values of policies that are named like them.

        Returns:
            Scalars by their names, always the same; and the tensors.
        """
        raise NotImplementedError

    def loss_terms(self, *arguments: Any) -> dict[str, Tensor]:
        """Return what the loss is the sum of, by name, with the values that policies send it."""
        if self.policies.for_loss:
            return {type(self.loss).__name__: self.loss(*arguments, **self.policies.for_loss)}
        return loss_terms(self.loss, *arguments)

    def count(self, split: str, *outputs: Tensor) -> None:
        """Count accuracies of one or several batches' outputs, put together."""
        raise NotImplementedError

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

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
        """Make sure that a checkpoint has what policies and the average go on with.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: it has not.
        """
        if self.policies:
            self.policies.check_state(checkpoint["policies"])
        if self.averaging is not None:
            RunningAverage(self.averaging, self.model).check_state(checkpoint["average"])

    def on_train_epoch_start(self) -> None:
        self._begin_epoch()
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            self._set_epoch_state(resumed)
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
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer), "there is one optimiser"
        outputs = []
        for batch in () if self.policies.stopped else burst:
            if self.policies.hear_steps:
                self.policies.step_started(self.current_epoch, len(self.step_losses))
            terms, output = self.batch_terms(batch, "train", **self.policies.for_step)
            self._term_names = list(terms)
            values = list(terms.values())
            if len(values) > 1:
                self._step_terms.append(torch.stack(values).detach())
            loss = _sum(values)
            self._take_step(loss, optimizer)
            self.step_losses.append(loss.detach())
            self._step_groups.append(len(batch.indices))
            outputs.append(output)
            if self.policies.hear_steps:
                self.policies.step_finished(self.current_epoch, len(self.step_losses) - 1, self.step_losses[-1])
                if self.policies.stopped:
                    break
        if outputs:  # none where the epoch was resumed, or stopped, before this burst
            with torch.no_grad():
                self.count("train", *map(torch.cat, zip(*outputs, strict=True)))

    def _take_step(self, loss: Tensor, optimizer: LightningOptimizer) -> None:
        every = self.options.accumulate_grad_batches
        self.manual_backward(loss if every == 1 else loss / every)
        steps = len(self.step_losses) + 1
        if steps % every and steps != train_loader(self.trainer).num_steps:
            return
        if self.options.track_grad_norm:
            gradients = [parameter.grad for parameter in self.trainable_parameters() if parameter.grad is not None]
            self._grad_norms.append(torch.nn.utils.get_total_norm(gradients))
        if (value := self.options.gradient_clip_val) is not None:
            self.clip_gradients(optimizer.optimizer, value, self.options.gradient_clip_algorithm)
        optimizer.step()
        optimizer.zero_grad()
        if self.average is not None:
            self.average.update()
        if (schedule := self.lr_schedulers()) is not None:
            schedule.step()  # type: ignore[union-attr]  # there is one

    def check_losses(self) -> None:
        """Make sure that this epoch's losses so far are finite; waits for the device.

        Raises:
            ParityError: one is not, on this rank or on another; the step and the term are in the message.
        """
        if self.policies.accept_any_loss:
            return
        losses = torch.stack(self.step_losses)
        broken = (~losses.isfinite()).nonzero().flatten().tolist()
        found = (broken[0], f"{float(losses[broken[0]])}", self._broken_terms(broken[0])) if broken else None
        first = min((here for here in ranks.gather(found) if here is not None), default=None)
        if first is not None:
            step, value, names = first
            raise ParityError(
                f"the loss was {value} in step {step + 1} of epoch {self.current_epoch + 1} ({names}): training "
                "stopped, and the last checkpoint was left as it is. Try a smaller learning rate."
            )

    def _broken_terms(self, step: int) -> str:
        if len(self._term_names) == 1:
            return self._term_names[0]
        finite = self._step_terms[step].isfinite().tolist()
        names = [name for name, fine in zip(self._term_names, finite, strict=True) if not fine]
        return "; ".join(names) or "the sum of its terms"

    def epoch_state(self) -> dict[str, Any]:
        """Return, on the CPU, what this rank has gathered of the epoch so far, for ``resume_epoch``."""
        state: dict[str, Any] = {
            name: torch.stack(values).cpu() if values else None for name, values in self._step_values().items()
        }
        state["groups"], state["term_names"] = self._step_groups, self._term_names
        state["accuracy"] = self.metrics["train"].accuracy.state()
        if isinstance(loader := train_loader(self.trainer), BatchLoader):
            state["data"] = loader.epoch_start
        if len(self.step_losses) % self.options.accumulate_grad_batches:
            state["gradients"] = [
                None if parameter.grad is None else parameter.grad.cpu() for parameter in self.trainable_parameters()
            ]
        return state

    def _step_values(self) -> dict[str, list[Tensor]]:
        return {"losses": self.step_losses, "terms": self._step_terms, "grad_norms": self._grad_norms}

    def resume_epoch(self, state: dict[str, Any]) -> None:
        """Let the epoch that begins next be the one that ``epoch_state`` tells of."""
        self._resumed, loader = state, train_loader(self.trainer)
        loader.go_on_after(len(state["groups"]))
        if isinstance(loader, BatchLoader):
            loader.epoch_start = state["data"]

    def _set_epoch_state(self, state: dict[str, Any]) -> None:
        for name, values in self._step_values().items():
            if state[name] is not None:
                values.extend(state[name].to(self.device).unbind())
        self._step_groups, self._term_names = list(state["groups"]), list(state["term_names"])
        self.metrics["train"].accuracy.set_state(state["accuracy"])
        for parameter, gradient in zip(self.trainable_parameters(), state.get("gradients", ()), strict=False):
            parameter.grad = None if gradient is None else gradient.to(self.device)

    def on_train_epoch_end(self) -> None:
        self.check_losses()
        losses = torch.stack(self.step_losses)
        self.metrics["train"].loss.update(losses, torch.tensor(self._step_groups, device=losses.device))
        values = with_prefix("train", self.metrics["train"].result())
        if self._grad_norms:
            values["train/grad_norm"] = torch.stack(self._grad_norms).mean()
        self.log_dict(values, logger=False)
        logged = {name: float(value) for name, value in values.items()} | {"lr": self._learning_rate()}
        if self.policies:
            metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name != "step"}
            logged |= self.policies.epoch_finished(self.current_epoch, self._train_losses(), metrics | logged)
            self.trainer.should_stop = self.trainer.should_stop or self.policies.stopped is not None
        # Lightning would hand them to the loggers after the checkpoint is saved: a run killed between would lose them.
        for logger in self.trainer.loggers:
            logger.log_metrics(logged, step=self.current_epoch + 1)
            logger.save()

    def _train_losses(self) -> list[float]:
        """Return the losses of this epoch's steps, fetched from the device once."""
        self._fetched = self._fetched or torch.stack(self.step_losses).tolist()
        return self._fetched

    def _learning_rate(self) -> float:
        """Return the learning rate that the next step would take."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _evaluation_step(self, burst: Burst, split: str) -> None:
        outputs = []
        for batch in burst:
            terms, output = self.batch_terms(batch, split, **self.policies.for_step)
            self.metrics[split].loss.update(_sum(list(terms.values())), len(batch.indices))
            outputs.append(output)
        self.count(split, *map(torch.cat, zip(*outputs, strict=True)))

    def on_validation_start(self) -> None:
        ranks.share_buffers(self.model)
        if self.policies and self.step_losses:
            self.policies.validation_started(self.current_epoch, self._train_losses())

    def validation_step(self, burst: Burst, burst_index: int, dataloader_idx: int = 0) -> None:
        self._evaluation_step(burst, self.validation_loaders()[dataloader_idx].split)

    def test_step(self, burst: Burst, burst_index: int) -> None:
        self._evaluation_step(burst, "test")

    def on_validation_epoch_end(self) -> None:
        for loader in self.validation_loaders():
            self._log_split(loader.split)

    def on_test_epoch_end(self) -> None:
        self._log_split("test")

    def validation_loaders(self) -> list[GroupLoader]:
        """Return what is evaluated after each epoch."""
        loaders = self.trainer.val_dataloaders
        return loaders if isinstance(loaders, list) else [_loader(loaders)]

    def _log_split(self, split: str) -> None:
        values = with_prefix(split, self.metrics[split].result())
        # Lightning takes a value named 'step' as the axis of all loggers: epochs, counted from 1.
        self.log_dict(values | {"step": torch.tensor(float(self.current_epoch + 1))})


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
        self._ask_base_model([train_loader(self.trainer)])

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self._ask_base_model(self.validation_loaders())

    def on_test_start(self) -> None:
        self._predictions.pop("test", None)
        self._ask_base_model([_loader(self.trainer.test_dataloaders)])

    def _ask_base_model(self, loaders: list[GroupLoader]) -> None:
        for loader in loaders:
            if loader.split not in self._predictions:
                self._predictions[loader.split] = base_predictions(self.model, loader)

    def batch_terms(self, batch: GroupBatch, split: str) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        predictions = self._predictions[split](batch).float()
        _, parity_queries = self.model.encoder.dispatch(batch.queries)
        parity_outputs = self.model.parity_outputs(parity_queries).float()
        terms = self.loss_terms(self.model.decoder, predictions, parity_outputs, batch.targets)
        return terms, (predictions, parity_outputs.detach(), batch.targets)

    def count(self, split: str, *outputs: Tensor) -> None:
        predictions, parity_outputs, targets = outputs
        with torch.autocast(self.device.type, enabled=False):
            reconstructions = self.model.decoder.rebuild_each(predictions, parity_outputs)
        self.metrics[split].accuracy.update(reconstructions, predictions, targets)


def _sum(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum()


def train_loader(trainer: pl.Trainer) -> GroupLoader:
    """Return the loader that a Trainer trains with."""
    return _loader(trainer.train_dataloader)


def _loader(loader: object) -> GroupLoader:
    assert isinstance(loader, GroupLoader), "a datamodule of ours hands out its own loaders"
    return loader


def lit_module_class(model: nn.Module) -> type[Any]:
    """Return what trains this model: ``ParityLitModule`` for a coded model, else ``BaseLitModule``."""
    return ParityLitModule if isinstance(model, CodedModel) else BaseLitModule
