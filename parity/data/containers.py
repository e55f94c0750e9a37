"""Data as users have it, read as single queries: arrays, data sets, loaders, tables, folders of images."""

import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import default_collate as collate

from parity.data.files import subfolders
from parity.data.images import ImageFiles, image_files, read_image
from parity.data.tensors import to_tensor
from parity.errors import ParityError, cause, did_you_mean, in_one_line
from parity.settings import user_path
from parity.tasks.checks import dtype_name

if TYPE_CHECKING:
    import pandas as pd

TARGET_NAMES = ("label", "labels", "target", "targets", "class", "classes", "y")
"""What a column or an entry of targets is called where nobody names it."""

_MOST_IN_MEMORY = 4 << 30  # bytes

# How many items are read with how many seeds to find out whether they are random.
_PROBED, _SEEDS = 8, 12


class Names(NamedTuple):
    """Names of the entries of dict batches, or of the columns of a table; None finds them."""

    queries: str | None = None
    targets: str | None = None


Read = Callable[[int], Tensor]


@dataclass(frozen=True, eq=False)
class Queries:
    """Single queries, in memory or read one by one in every epoch.

    Args:
        stored: (N, *Q), in storage type; or a function that reads query i, (*Q).
        targets: (N, ...); None where there are none.
        count: N.
        class_names: of the targets, where the data has them.
        is_random: whether a query that is read again is another one, as random transforms make it.
        predicted: whether the targets are a network's predictions, for there were none.
    """

    stored: Tensor | Read
    targets: Tensor | None
    count: int
    class_names: tuple[str, ...] | None = None
    is_random: bool = False
    predicted: bool = False

    def __len__(self) -> int:
        return self.count

    def first(self, number: int = 1) -> Tensor:
        """Return the first queries in storage type: (number, *Q)."""
        if isinstance(self.stored, Tensor):
            return self.stored[:number]
        return torch.stack([self.stored(index) for index in range(min(number, self.count))])


def read_queries(data: Any, where: str, names: Names = Names(), size: int | None = None) -> Queries:
    """Read data of any form.

    Args:
        data: arrays (X, y) or X alone, a dict of arrays, a DataFrame, a folder of images, a ``Dataset``, a
            ``DataLoader``, or an iterable of batches or of single queries; each of (queries, targets), of dicts, or of
            queries alone.
        where: names the data in messages.
        names: of the entries of dicts, or of columns.
        size: side in pixels that images of a folder are resized to.

    Raises:
        ParityError: it is none of these, empty, of several shapes, or too large to be held in memory.
    """
    if isinstance(data, type):
        raise ParityError(f"{where} is a class: make an object of it, {data.__name__}(...).")
    if isinstance(data, str | Path):
        return _of_folder(user_path(data), size)
    if _is_table(data):
        return _of_table(data, where, names)
    if _is_array(data) or _is_arrays(data):
        return _of_arrays([data], where, names)
    if isinstance(data, DataLoader) and _is_plain(data):
        data = data.dataset
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | bytes):
        return _of_items(data, where, names)
    if isinstance(data, Iterable) and not isinstance(data, bytes):
        return _of_stream(data, where, names)
    if hasattr(data, "__getitem__") and not isinstance(data, str | bytes):
        raise ParityError(f"{where} has no length: give {type(data).__name__} a __len__, the number of its items.")
    raise ParityError(
        f"{where} is a {type(data).__name__}: hand over arrays (X, y), a Dataset, a DataLoader, a DataFrame, a folder "
        "of images, or one of our datamodules."
    )


def _is_table(data: Any) -> bool:
    """Whether this is a DataFrame: then who made it has imported pandas, which takes a while."""
    return "pandas" in sys.modules and isinstance(data, sys.modules["pandas"].DataFrame)


def _is_array(value: Any) -> bool:
    """Whether this is an array, or a table or column of pandas, which numpy takes for one."""
    return (isinstance(value, Tensor | np.ndarray) and value.ndim > 0) or hasattr(value, "to_numpy")


def _is_arrays(data: Any) -> bool:
    """Whether these are whole arrays, (X, y) or a dict of them, and not a sequence of single queries."""
    if isinstance(data, dict):
        return True
    if not isinstance(data, tuple | list) or len(data) != 2 or not _is_array(data[0]):
        return False
    if isinstance(data, list):  # which may be of two queries
        return _is_array(data[1]) and data[0].ndim > data[1].ndim and len(data[0]) == len(data[1])
    return not isinstance(data[1], tuple | dict)


