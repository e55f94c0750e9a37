"""Bursts: several batches handed over by Lightning as one.

Lightning's own work around a batch is a good part of a small network's step; handed a burst, it does it once for all of
its steps. Nothing outside the training loop knows of bursts: data modules yield batches.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl

from parity.data import GroupBatch, GroupDataModule, GroupLoader
from parity.training.loop.iterables import BatchLoader

STEPS_PER_BURST = 16


class Burst:
    """Several steps' batches, made one by one while they are iterated over, once.

    Args:
        batches: what it holds.
    """

    def __init__(self, batches: Iterator[GroupBatch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[GroupBatch]:
        return self._batches


class BurstLoader:
    """The batches of another loader, in bursts.

    Args:
        loader: yields the batches.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    def __init__(self, loader: GroupLoader) -> None:
        self.loader, self.split, self.sampler = loader, loader.split, loader.sampler
        self._steps_done = 0

    @property
    def num_steps(self) -> int:
        """Batches of an epoch."""
        return len(self.loader)

    def __len__(self) -> int:
        """Bursts of an epoch."""
        return _bursts(self.num_steps)

    @property
    def common_bursts(self) -> int:
        """Bursts of an epoch that every rank has."""
        return _bursts(self.loader.common_steps)

    def __iter__(self) -> Iterator[Burst]:
        # A generator: Lightning asks for it before it sets the sampler's epoch.
        done, self._steps_done = self._steps_done, 0
        batches = self.loader.batches(done)
        for _ in range(_bursts(done)):
            yield Burst(iter(()))
        while done < self.num_steps:
            yield Burst(itertools.islice(batches, STEPS_PER_BURST))
            done += STEPS_PER_BURST

    def epoch_state(self) -> dict[str, Any]:
        """Return what the batches of the current epoch depend on, besides its number."""
        return {"data": self.loader.epoch_start} if isinstance(self.loader, BatchLoader) else {}

    def resume_after(self, steps: int, state: dict[str, Any]) -> None:
        """Resume the epoch that begins next.

        Args:
            steps: to skip, up to the end of a burst; bursts before it come, but empty.
            state: of the epoch, as ``epoch_state`` returned it.
        """
        self._steps_done = steps
        if isinstance(self.loader, BatchLoader):
            self.loader.epoch_start = state["data"]


def _bursts(steps: int) -> int:
    return -(-steps // STEPS_PER_BURST)


class BurstData(pl.LightningDataModule):
    """One of our data modules as the loop's Trainer sees it: its loaders yield bursts.

    Args:
        datamodule: the data; the Trainer is handed on to it.
    """

    def __init__(self, datamodule: GroupDataModule) -> None:
        self.datamodule = datamodule
        super().__init__()

    @property
    def trainer(self) -> pl.Trainer | None:
        return self.datamodule.trainer

    @trainer.setter
    def trainer(self, trainer: pl.Trainer | None) -> None:
        self.datamodule.trainer = trainer

    def prepare_data(self) -> None:
        self.datamodule.prepare_data()

    def setup(self, stage: str) -> None:
        self.datamodule.setup(stage)

    def teardown(self, stage: str) -> None:
        self.datamodule.teardown(stage)

    def train_dataloader(self) -> BurstLoader:
        return BurstLoader(self.datamodule.train_dataloader())

    def val_dataloader(self) -> list[BurstLoader]:
        return [BurstLoader(loader) for loader in self.datamodule.val_dataloader()]

    def test_dataloader(self) -> BurstLoader:
        return BurstLoader(self.datamodule.test_dataloader())


def train_loader(trainer: pl.Trainer) -> BurstLoader:
    """Return the loader that a Trainer trains with."""
    return _ours(trainer.train_dataloader)


def validation_loaders(trainer: pl.Trainer) -> list[BurstLoader]:
    """Return what a Trainer evaluates after each epoch."""
    loaders = trainer.val_dataloaders
    return [_ours(loader) for loader in (loaders if isinstance(loaders, list) else [loaders])]


def test_loader(trainer: pl.Trainer) -> BurstLoader:
    """Return the loader that a Trainer tests with."""
    return _ours(trainer.test_dataloaders)


def _ours(loader: object) -> BurstLoader:
    assert isinstance(loader, BurstLoader), "fit wraps the data module"
    return loader
