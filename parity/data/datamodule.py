"""What every data set is to the rest of the package."""

import importlib
import pkgutil
from typing import ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from parity.data.groups import GroupSampler, TensorLoader
from parity.errors import ParityError, did_you_mean

# The seed of what must be the same in every run: the validation split and the groups of validation and test.
_FIXED_SEED = 0

_CLASSES: dict[str, type["GroupDataModule"]] = {}


class GroupDataModule(pl.LightningDataModule):
    """Deals out coding groups of one data set. Subclasses are found by their name, ``<Dataset>DataModule``.

    Args:
        k: queries in a coding group; 1 for a base model.
        batch_size: groups in a batch, on each device.
        seed: of the permutations that group the training data.
    """

    NUM_CLASSES: ClassVar[int]
    QUERY_SHAPE: ClassVar[tuple[int, ...]]

    def __init__(self, k: int = 1, batch_size: int = 64, seed: int = 0) -> None:
        super().__init__()
        if k < 1:
            raise ParityError(f"a coding group has at least 1 query, not k = {k}.")
        self.k, self.batch_size, self.seed = k, batch_size, seed
        self.validation_splits: tuple[str, ...] = ("val",)
        """What is evaluated after each epoch; a run that records test accuracy as it goes adds 'test'."""
        self.device = torch.device("cpu")
        """Where loaders put data while no Trainer says otherwise."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.endswith("DataModule") and hasattr(cls, "QUERY_SHAPE"):  # else a base of others
            _CLASSES[cls.__name__.removesuffix("DataModule")] = cls

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Shape P of a prediction."""
        return (self.NUM_CLASSES,)

    def loader(self, split: str) -> TensorLoader:
        """Return the loader of 'train', 'val' or 'test'; 'test' alone reads test data."""
        raise NotImplementedError

    def labels(self, split: str) -> Tensor:
        """Return the true labels of 'train', 'val' or 'test': int64 (N,)."""
        raise NotImplementedError

    def most_frequent_class(self) -> int:
        """Return the most frequent class of the training data: what is said where nothing can be rebuilt."""
        return int(self.labels("train").bincount(minlength=self.NUM_CLASSES).argmax())

    def train_dataloader(self) -> TensorLoader:
        return self.loader("train")

    def val_dataloader(self) -> list[TensorLoader]:
        return [self.loader(split) for split in self.validation_splits]

    def test_dataloader(self) -> TensorLoader:
        return self.loader("test")


class TensorDataModule(GroupDataModule):
    """A data set that fits in memory: one tensor for training and validation, one for test, each held once.

    A subclass names ``NUM_CLASSES``, ``QUERY_SHAPE``, ``SCALE`` (what a stored value is divided by) and says how to
    ``load``.

    Args:
        k: queries in a coding group; 1 for a base model.
        batch_size: groups in a batch, on each device.
        num_validation: training queries held out for validation, rounded up to a multiple of k. Which ones depends on
            nothing but the data set: every run holds out the same.
        seed: of the permutations that group the training data.

    Raises:
        ParityError: (from ``loader``) the data is not there, or too few queries are left for a group.
    """

    SCALE: ClassVar[float] = 255.0

    def __init__(self, k: int = 1, batch_size: int = 64, num_validation: int = 5000, seed: int = 0) -> None:
        super().__init__(k, batch_size, seed)
        self.num_validation = num_validation
        self._loaded: dict[bool, tuple[Tensor, Tensor]] = {}

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read from disk: queries uint8 (N, *Q) and labels int64 (N,), of the training data or of the test data."""
        raise NotImplementedError

    def loader(self, split: str) -> TensorLoader:
        queries, targets = self._tensors(split)
        device, rank, world_size = self.device, 0, 1
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        seed = self.seed if split == "train" else _FIXED_SEED
        sampler = GroupSampler(
            self._rows(split), self.k, self.batch_size, seed, shuffle=split == "train", rank=rank, world_size=world_size
        )
        if queries.device != device:
            queries, targets = queries.to(device), targets.to(device)
            self._loaded[split != "test"] = queries, targets
        return TensorLoader(queries, targets, sampler, self.SCALE, split)

    def labels(self, split: str) -> Tensor:
        return self._tensors(split)[1].cpu()[self._rows(split)]

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        train = split != "test"
        if train not in self._loaded:
            self._loaded[train] = self.load(train)
        return self._loaded[train]

    def _rows(self, split: str) -> Tensor:
        total = len(self._tensors(split)[0])
        if split == "test":
            return torch.arange(total)
        held_out = -(-self.num_validation // self.k) * self.k
        if not 0 <= held_out < total:
            raise ParityError(f"data.num_validation = {self.num_validation} leaves nothing of {total} to train on.")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(_FIXED_SEED))
        return (order[:held_out] if split == "val" else order[held_out:]).sort().values


def get_datamodule_class(dataset: str) -> type[GroupDataModule]:
    """Find ``<Dataset>DataModule`` among the modules of this package and the classes that a user has imported.

    Raises:
        ParityError: there is none; the closest name is in the message.
    """
    if dataset not in _CLASSES:
        package = importlib.import_module("parity.data")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"parity.data.{module.name}")
    if dataset not in _CLASSES:
        raise ParityError(f"there is no data set '{dataset}': {did_you_mean(dataset, _CLASSES)}")
    return _CLASSES[dataset]