def _is_plain(loader: DataLoader) -> bool:
    """Whether a loader yields all of a data set's items, put together as torch does: then these are read one by one."""
    everything = isinstance(loader.sampler, SequentialSampler) or (
        isinstance(loader.sampler, RandomSampler)
        and not loader.sampler.replacement
        and len(loader.sampler) == len(loader.dataset)  # type: ignore[arg-type]  # a map-style one
    )
    return loader.collate_fn is collate and everything and not loader.drop_last


def _of_folder(folder: Path, size: int | None) -> Queries:
    if not folder.is_dir():
        raise ParityError(
            f"there is no folder {folder}: name one that holds a folder of images for each class, or hand over the "
            "data itself."
        )
    names = subfolders(folder)
    if not names:
        raise ParityError(f"{folder} should hold a folder of images for each class, and it holds none.")
    files = image_files(folder, names)
    first = read_image(files.path(0))
    if size is None and len({tuple(read_image(files.path(index)).shape) for index in _some(len(files))}) > 1:
        raise ParityError(f"the images of {folder} are of several sizes: give the side in pixels, size=224.")
    sides = tuple(first.shape[1:]) if size is None else (size, size)
    read = ImageResizer(files, (sides[0], sides[1]))
    if len(files) * 3 * sides[0] * sides[1] <= _MOST_IN_MEMORY:
        stored = torch.empty(len(files), 3, *sides, dtype=torch.uint8)
        for index in range(len(files)):
            stored[index] = read(index)
        return Queries(stored, files.targets, len(files), tuple(names))
    return Queries(read, files.targets, len(files), tuple(names))


