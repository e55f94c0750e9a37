"""The LightningModules: one step, its loss and its accuracies, for base models and for coded models."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torchmetrics import MeanMetric

from parity.coded_model import CodedModel
from parity.data import Burst, GroupBatch, GroupLoader
from parity.errors import ParityError
from parity.training.metrics import Accuracy, BaseAccuracy, ReconstructionAccuracy, with_prefix
from parity.training.optimizers import OptimizerFactory, ScheduleFactory
from parity.training.predictions import BasePredictions, base_predictions

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
        self.loss = MeanMetric(nan_strategy="disable")

    def result(self) -> dict[str, Tensor]:
        """Return all values by name, and start anew."""
        values = self.accuracy.compute() | {"loss": self.loss.compute()}
        self.accuracy.reset()
        self.loss.reset()
        return values


class BurstModule(pl.LightningModule):
    """Trains on bursts of batches (``parity.data.Burst``): Lightning runs once a burst, the optimiser once a batch.

    Subclasses say what the loss of a batch is and how accuracies are counted. Nothing in a step waits for the device:
    losses stay there until the epoch ends, and accuracies are counted there, once a burst.

    Args:
        accuracy: what is counted, for each split on its own.
        optimizer: makes the optimiser of whatever has ``requires_grad``.
        schedule: makes the schedule of its learning rate, which moves on with every step; None leaves it constant.
        options: how steps are taken.
    """

    def __init__(
        self,
        accuracy: Accuracy,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        options: StepOptions = StepOptions(),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optimizer_factory, self.schedule_factory, self.options = optimizer, schedule, options
        self.monitor = f"val/{accuracy.monitor}"
        self.shown = {f"val {label}": f"val/{name}" for label, name in accuracy.shown.items()}
        """What a progress bar shows after an epoch: names of logged values by their labels."""
        self.metrics = {split: SplitMetrics(deepcopy(accuracy)) for split in SPLITS}
        for split, metrics in self.metrics.items():
            self.add_module(f"{split}_metrics", metrics)  # so that they follow the model to its device
        self.step_losses: list[Tensor] = []
        """Losses of this epoch's steps so far, scalars on the device."""
        self._step_groups: list[int] = []
        self._grad_norms: list[Tensor] = []

    def batch_loss(self, batch: GroupBatch, split: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of a batch and what ``count`` needs of it, in tensors that begin with G."""
        raise NotImplementedError

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

    def on_train_epoch_start(self) -> None:
        self.step_losses, self._step_groups, self._grad_norms = [], [], []

    def training_step(self, burst: Burst, burst_index: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer), "there is one optimiser"
        outputs = []
        for batch in burst:
            loss, output = self.batch_loss(batch, "train")
            self._take_step(loss, optimizer)
            self.step_losses.append(loss.detach())
            self._step_groups.append(len(batch.indices))
            outputs.append(output)
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
        if (schedule := self.lr_schedulers()) is not None:
            schedule.step()  # type: ignore[union-attr]  # there is one

    def on_train_epoch_end(self) -> None:
        losses = torch.stack(self.step_losses)
        broken = (~losses.isfinite()).nonzero().flatten().tolist()
        if broken:
            raise ParityError(
                f"the loss was {float(losses[broken[0]])} in step {broken[0] + 1} of epoch {self.current_epoch + 1}: "
                "training stopped, and the last checkpoint was left as it is. Try a smaller learning rate."
            )
        self.metrics["train"].loss.update(losses, torch.tensor(self._step_groups, device=losses.device))
        values = with_prefix("train", self.metrics["train"].result())
        if self._grad_norms:
            values["train/grad_norm"] = torch.stack(self._grad_norms).mean()
        self.log_dict(values, logger=False)
        # Lightning would hand them to the loggers after the checkpoint is saved: a run killed between would lose them.
        for logger in self.trainer.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()}, step=self.current_epoch + 1)
            logger.save()

    def _evaluation_step(self, burst: Burst, split: str) -> None:
        outputs = []
        for batch in burst:
            loss, output = self.batch_loss(batch, split)
            self.metrics[split].loss.update(loss, len(batch.indices))
            outputs.append(output)
        self.count(split, *map(torch.cat, zip(*outputs, strict=True)))

    def validation_step(self, burst: Burst, burst_index: int, dataloader_idx: int = 0) -> None:
        self._evaluation_step(burst, self._validation_loaders()[dataloader_idx].split)

    def test_step(self, burst: Burst, burst_index: int) -> None:
        self._evaluation_step(burst, "test")

    def on_validation_epoch_end(self) -> None:
        for loader in self._validation_loaders():
            self._log_split(loader.split)

    def on_test_epoch_end(self) -> None:
        self._log_split("test")

    def _validation_loaders(self) -> list[GroupLoader]:
        loaders = self.trainer.val_dataloaders
        return loaders if isinstance(loaders, list) else [_loader(loaders)]

    def _log_split(self, split: str) -> None:
        values = with_prefix(split, self.metrics[split].result())
        # Lightning takes a value named 'step' as the axis of all loggers: epochs, counted from 1.
        self.log_dict(values | {"step": torch.tensor(float(self.current_epoch + 1))})


class BaseLitModule(BurstModule):
    """Trains a base model on (query, target) pairs.

    Args:
        model: network, (B, *Q) -> (B, *P).
        loss: (predictions (B, *P), targets (B, ...)) -> scalar.
        accuracy, optimizer, schedule, options: as in ``BurstModule``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        accuracy: BaseAccuracy,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        options: StepOptions = StepOptions(),
    ) -> None:
        super().__init__(accuracy, optimizer, schedule, options)
        self.model, self.loss = model, loss

    def batch_loss(self, batch: GroupBatch, split: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        targets = batch.targets.flatten(0, 1)
        predictions = self.model(batch.queries.flatten(0, 1)).float()
        return self.loss(predictions, targets), (predictions.detach(), targets)

    def count(self, split: str, *outputs: Tensor) -> None:
        self.metrics[split].accuracy.update(*outputs)


class ParityLitModule(BurstModule):
    """Trains what is trainable in a coded model: its base model never is, and stays in eval mode.

    Args:
        model: the coded model.
        loss: (decoder, predictions (G, k, *P), parity outputs (G, r, *P'), targets (G, k, ...)) -> scalar.
        accuracy, optimizer, schedule, options: as in ``BurstModule``.
    """

    def __init__(
        self,
        model: CodedModel,
        loss: Callable[..., Tensor],
        accuracy: ReconstructionAccuracy,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        options: StepOptions = StepOptions(),
    ) -> None:
        super().__init__(accuracy, optimizer, schedule, options)
        model.base_model.requires_grad_(False)
        self.model, self.loss = model, loss
        self._predictions: dict[str, BasePredictions] = {}

    def on_fit_start(self) -> None:
        self._predictions = {}

    def on_train_start(self) -> None:
        self._ask_base_model([train_loader(self.trainer)])

    def on_validation_start(self) -> None:
        self._ask_base_model(self._validation_loaders())

    def on_test_start(self) -> None:
        self._predictions.pop("test", None)
        self._ask_base_model([_loader(self.trainer.test_dataloaders)])

    def _ask_base_model(self, loaders: list[GroupLoader]) -> None:
        for loader in loaders:
            if loader.split not in self._predictions:
                self._predictions[loader.split] = base_predictions(self.model, loader)

    def batch_loss(self, batch: GroupBatch, split: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        predictions = self._predictions[split](batch).float()
        _, parity_queries = self.model.encoder.dispatch(batch.queries)
        parity_outputs = self.model.parity_outputs(parity_queries).float()
        loss = self.loss(self.model.decoder, predictions, parity_outputs, batch.targets)
        return loss, (predictions, parity_outputs.detach(), batch.targets)

    def count(self, split: str, *outputs: Tensor) -> None:
        predictions, parity_outputs, targets = outputs
        with torch.autocast(self.device.type, enabled=False):
            reconstructions = self.model.decoder.rebuild_each(predictions, parity_outputs)
        self.metrics[split].accuracy.update(reconstructions, predictions, targets)


def train_loader(trainer: pl.Trainer) -> GroupLoader:
    """Return the loader that a Trainer trains with."""
    return _loader(trainer.train_dataloader)


def _loader(loader: object) -> GroupLoader:
    assert isinstance(loader, GroupLoader), "a datamodule of ours hands out its own loaders"
    return loader


def lit_module_class(model: nn.Module) -> type[Any]:
    """Return what trains this model: ``ParityLitModule`` for a coded model, else ``BaseLitModule``."""
    return ParityLitModule if isinstance(model, CodedModel) else BaseLitModule
