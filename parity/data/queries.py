"""Coding groups of any data: ``groups_of`` deals what users have out in groups of k."""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from parity.data.checks import check_network_inputs, check_queries, check_targets
from parity.data.containers import Names, Queries, Read, read_queries, seeded
from parity.data.datamodule import Augmentation, GroupArguments, GroupDataModule, check_split
from parity.data.loaders import GroupLoader, Ids, Scaling, TensorLoader, WorkerLoader, are_ids
from parity.errors import ParityError, cause, in_one_line
from parity.tasks import Classification, Task, task_of
from parity.tasks.checks import check_finite, is_one_hot
from parity.tasks.inference import NAMED
from parity.vocabulary import check_ids

log = logging.getLogger(__name__)

_MOST_VALIDATION = 5000


class QueriesDataModule(GroupDataModule):
    """Deals out single queries that were read from a user's own data.

    Args:
        k: queries in a coding group.
        splits: 'train', and where there are such, 'val' and 'test'. Without 'val', a tenth of the training data is
            held out for validation, at most 5,000.
        task: what predictions are measured by; what its measures need to know of targets they take from the training
            data, or where there is none from the test data, whether or not there is validation data.
        scaling: what turns stored queries into what networks see; None leaves them.
        augmentation: of training queries in storage type, (B, *Q) -> (B, *Q); None leaves them.
        num_workers: processes that read what is not held in memory.
        name: of the data, in reports.
        reading: how further splits are read: ``names`` and ``size`` of ``read_queries``.
        vocabulary: queries are ids of tokens, and these are below it; None where they are not, or it is not known.
        common: of ``GroupDataModule``.

    Raises:
        ParityError: queries or targets are not what networks and the task take.
    """

    def __init__(
        self,
        k: int,
        splits: Mapping[str, Queries],
        task: Task,
        scaling: Scaling | None = None,
        augmentation: Augmentation | None = None,
        num_workers: int = 0,
        name: str = "own data",
        reading: Mapping[str, Any] = MappingProxyType({}),
        vocabulary: int | None = None,
        **common: Unpack[GroupArguments],
    ) -> None:
        fitted = fitted_on(splits)
        first = splits[fitted]
        if "val" not in splits and common.get("num_validation") is None:
            common["num_validation"] = max(k, min(_MOST_VALIDATION, len(first) // 10))
        super().__init__(k, **common)
        if "train" in splits and "val" not in splits and len(first) < 2 * k:
            raise ParityError(
                f"{len(first)} queries are too few for groups of k = {k}, one to train on and one to validate on: hand "
                "over more, or choose a smaller k."
            )
        self._task, self._scaling, self._name, self._vocabulary = task, scaling, name, vocabulary
        self.augmentation, self.num_workers, self._reading = augmentation, num_workers, reading
        self._query_shape = tuple(network_input(first.first(), scaling, self.where(fitted)).shape[1:])
        self.splits = {split: self._checked(queries, f"the {split} data") for split, queries in splits.items()}
        self._task = task.fitted(self.targets(fitted))

    @property
    def dataset(self) -> str:
        return self._name

    @property
    def task(self) -> Task:
        return self._task

    @property
    def class_names(self) -> list[str]:
        named = next((queries.class_names for queries in self.splits.values() if queries.class_names), None)
        classes = self.task.prediction_shape[0]
        return list(named) if named and len(named) == classes else [str(number) for number in range(classes)]

    @property
    def query_shape(self) -> tuple[int, ...]:
        return self._query_shape

    @property
    def has_labels(self) -> bool:
        """Whether there are true targets, and not a network's predictions in their place."""
        return not any(queries.predicted for queries in self.splits.values())

    def where(self, split: str) -> str:
        return f"the {split} data"

    def with_split(self, split: str, data: Any, network: Callable[[Tensor], Tensor]) -> "QueriesDataModule":
        """Return a copy that has another split, read as the others were.

        Args:
            split: its name.
            data: in any form that ``groups_of`` takes.
            network: predicts the targets of data that has none.
        """
        data = _test_loader(data) if split == "test" else data
        queries = read_queries(data, self.where(split), **self._reading)
        _check_vocabulary(queries, self._vocabulary, self.where(split))
        queries = labelled(queries, network, self._scaling, self._task)
        changed = copy(self)
        changed.splits = {**self.splits, split: self._checked(queries, self.where(split))}
        return changed

    def rows(self, split: str) -> Tensor:
        total = len(self._queries(split))
        if "val" in self.splits or split == "test":
            return torch.arange(total)
        return self.held_out(total, split)

    def default_prediction(self) -> Tensor:
        split = fitted_on(self.splits)
        return self.task.default_prediction(self.targets(split)[self.rows(split)])

    def targets(self, split: str) -> Tensor:
        targets = self._queries(split).targets
        assert targets is not None, "checked when the datamodule was made"
        return targets

    def loader(self, split: str) -> GroupLoader:
        queries, targets, device = self._queries(split), self.targets(split), self.target_device()
        scaling = (self._scaling or (Ids(self._vocabulary) if are_ids(queries.first()) else Scaling(1.0))).to(device)
        augment = None if queries.is_random or split != "train" else self.augmentation
        if isinstance(queries.stored, Tensor):
            return TensorLoader(
                queries.stored.to(device), targets.to(device), self.sampler(split), scaling, split, augment
            )
        augmented = split == "train" and (queries.is_random or augment is not None)
        return WorkerLoader(
            SeededReader(queries.stored, augment), targets.to(device), self.sampler(split), scaling, split, augmented,
            self.shared_by_ranks(self.num_workers),
        )  # fmt: skip

    def _queries(self, split: str) -> Queries:
        check_split(split)
        kept = "train" if split == "val" and "val" not in self.splits else split
        if kept not in self.splits:
            raise ParityError(f"there is no {split} data: hand it over.")
        return self.splits[kept]

    def _checked(self, queries: Queries, where: str) -> Queries:
        """Return queries as they are held, with targets that the task can use."""
        check_queries(network_input(queries.first(), self._scaling, where), self._query_shape, where)
        if queries.targets is None:
            raise ParityError(f"{where}: there are no targets: name them, targets='...', or hand over pairs.")
        stored = queries.stored
        if isinstance(stored, Tensor):
            check_finite(stored, "queries", where)
            kept = stored.dtype == torch.uint8 or (self._scaling is None and are_ids(stored))
            stored = (stored if kept else stored.float()).contiguous()
        return replace(queries, stored=stored, targets=check_targets(queries.targets, self._task, where))


def fitted_on(splits: Collection[str]) -> str:
    """Return the split that a task and the default prediction are fitted on: 'train', else what is measured, 'test'."""
    return next(split for split in ("train", "test", "val") if split in splits)


@dataclass(frozen=True, eq=False)
class SeededReader:
    """Reads queries as worker processes do: what is random depends on (seed, epoch, index) alone.

    Args:
        read: query i.
        augment: of a batch of stored queries; None for none.
    """

    read: Read
    augment: Augmentation | None

    def __call__(self, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        """Read one; see ``parity.data.loaders.Reader``."""
        digest = hashlib.sha256(f"{epoch_key} {place}".encode()).digest()
        with seeded(int.from_bytes(digest[:7], "big")):
            query = self.read(place)
            check_finite(query.unsqueeze(0), "queries", f"item {place} of the data, read again")
            if self.augment is not None and epoch_key is not None:
                query = self.augment(query.unsqueeze(0)).squeeze(0)
        return query


def groups_of(
    data: Any,
    k: int,
    *,
    val_data: Any = None,
    test_data: Any = None,
    network: Callable[[Tensor], Tensor] | None = None,
    queries: str | None = None,
    targets: str | None = None,
    task: Task | None = None,
    scaling: Scaling | None = None,
    vocabulary: Callable[[tuple[int, ...]], int | None] | None = None,
    augmentation: Augmentation | None = None,
    size: int | None = None,
    name: str = "own data",
    **options: Any,
) -> GroupDataModule:
    """Deal any data out in coding groups of k queries.

    Args:
        data: training data, or None: arrays (X, y), a ``Dataset`` or ``DataLoader`` of single queries, an iterable of
            batches, dicts of ``queries`` and ``targets``, a DataFrame, a folder of images by class, a datamodule of
            ours or of Lightning.
        k: queries in a group.
        val_data, test_data: likewise; without validation data a tenth of the training data is held out. Of a datamodule
            of Lightning that is handed over as test data, what its ``test_dataloader`` returns.
        network: predicts the targets of data that has none, (B, *Q) -> (B, *P).
        queries, targets: names of entries of dicts, or of columns.
        task: what predictions are measured by; by default what targets and predictions are of, see ``task_of``, or
            without ``network`` a classification of as many classes as there are.
        scaling: of stored queries, e.g. ``Scaling(255, mean, std)`` for pixels.
        vocabulary: called with the shape of queries that are ids, returns what they are below; None where that is not
            known.
        augmentation: of training queries in storage type, (B, *Q) -> (B, *Q).
        size: side in pixels that images of a folder are resized to.
        name: of the data, in reports; our datamodules have their own.
        options: of ``QueriesDataModule``.

    Raises:
        ParityError: the data cannot be used; the message names the reason.
    """
    if isinstance(data, GroupDataModule):
        if val_data is not None or test_data is not None:
            raise ParityError(f"{type(data).__name__} has its own validation and test data: leave out the argument.")
        return regrouped(data, k, augmentation=augmentation, **options)
    given = {"train": data, "val": val_data, "test": _test_loader(test_data)}
    if isinstance(data, pl.LightningDataModule):
        given = {**_loaders(data), **{split: given[split] for split in ("val", "test") if given[split] is not None}}
    _check_used(list(given.values()), queries or targets, size)
    reading: dict[str, Any] = dict(names=Names(queries, targets), size=size)
    splits = {
        split: read_queries(value, f"the {split} data", **reading)
        for split, value in given.items()
        if value is not None
    }
    if not splits:
        raise ParityError("there is no data: hand over arrays (X, y), a Dataset or a DataLoader.")
    first = splits[fitted_on(splits)]
    below = None
    if vocabulary is not None and scaling is None and are_ids(ids := first.first()):
        below = vocabulary(tuple(ids.shape[1:]))
        for split, read in splits.items():
            _check_vocabulary(read, below, f"the {split} data")
    if network is not None:
        predicted = network(network_input(first.first(2), scaling, "the first queries"))
        task = task or task_of(predicted, first.targets)
        splits = {split: labelled(value, network, scaling, task) for split, value in splits.items()}
    return QueriesDataModule(
        k, splits, task or _classification(splits), scaling, augmentation, reading=reading, name=name,
        vocabulary=below, **options,
    )  # fmt: skip


def _check_used(given: Sequence[Any], name: str | None, size: int | None) -> None:
    """Refuse a name or a size that nothing would use.

    Raises:
        ParityError: there is one.
    """
    there = [value for value in given if value is not None]
    if size is not None and there and not any(isinstance(value, str | Path) for value in there):
        raise ParityError(f"size = {size} is what images of a folder are resized to, and there is no folder: leave it.")
    if name is not None and there and all(isinstance(value, tuple) for value in there):
        raise ParityError(f"arrays (X, y) have no names, as '{name}' is one: leave out queries= and targets=.")


def regrouped(data: GroupDataModule, k: int, **changes: Any) -> GroupDataModule:
    """Return a datamodule that deals the same data out in groups of another k, read once for both."""
    changed = copy(data)
    for name, value in {"k": k, **changes}.items():
        if value is not None:
            setattr(changed, name, value)
    return changed


@torch.no_grad()
def labelled(queries: Queries, network: Callable[[Tensor], Tensor], scaling: Scaling | None, task: Task) -> Queries:
    """Return queries with a network's predictions as targets, where they have none."""
    if queries.targets is not None:
        return queries
    log.warning("there are no targets: the network's predictions are taken for them, so its own accuracy is 1")
    predicted = []
    for start in range(0, len(queries), 256):
        stored = _between(queries, start, min(start + 256, len(queries)))
        predicted.append(task.as_targets(network(network_input(stored, scaling, "the data"))).cpu())
    return replace(queries, targets=torch.cat(predicted), predicted=True)


def _check_vocabulary(queries: Queries, vocabulary: int | None, where: str) -> None:
    """Refuse ids that are not below the vocabulary; those that are not held in memory are read for it."""
    for start in range(0, len(queries), 256) if vocabulary is not None else ():
        check_ids(_between(queries, start, min(start + 256, len(queries))), vocabulary, where)


def _between(queries: Queries, start: int, stop: int) -> Tensor:
    if isinstance(queries.stored, Tensor):
        return queries.stored[start:stop].clone()
    return torch.stack([queries.stored(index) for index in range(start, stop)])


def network_input(stored: Tensor, scaling: Scaling | None, where: str) -> Tensor:
    """Return stored queries (B, *Q) as networks see them: floats, or ids of tokens where they are int32 or int64.

    Raises:
        ParityError: they are not of a type that networks take.
    """
    if stored.dtype == torch.uint8 and scaling is None:
        raise ParityError(
            f"{where}: queries are uint8, and networks take float32: hand over queries.float() / 255, or scale pixels "
            "by scaling=parity.data.Scaling(255, mean, std)."
        )
    if stored.dtype == torch.float64:
        stored = stored.float()
    if scaling is None and are_ids(stored):
        return check_queries(stored, tuple(stored.shape[1:]), where).long()
    try:
        scaled = stored if scaling is None else scaling(stored.clone())
    except RuntimeError as error:
        raise ParityError(
            f"{where}: the scaling does not fit queries of shape {tuple(stored.shape[1:])} "
            f"({in_one_line(error).rstrip('.')}): give it a mean and a standard deviation for each channel."
        ) from error
    return check_network_inputs(scaled, tuple(scaled.shape[1:]), where).float()


def _classification(splits: Mapping[str, Queries]) -> Task:
    """Return the classification that the targets of the split that it is fitted on are of."""
    queries = splits[fitted_on(splits)]
    targets = queries.targets
    if targets is not None and is_one_hot(targets):
        return Classification(targets.shape[1])  # which refuses them by name
    if targets is None or targets.is_floating_point():
        raise ParityError(
            f"the targets are not classes: give what predictions are measured by, {NAMED}, or hand over classes as "
            "integers."
        )
    return Classification(len(queries.class_names) if queries.class_names else int(targets.max()) + 1)


def _loaders(data: pl.LightningDataModule) -> dict[str, Any]:
    """Return the loaders of a datamodule of Lightning, by split; those that it has."""
    try:
        data.prepare_data()
        data.setup("fit")
        loaders: dict[str, Any] = {"train": data.train_dataloader()}
        if type(data).val_dataloader is not pl.LightningDataModule.val_dataloader:
            loaders["val"] = data.val_dataloader()
    except ParityError:
        raise
    except Exception as error:  # of a user's own object
        raise ParityError(f"{type(data).__name__} cannot be set up ({cause(error).rstrip('.')}).") from error
    return {split: _one(loader, split, data) for split, loader in loaders.items()}


def _test_loader(data: Any) -> Any:
    """Return the test loader of a datamodule of Lightning, and any other data as it is.

    Raises:
        ParityError: it has none, several, or cannot be set up.
    """
    if not isinstance(data, pl.LightningDataModule) or isinstance(data, GroupDataModule):
        return data
    if type(data).test_dataloader is pl.LightningDataModule.test_dataloader:
        raise ParityError(f"{type(data).__name__} has no test_dataloader: define it, or hand over the data itself.")
    try:
        data.prepare_data()
        data.setup("test")
        loaders = data.test_dataloader()
    except ParityError:
        raise
    except Exception as error:  # of a user's own object
        raise ParityError(f"{type(data).__name__} cannot be set up ({cause(error).rstrip('.')}).") from error
    return _one(loaders, "test", data)


def _one(loaders: Any, split: str, data: pl.LightningDataModule) -> Any:
    several = isinstance(loaders, list | tuple) and loaders and isinstance(loaders[0], DataLoader)
    if several and len(loaders) > 1:
        raise ParityError(f"{type(data).__name__} has {len(loaders)} {split} loaders: hand one of them over as data.")
    return loaders[0] if several else loaders
