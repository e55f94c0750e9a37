"""What every data set is to the rest of the package."""

import functools
import importlib
import logging
import pkgutil
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self, TypedDict, Unpack

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from parity.data.checks import check_counts, check_network_inputs, check_queries, check_targets
from parity.data.groups import GroupSampler
from parity.data.loaders import GroupLoader, Scaling, TensorLoader, are_ids
from parity.errors import ParityError, cause, did_you_mean
from parity.signatures import keywords
from parity.tasks import Classification, Task

# The seed of what must be the same in every run: the validation split and the groups of validation and test.
FIXED_SEED = 0

SPLITS = ("train", "val", "test")

log = logging.getLogger(__name__)

_BUILT_IN: dict[str, type["GroupDataModule"]] = {}
_OF_USERS: dict[str, type["GroupDataModule"]] = {}

Augmentation = Callable[[Tensor], Tensor]


class GroupArguments(TypedDict, total=False):
    """What every datamodule takes beside k: a subclass hands it on as ``**common: Unpack[GroupArguments]``."""

    batch_size: int
    num_validation: int | None
    steps_per_epoch: int | None
    seed: int


class TensorArguments(GroupArguments, total=False):
    """What every ``TensorDataModule`` takes beside k."""

    augmentation: Augmentation | None


class GroupDataModule(pl.LightningDataModule):
    """Deals out coding groups of one data set. Subclasses are found by their name, ``<Dataset>DataModule``.

    A subclass declares ``QUERY_SHAPE`` and, for classification, ``NUM_CLASSES``; one whose shape depends on its
    arguments overrides ``query_shape``, one with another task ``task``. ``DIVISOR``, ``MEAN`` and ``STD`` are the
    statistics by which stored queries are scaled: (stored / DIVISOR - MEAN) / STD, a number for each channel. Where it
    declares no ``DIVISOR``, uint8 is divided by 255 and floats are left as they are.
    ``NUM_VALIDATION`` is how many training queries are held out by default.

    Args:
        k: queries in a coding group; 1 for a base model.
        batch_size: groups in a batch, on each device.
        num_validation: training queries held out for validation, rounded up to a multiple of k, where the data set has
            no validation split of its own. Which ones depends on nothing but the data set: every run holds out the
            same. By default as many as the data set declares.
        steps_per_epoch: an epoch of training ends after so many batches, if the data lasts that long; the next one
            draws other groups. None uses all data.
        seed: of the permutations that group the training data.

    Raises:
        ParityError: k is less than 1, a keyword is not known (the nearest one is in the message), or what the class
            declares makes no sense.
    """

    NUM_CLASSES: ClassVar[int]
    QUERY_SHAPE: ClassVar[tuple[int, ...]]
    DIVISOR: ClassVar[float | None] = None
    MEAN: ClassVar[tuple[float, ...] | None] = None
    STD: ClassVar[tuple[float, ...] | None] = None
    NUM_VALIDATION: ClassVar[int] = 5000

    def __new__(cls, *args: Any, **arguments: Any) -> Self:
        # Python's own message would name the constructor of a parent class.
        known = keywords(cls)
        if known is not None and (unknown := sorted(arguments.keys() - known)):
            raise ParityError(f"{cls.__name__} does not take '{unknown[0]}': {did_you_mean(unknown[0], known)}")
        return super().__new__(cls)

    def __init__(
        self,
        k: int = 1,
        batch_size: int = 64,
        num_validation: int | None = None,
        steps_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_validation = self.NUM_VALIDATION if num_validation is None else num_validation
        check_whole(k=k, batch_size=batch_size, seed=seed, num_validation=self.num_validation)
        if steps_per_epoch is not None:
            check_whole(steps_per_epoch=steps_per_epoch)
        if k < 1:
            raise ParityError(f"a coding group has at least 1 query, not k = {k}.")
        _check_declared(type(self))
        self.k, self.batch_size, self.steps_per_epoch, self.seed = k, batch_size, steps_per_epoch, seed
        self.validation_splits: tuple[str, ...] = ("val",)
        """What is evaluated after each epoch; a run that records test accuracy as it goes adds 'test'."""
        self.device = torch.device("cpu")
        """Where loaders put data while there is not a Trainer."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.endswith("DataModule") and hasattr(cls, "QUERY_SHAPE"):  # else a base of others
            classes = _BUILT_IN if cls.__module__.startswith("parity.data.") else _OF_USERS
            classes[cls.__name__.removesuffix("DataModule")] = cls

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={self.k}, batch_size={self.batch_size})"

    __str__ = __repr__  # Lightning's asks every loader for what ours do not have

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return type(self).__name__.removesuffix("DataModule")

    @property
    def task(self) -> Task:
        """What predictions are measured by."""
        return Classification(self.NUM_CLASSES)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, for people; their numbers unless a data set knows better."""
        return [str(number) for number in range(self.NUM_CLASSES)]

    @property
    def query_shape(self) -> tuple[int, ...]:
        """Shape Q of a query."""
        return self.QUERY_SHAPE

    def rows(self, split: str) -> Tensor:
        """Return the row indices of a split in its data: int64 (N,). 'train' and 'val' lie in the same data."""
        raise NotImplementedError

    def targets(self, split: str) -> Tensor:
        """Return the true targets of a split's data, (N, ...); ``rows`` are the indices of those of the split."""
        raise NotImplementedError

    def loader(self, split: str) -> GroupLoader:
        """Return the loader of 'train', 'val' or 'test'; 'test' alone reads test data."""
        raise NotImplementedError

    def default_prediction(self) -> Tensor:
        """Return the prediction where nothing can be rebuilt, (*P): the task's best guess from the training data."""
        return self.task.default_prediction(self.targets("train").cpu()[self.rows("train")])

    def check(self, split: str) -> None:
        """Refuse data of a split that cannot be right, before any work.

        Raises:
            ParityError: it is not there, or targets or the first query are not as they should be.
        """
        loader, where = self.loader(split), self.where(split)
        check_targets(loader.targets, self.task, where)
        first = loader.first_query()
        (check_queries if are_ids(first) else check_network_inputs)(first, self.query_shape, where)

    def where(self, split: str) -> str:
        """Return what messages call a split's data."""
        check_split(split)
        return f"the {'test' if split == 'test' else 'training'} data of {self.dataset}"

    def train_dataloader(self) -> GroupLoader:
        return self._made("train")

    def val_dataloader(self) -> list[GroupLoader]:
        return [self._made(split) for split in self.validation_splits]

    def test_dataloader(self) -> GroupLoader:
        return self._made("test")

    def _made(self, split: str) -> GroupLoader:
        # Lightning may ask in inference mode; what is loaded then and kept could not be trained on later.
        with torch.inference_mode(False):
            return self.loader(split)

    def sampler(self, split: str) -> GroupSampler:
        """Return what deals the split's queries out to this process."""
        check_split(split)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        train, rows = split == "train", self.rows(split)
        if not train and not self.task.all_measurable:
            rows = self._measurable(rows, split)
        if split == "val" and not len(rows):
            raise ParityError(
                f"{self.dataset} has no validation data, with data.num_validation = {self.num_validation}: hold out at "
                f"least one group, {self.k}, or name some in its validation list or folder where it has one."
            )
        return GroupSampler(
            rows, self.k, self.batch_size, self.seed if train else FIXED_SEED, shuffle=train,
            rank=rank, world_size=world_size, most_batches=self.steps_per_epoch if train else None,
        )  # fmt: skip

    def _measurable(self, rows: Tensor, split: str) -> Tensor:
        """Return the row indices of queries whose targets have something to measure."""
        among = self.task.measurable(self.targets(split)).cpu()[rows]
        if among.all():
            return rows
        log.warning(
            "%d queries of %s are left out: all of their targets are ignored", int((~among).sum()), self.where(split)
        )
        return rows[among]

    def target_device(self) -> torch.device:
        """Return where loaders put data now."""
        return self.trainer.strategy.root_device if self.trainer else self.device

    def shared_by_ranks(self, number: int) -> int:
        """Return how many of so many processes that read on this machine are this rank's, rounded up."""
        return -(-number // self.trainer.num_devices) if self.trainer else number

    def divisor(self, stored: torch.dtype) -> float:
        """Return what stored queries of a type are divided by.

        Raises:
            ParityError: neither the class nor the type determines it.
        """
        if self.DIVISOR is not None:
            return self.DIVISOR
        if stored == torch.uint8 or stored.is_floating_point:
            return 255.0 if stored == torch.uint8 else 1.0
        raise ParityError(
            f"queries of {self.dataset} are stored as {str(stored).removeprefix('torch.')}, and it is not known how to "
            "scale them: declare DIVISOR in its class, or load floats."
        )

    def scaling(self, stored: torch.dtype = torch.uint8) -> nn.Module:
        """Return what turns stored queries of a type into what networks see.

        Raises:
            ParityError: ``DIVISOR``, ``MEAN`` and ``STD`` make no sense, or are not of these queries.
        """
        name = type(self).__name__
        try:
            scaling = Scaling(self.divisor(stored), self.MEAN, self.STD)
        except ParityError as error:
            raise ParityError(f"{name} cannot scale queries: {error}") from error
        if scaling.is_shifted and not (len(shape := self.query_shape) == 3 and len(scaling.mean) in (1, shape[0])):
            raise ParityError(
                f"{name} has MEAN or STD of {len(scaling.mean)} channels, and queries of shape {shape}: declare one "
                "number for each channel of queries (C, H, W), or scale others in load."
            )
        return scaling.to(self.target_device())

    def held_out(self, total: int, split: str) -> Tensor:
        """Return the row indices of 'train' or 'val' where validation queries are held out of ``total``."""
        check_split(split)
        held_out = -(-self.num_validation // self.k) * self.k
        if not 0 <= held_out < total:
            raise ParityError(f"data.num_validation = {self.num_validation} leaves nothing of {total} to train on.")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(FIXED_SEED))
        return (order[:held_out] if split == "val" else order[held_out:]).sort().values


class TensorDataModule(GroupDataModule):
    """A data set that fits in memory: one tensor for training and validation, one for test, each held once.

    A subclass defines how to ``load``; it may have an ``AUGMENTATION``, and ``rows`` of its own.

    Args:
        k, batch_size, num_validation, steps_per_epoch, seed: as in ``GroupDataModule``.
        augmentation: of training queries, in place of the data set's own: stored (B, *Q) -> (B, *Q), on the device,
            each in a random way of its own. The base model answers what comes out of it.

    Raises:
        ParityError: the augmentation cannot be called; (from ``loader``, ``rows`` and ``targets``) the data is not
            there, cannot be right, or leaves too few queries for a group.
    """

    AUGMENTATION: ClassVar[Augmentation | None] = None
    """The data set's own, by default."""

    def __init__(
        self,
        k: int = 1,
        *,
        augmentation: Augmentation | None = None,
        **common: Unpack[GroupArguments],
    ) -> None:
        super().__init__(k, **common)
        self.augmentation = type(self).AUGMENTATION if augmentation is None else augmentation
        if self.augmentation is not None and (isinstance(self.augmentation, type) or not callable(self.augmentation)):
            raise ParityError(
                f"an augmentation is called with queries, as RandomAffine() is, unlike {self.augmentation!r}."
            )

    @functools.cached_property
    def _loaded(self) -> dict[bool, tuple[Tensor, Tensor]]:
        return {}

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read from disk: queries (N, *Q) in storage type and targets (N, ...), of the training or of the test data."""
        raise NotImplementedError

    def rows(self, split: str) -> Tensor:
        total = len(self.targets(split))
        return torch.arange(total) if split == "test" else self.held_out(total, split)

    def targets(self, split: str) -> Tensor:
        return self._tensors(split)[1]

    def loader(self, split: str) -> TensorLoader:
        queries, targets = self._tensors(split)
        device = self.target_device()
        if queries.device != device:
            queries, targets = queries.to(device), targets.to(device)
            self._loaded[split != "test"] = queries, targets
        augment = self.augmentation if split == "train" else None
        return TensorLoader(queries, targets, self.sampler(split), self.scaling(queries.dtype), split, augment)

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        train, where = split != "test", self.where(split)
        if train not in self._loaded:
            try:
                loaded = self.load(train)
            except ParityError:
                raise
            except Exception as error:  # of a user's own class
                raise ParityError(f"{where} cannot be loaded ({cause(error).rstrip('.')}).") from error
            self._loaded[train] = self._checked(loaded, where)
        return self._loaded[train]

    def _checked(self, loaded: tuple[Tensor, Tensor], where: str) -> tuple[Tensor, Tensor]:
        if not isinstance(loaded, tuple | list) or len(loaded) != 2:
            raise ParityError(f"{where}: load returns a pair (queries, targets), not {type(loaded).__name__}.")
        queries = check_queries(loaded[0], self.query_shape, where)
        targets = check_targets(loaded[1], self.task, where)
        check_counts(queries, targets, where)
        self.divisor(queries.dtype)
        return queries, targets


def check_split(split: str, known: Sequence[str] = SPLITS) -> None:
    """Refuse a name that no split has, by which training data would be taken for it.

    Raises:
        ParityError: it is one; the nearest of ``known`` is in the message.
    """
    if split not in known:
        raise ParityError(f"there is no split '{split}': {did_you_mean(str(split), known)}")


def check_whole(**arguments: object) -> None:
    """Refuse arguments of a datamodule that are not whole numbers.

    Raises:
        ParityError: one is not.
    """
    for name, value in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ParityError(f"data.{name} is a whole number, not {value!r:.60}.")


def _check_declared(datamodule: type[GroupDataModule]) -> None:
    """Refuse a class whose ``QUERY_SHAPE`` or ``NUM_CLASSES`` is not what it has to be; it may have neither."""
    shape, classes = getattr(datamodule, "QUERY_SHAPE", ()), getattr(datamodule, "NUM_CLASSES", 1)
    sides = shape if isinstance(shape, tuple) else (0,)
    if not all(isinstance(side, Integral) and int(side) > 0 for side in sides):
        raise ParityError(
            f"{datamodule.__name__}.QUERY_SHAPE is a tuple of whole numbers, e.g. (3, 32, 32), not {shape!r:.60}."
        )
    if not isinstance(classes, Integral | property) or (isinstance(classes, Integral) and int(classes) < 1):
        raise ParityError(f"{datamodule.__name__}.NUM_CLASSES is a whole number, 1 or more, not {classes!r:.60}.")


def get_datamodule_class(dataset: str) -> type[GroupDataModule]:
    """Find ``<Dataset>DataModule`` among the classes that a user has imported and the modules of this package.

    A user's class is taken instead of one of this package, whichever was imported first, and it is logged once.

    Raises:
        ParityError: there is none; the closest name is in the message.
    """
    _import_built_in()
    if dataset in _OF_USERS:
        if dataset in _BUILT_IN:
            _log_taken_instead(dataset, _OF_USERS[dataset].__module__)
        return _OF_USERS[dataset]
    if dataset not in _BUILT_IN:
        raise ParityError(f"there is no data set '{dataset}': {did_you_mean(dataset, {**_BUILT_IN, **_OF_USERS})}")
    return _BUILT_IN[dataset]


@functools.cache
def _import_built_in() -> None:
    package = importlib.import_module("parity.data")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"parity.data.{module.name}")


@functools.cache
def _log_taken_instead(dataset: str, module: str) -> None:
    log.warning("data set '%s' is that of %s and not parity's own: rename its class to have both", dataset, module)