def _some(count: int) -> range:
    return range(0, count, max(1, count // 100))


@dataclass(frozen=True, eq=False)
class ImageResizer:
    """Reads images: the shorter side is resized, the middle is cut out.

    Args:
        files: which.
        sides: height and width of a query.
    """

    files: ImageFiles
    sides: tuple[int, int]

    def __call__(self, index: int) -> Tensor:
        """Read one: uint8 (3, height, width)."""
        from torchvision.transforms import v2

        image = read_image(self.files.path(index))
        if tuple(image.shape[1:]) == self.sides:
            return image
        resize = v2.Resize(min(self.sides), antialias=True)
        return v2.CenterCrop(list(self.sides))(resize(image))


def _of_table(table: "pd.DataFrame", where: str, names: Names) -> Queries:
    import pandas as pd

    if len(twice := table.columns[table.columns.duplicated()]):
        raise ParityError(f"{where}: there are several columns '{twice[0]}': give each a name of its own.")
    target = _target_name([str(column) for column in table.columns], names)
    columns = [column for column in table.columns if str(column) != target]
    if names.queries is not None:
        known = [str(column) for column in columns]
        if names.queries not in known:
            raise ParityError(
                f"{where}: there is no column '{names.queries}' of queries: {did_you_mean(names.queries, known)}"
            )
        columns = [column for column in columns if str(column) == names.queries]
    queries = table[columns]
    if len(columns) == 1 and pd.api.types.is_object_dtype(queries.dtypes.iloc[0]):
        stored = _tensor(list(queries.iloc[:, 0]), "queries", where)
    elif text := [str(column) for column in columns if not _is_real(queries[column])]:
        raise ParityError(f"{where}: column '{text[0]}' is not of numbers: drop it, or turn it into numbers.")
    else:
        stored = torch.tensor(queries.to_numpy(dtype=np.float32))
    if target is None:
        return _checked(stored, None, where)
    column = table[target]
    if column.isna().any():
        raise ParityError(f"{where}: column '{target}' has missing values: drop these rows.")
    if pd.api.types.is_numeric_dtype(column):
        return _checked(stored, _tensor(column.to_numpy(), "targets", where), where)
    codes, classes = pd.factorize(column, sort=True)
    return _checked(stored, torch.from_numpy(codes), where, tuple(map(str, classes)))


def _is_real(column: "pd.Series") -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)


def _target_name(known: Sequence[str], names: Names) -> str | None:
    if names.targets is not None:
        if names.targets not in known:
            raise ParityError(f"there is no '{names.targets}' among {', '.join(known)}: name the targets' entry.")
        return names.targets
    return next((name for name in TARGET_NAMES if name in known), None)


def _of_arrays(batches: Iterable[Any], where: str, names: Names) -> Queries:
    """Put batches together in memory."""
    parts, size = [], 0
    for batch in batches:
        queries, targets = _pair(batch, where, names)
        _check_rows(queries, targets, where)
        parts.append(
            (_tensor(queries, "queries", where), None if targets is None else _tensor(targets, "targets", where))
        )
        _check_types(parts[0][0], parts[-1][0], f"batch {len(parts)}", f"{where}: batch 1")
        size += parts[-1][0].nbytes
        if size > _MOST_IN_MEMORY:
            raise ParityError(
                f"{where} is larger than {_MOST_IN_MEMORY >> 30} GiB or has no end: hand over a Dataset with a length, "
                "which is read again in every epoch."
            )
    if not parts:
        raise ParityError(f"{where} is empty: hand over at least one query.")
    try:
        stored = torch.cat([queries for queries, _ in parts])
        labels = [targets for _, targets in parts if targets is not None]
        targets = torch.cat(labels) if labels else None
    except RuntimeError as error:
        raise ParityError(
            f"{where}: queries are of several shapes or types: make them alike ({in_one_line(error).rstrip('.')})."
        ) from error
    return _checked(stored, targets, where)


def _of_stream(data: Iterable[Any], where: str, names: Names) -> Queries:
    """Read an iterable of batches, or of single queries."""
    try:
        iterator = iter(data)
        first = next(iterator, None)
    except ParityError:
        raise
    except Exception as error:  # of a user's own objects
        raise ParityError(f"{where} cannot be read ({cause(error).rstrip('.')}).") from error
    if first is None:
        raise ParityError(f"{where} is empty: hand over at least one query.")
    items = itertools.chain([first], iterator)
    batches = isinstance(data, DataLoader) and data.batch_sampler is not None
    single = not batches and not _is_batch(first, where, names)
    return _of_arrays(_batched(items) if single else items, where, names)


def _is_batch(item: Any, where: str, names: Names) -> bool:
    """Whether an item is of several queries: its target is an array of as many."""
    queries, targets = _pair(item, where, names)
    return targets is not None and np.ndim(targets) > 0 and np.shape(targets)[:1] == np.shape(queries)[:1] != ()


def _batched(items: Iterator[Any]) -> Iterator[Any]:
    while few := list(itertools.islice(items, 256)):
        yield collate(few)


def _of_items(data: Any, where: str, names: Names) -> Queries:
    """Read a data set that is asked for items by number; one that is too large, or random, is read in every epoch."""
    try:
        count = len(data)
    except Exception as error:  # of a user's own objects
        raise ParityError(f"{where} cannot be read, for it has no length ({cause(error).rstrip('.')}).") from error
    if not count:
        raise ParityError(f"{where} is empty: hand over at least one query.")
    with _readable(where, 0):
        first = data[0]
    if isinstance(data, list | tuple) and _is_batch(first, where, names):
        return _of_arrays(data, where, names)
    reader = ItemReader(data, where, names)
    query = reader(0)
    is_random = _is_random(data, count, where, names)
    if not is_random and count * query.nbytes <= _MOST_IN_MEMORY:
        stored, targets = torch.empty(count, *query.shape, dtype=query.dtype), []
        for index in range(count):
            stored[index], target = reader.item(index, query)
            targets.append(target)
        return _checked(stored, _stacked(targets, where), where, _class_names(data))
    targets = [reader.item(index, query)[1] for index in range(count)]
    labels = _stacked(targets, where)
    return Queries(reader, labels, count, _class_names(data), is_random)


def _class_names(data: Any) -> tuple[str, ...] | None:
    """Return the names that torchvision's data sets have for their classes."""
    classes = getattr(data, "classes", None)
    return tuple(map(str, classes)) if isinstance(classes, list | tuple) else None


def _stacked(targets: Sequence[Any], where: str) -> Tensor | None:
    if targets[0] is None:
        return None
    return _tensor([target.item() if isinstance(target, Tensor) and not target.ndim else target for target in targets],
                   "targets", where)  # fmt: skip


def _is_random(data: Any, count: int, where: str, names: Names) -> bool:
    """Whether an item that is read again is another one.

    Up to 8 items, evenly spread, are read with each of a dozen seeds. What acts on other items alone, or on fewer than
    about one read in a hundred, is not found: the data is then held in memory as it was read once.
    """
    reader = ItemReader(data, where, names)
    probed = sorted({step * (count - 1) // (_PROBED - 1) for step in range(_PROBED)})
    read: dict[int, Tensor] = {}
    for seed, index in itertools.product(range(_SEEDS), probed):
        with seeded(seed):
            query = reader(index)
        if not torch.equal(query, read.setdefault(index, query)):
            return True
    return False


@dataclass(frozen=True, eq=False)
class ItemReader:
    """Reads the queries of a data set.

    Args:
        data: asked for items by number.
        where, names: of ``read_queries``.
    """

    data: Any
    where: str
    names: Names

    def __call__(self, index: int) -> Tensor:
        """Read one: (*Q), in storage type."""
        return self.item(index)[0]

    def item(self, index: int, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """Read one, and its target.

        Raises:
            ParityError: it cannot be read, or is not like the first query.
        """
        with _readable(self.where, index):
            item = self.data[index]
        queries, target = _pair(item, self.where, self.names)
        query = _tensor(queries, "queries", f"{self.where}, item {index}")
        if first is not None and query.shape != first.shape:
            raise ParityError(
                f"{self.where}: query {index} has the shape {tuple(query.shape)}, and query 0 {tuple(first.shape)}: "
                "make all alike, images by a Resize among the transforms."
            )
        if first is not None:
            _check_types(first, query, f"query {index}", f"{self.where}: query 0")
        return query, target


def _check_rows(queries: Any, targets: Any, where: str) -> None:
    """Refuse a table and a column of targets whose rows are labelled otherwise: by their order they may not match.

    Raises:
        ParityError: they are.
    """
    if not all(hasattr(values, "index") and hasattr(values, "to_numpy") for values in (queries, targets)):
        return
    if len(queries) == len(targets) and not queries.index.equals(targets.index):
        raise ParityError(
            f"{where}: the rows of queries and of targets have other labels: select targets.loc[queries.index], or "
            "hand over arrays, .to_numpy(), if they are in the same order."
        )


def _check_types(first: Tensor, other: Tensor, name: str, name_of_first: str) -> None:
    """Refuse queries of two types, one of which would be cut off, or scaled as the other is; floats of any width mix.

    Raises:
        ParityError: they are.
    """
    if first.dtype != other.dtype and not (first.is_floating_point() and other.is_floating_point()):
        raise ParityError(
            f"{name_of_first} is {dtype_name(first)}, and {name} {dtype_name(other)}: make all of one type."
        )


@contextmanager
def _readable(where: str, index: int) -> Iterator[None]:
    try:
        yield
    except ParityError:
        raise
    except Exception as error:  # of a user's own objects
        raise ParityError(f"item {index} of {where} cannot be read ({cause(error).rstrip('.')}).") from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within this block all global random generators begin at a seed; then they are as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _pair(item: Any, where: str, names: Names) -> tuple[Any, Any]:
    """Return queries and targets of an item or a batch; None for no targets."""
    if isinstance(item, Mapping):
        known = [str(name) for name in item]
        target = _target_name(known, names)
        others = [name for name in known if name != target]
        if names.queries is not None and names.queries not in others:
            raise ParityError(
                f"{where}: there is no '{names.queries}' among {', '.join(known)}: name the queries' entry."
            )
        if names.queries is None and len(others) != 1:
            raise ParityError(
                f"{where}: which of {', '.join(others) or 'no entries'} are the queries? Name them, queries='...', and "
                "the targets, targets='...'."
            )
        return item[names.queries or others[0]], None if target is None else item[target]
    if isinstance(item, tuple | list):
        if len(item) == 1:
            return item[0], None
        if len(item) == 2:
            return item[0], item[1]
        raise ParityError(
            f"{where}: an item has {len(item)} parts, and not a query and a target: hand over pairs, or dicts with "
            "queries='...' and targets='...'."
        )
    return item, None


def _tensor(values: Any, what: str, where: str) -> Tensor:
    return to_tensor(values, what, where).detach().cpu()


def _checked(stored: Tensor, targets: Tensor | None, where: str, class_names: tuple[str, ...] | None = None) -> Queries:
    if not stored.numel():
        raise ParityError(f"{where} is empty: hand over at least one query.")
    if targets is not None and (not targets.ndim or len(targets) != len(stored)):
        raise ParityError(
            f"{where}: there are {len(stored)} queries and {len(targets) if targets.ndim else 'no'} targets: every "
            "query has one target, in the same order."
        )
    return Queries(stored, targets, len(stored), class_names)
