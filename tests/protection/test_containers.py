"""Data of any container, type and shape either trains through ``protect``, or is refused in one sentence first."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import parity
from parity.data import Scaling, groups_of
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.tasks import Classification, Regression

COUNT = 24
SHAPES = [(6,), (1, 4, 4), (3, 4, 6), (2, 3, 4, 4)]
REFUSED_TYPES = (torch.uint8, torch.int64, torch.bool, torch.complex64)
TAKEN_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Pairs(Dataset):
    """A map-style data set of (query, class)."""

    def __init__(self, queries: Tensor, targets: Tensor) -> None:
        self.queries, self.targets = queries, targets

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, index: int) -> Any:
        return self.queries[index], int(self.targets[index])


class Named(Pairs):
    """A map-style data set of dicts."""

    def __getitem__(self, index: int) -> Any:
        return {"pixel_values": self.queries[index], "labels": self.targets[index]}


class Streamed(IterableDataset):
    """A data set without a length, of (query, class)."""

    def __init__(self, queries: Tensor, targets: Tensor) -> None:
        self.pairs = list(zip(queries, targets.tolist(), strict=True))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pairs)


class Lightning(pl.LightningDataModule):
    """A datamodule of Lightning."""

    def __init__(self, queries: Tensor, targets: Tensor) -> None:
        super().__init__()
        self.data = TensorDataset(queries, targets)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=5, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=7)


CONTAINERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensors": lambda queries, targets: (queries, targets),
    "no targets": lambda queries, targets: queries,
    "dict of arrays": lambda queries, targets: {"x": queries, "y": targets},
    "TensorDataset": TensorDataset,
    "data set": Pairs,
    "data set of dicts": Named,
    "loader": lambda queries, targets: DataLoader(Pairs(queries, targets), batch_size=5, shuffle=True),
    "loader that drops": lambda queries, targets: DataLoader(Pairs(queries, targets), batch_size=5, drop_last=True),
    "loader of dicts": lambda queries, targets: DataLoader(Named(queries, targets), batch_size=4),
    "stream": Streamed,
    "loader of a stream": lambda queries, targets: DataLoader(Streamed(queries, targets), batch_size=6),
    "list of arrays": lambda queries, targets: [queries, targets],
    "loader without batches": lambda queries, targets: DataLoader(Pairs(queries, targets), batch_size=None),
    "list of pairs": lambda queries, targets: list(zip(queries, targets.tolist(), strict=True)),
    "list of batches": lambda queries, targets: list(zip(queries.split(5), targets.split(5), strict=True)),
    "generator": lambda queries, targets: (pair for pair in zip(queries.split(5), targets.split(5), strict=True)),
    "datamodule of Lightning": Lightning,
}


def network_for(shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3))


def data_of(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    queries = torch.rand(COUNT, *shape, generator=torch.Generator().manual_seed(1))
    queries = (queries * 255).to(dtype) if dtype == torch.uint8 else queries.to(dtype)
    return queries, torch.arange(COUNT) % 3


def protected(data: Any, shape: tuple[int, ...], folder: Path, **options: Any) -> Any:
    quiet = dict(progress=False, accelerator="cpu", k=2, max_epochs=1, augmentation=None)
    return parity.protect(network_for(shape), data, checkpoints_path=folder, **quiet, **options)


CASES = [(name, SHAPES[1], torch.float32) for name in CONTAINERS] + [
    (name, shape, dtype)
    for name, (shape, dtype) in zip(
        itertools.cycle(CONTAINERS), itertools.product(SHAPES, (*TAKEN_TYPES, *REFUSED_TYPES)), strict=False
    )
]


@pytest.mark.parametrize(("name", "shape", "dtype"), CASES)
def test_data_trains_or_is_refused_before_any_work(
    tmp_path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    data, folder = CONTAINERS[name](*data_of(shape, dtype)), tmp_path / "kept"
    if dtype in TAKEN_TYPES:
        assert str(protected(data, shape, folder)).startswith(("loses", "gains"))
        return
    with pytest.raises(ParityError) as refused:
        protected(data, shape, folder)
    assert not folder.exists()
    assert "\n" not in str(refused.value)
    assert str(dtype).removeprefix("torch.") in str(refused.value)


def pixels() -> tuple[Tensor, Tensor]:
    return data_of((3, 4, 6), torch.uint8)


def test_pixels_are_scaled_where_it_is_known_how(tmp_path: Path) -> None:
    result = protected(pixels(), (3, 4, 6), tmp_path / "kept", scaling=Scaling(255.0))
    expected = pixels()[0] / 255
    loader = result.data.loader("train")
    seen = torch.cat([queries for _, queries, _ in loader.every_query()])
    torch.testing.assert_close(seen, expected[loader.sampler.rows])


def test_a_scaling_of_other_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"the scaling does not fit queries of shape \(3, 4, 6\).*each channel"):
        protected(pixels(), (3, 4, 6), tmp_path / "kept", scaling=Scaling(255.0, (0.5,) * 4, (0.2,) * 4))


def test_a_table_has_its_target_by_name_or_by_argument(tmp_path: Path) -> None:
    queries, targets = data_of((6,), torch.float32)
    table = pd.DataFrame(queries.numpy(), columns=list("abcdef"))
    named = table.assign(label=np.array(["ant", "bee", "cat"])[targets.numpy()])
    result = protected(named, (6,), tmp_path / "named")
    assert result.data.class_names == ["ant", "bee", "cat"]
    protected(table.assign(kind=targets.numpy()), (6,), tmp_path / "given", targets="kind")
    protected((table, pd.Series(targets.numpy())), (6,), tmp_path / "as arrays")
    with pytest.raises(ParityError, match="column 'note' is not of numbers"):
        protected(named.assign(note="x"), (6,), tmp_path / "refused")


def test_a_folder_of_images_is_read_at_a_size(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, number in itertools.product(("cat", "dog", "owl"), range(5)):
        file = tmp_path / "images" / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8 + number, 9, 3), dtype=np.uint8)).save(file)
    scaling = Scaling(255.0)
    result = protected(tmp_path / "images", (3, 8, 8), tmp_path / "kept", size=8, scaling=scaling, num_validation=4)
    assert result.data.class_names == ["cat", "dog", "owl"]
    with pytest.raises(ParityError, match="several sizes: give the side"):
        protected(tmp_path / "images", (3, 8, 8), tmp_path / "refused", scaling=scaling)
    with pytest.raises(ParityError, match="queries are uint8"):
        protected(tmp_path / "images", (3, 8, 8), tmp_path / "refused", size=8)


class Noisy(Pairs):
    """Transforms at random, as augmentation does."""

    def __getitem__(self, index: int) -> Any:
        return self.queries[index] + torch.rand(()), int(self.targets[index])


def test_random_transforms_are_drawn_again_in_every_epoch_and_alike_in_every_run() -> None:
    def epochs() -> list[Tensor]:
        loader = groups_of(Noisy(*data_of((6,), torch.float32)), 2).loader("train")
        seen = []
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            batches = list(loader.batches())
            order = torch.cat([batch.indices.flatten() for batch in batches]).argsort()
            seen.append(torch.cat([batch.queries.flatten(0, 1) for batch in batches])[order])
        return seen

    first, second = epochs()
    assert not torch.equal(first[:5], second[:5])
    assert torch.equal(first, epochs()[0])


@pytest.mark.parametrize(("often", "first"), [(0.1, 0), (0.5, 1)])
def test_transforms_that_are_rare_or_leave_the_first_query_alone_are_found(often: float, first: int) -> None:
    class Sometimes(Pairs):
        def __getitem__(self, index: int) -> Any:
            query, target = super().__getitem__(index)
            return query + (index >= first and bool(torch.rand(()) < often)), target

    loaders = [groups_of(kind(*data_of((6,), torch.float32)), 2).loader("train") for kind in (Sometimes, Pairs)]
    assert [loader.queries_are_fixed for loader in loaders] == [False, True]


class WithoutLength(Dataset):
    """Has items, and does not know how many."""

    def __getitem__(self, index: int) -> Any:
        return torch.rand(6), index % 3


class WrongLength(WithoutLength):
    """Has items, and an error where it should know how many."""

    def __len__(self) -> int:
        return COUNT // 0


def _table(queries: Tensor, targets: Tensor, **first: Any) -> pd.DataFrame:
    """Return a table whose first row has other values, which pandas' nullable types can have."""
    table = pd.DataFrame(queries.numpy(), columns=list("abcdef")).assign(label=targets.numpy())
    for name, value in first.items():
        nullable = {"a": "Float64", "label": "Int64"}[name]
        table[name] = table[name].astype(complex if isinstance(value, complex) else nullable)
        table.loc[0, name] = value
    return table


SPOILT = [
    (lambda queries, targets: (queries, targets[:-1]), "24 queries and 23 targets"),
    (lambda queries, targets: (queries, targets + 5), "subtract 5"),
    (lambda queries, targets: (queries, targets.float()), r"targets\.long\(\)"),
    (lambda queries, targets: (queries.index_fill(0, torch.tensor([7]), torch.nan), targets), "NaN at index 7"),
    (lambda queries, targets: (queries[:0], targets[:0]), "is empty"),
    (lambda queries, targets: [], "is empty"),
    (lambda queries, targets: (queries[:1], targets[:1]), "too few"),
    (lambda queries, targets: Pairs, r"is a class: make an object of it, Pairs\("),
    (lambda queries, targets: "images", "there is no folder images"),
    (lambda queries, targets: pl.LightningDataModule(), "LightningDataModule cannot be set up .*train_dataloader"),
    (lambda queries, targets: WithoutLength(), "has no length: give WithoutLength a __len__"),
    (lambda queries, targets: (queries, np.array(["ant"] * COUNT)), "'ant'.* is a text: number the classes"),
    (lambda queries, targets: 5, "is a int: hand over arrays"),
    (lambda queries, targets: None, "there is no data"),
    (lambda queries, targets: [(queries[0], 0), (queries[0, :2], 1)], "query 1 has the shape"),
    (lambda queries, targets: {"a": queries, "b": queries, "y": targets}, "which of a, b are the queries"),
    (lambda queries, targets: TensorDataset(queries, targets, targets), "has 3 parts"),
    (lambda queries, targets: (queries.to_sparse(), targets), "should be a dense tensor"),
    (lambda queries, targets: (np.ma.masked_less(queries, 0.5), targets), "some of the queries are masked"),
    (lambda queries, targets: (queries, np.ma.masked_equal(targets, 1)), "some of the targets are masked"),
    (lambda queries, targets: (queries, nn.functional.one_hot(targets).float()), r"look one-hot.*targets\.argmax"),
    (lambda queries, targets: (queries, nn.functional.one_hot(targets)), r"look one-hot.*targets\.argmax"),
    (lambda queries, targets: _table(queries, targets, label=None), "'label' has missing values: drop these rows"),
    (lambda queries, targets: _table(queries, targets, label=pd.NA), "'label' has missing values: drop these rows"),
    (lambda queries, targets: _table(queries, targets, a=pd.NA), "queries have NaN at index 0"),
    (lambda queries, targets: _table(queries, targets, a=1j), "column 'a' is not of numbers"),
    (lambda queries, targets: _table(queries, targets).rename(columns={"b": "a"}), "several columns 'a'"),
    (lambda queries, targets: [(queries[0].long(), 0), (queries[1], 1)], "query 0 is int64, and query 1 float32"),
    (lambda queries, targets: [(queries[:5].byte(), targets[:5]), (queries, targets)], "batch 1 is uint8, and batch 2"),
    (lambda queries, targets: WrongLength(), r"has no length \(ZeroDivisionError"),
    (lambda queries, targets: (_table(queries, targets)[list("abcdef")], pd.Series(targets, index=range(COUNT, 0, -1))),
     "rows of queries and of targets have other labels"),
    (lambda queries, targets: "", "a path cannot be empty"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT)
def test_what_cannot_be_right_is_refused(tmp_path: Path, spoil: Callable[..., Any], sentence: str) -> None:
    data = spoil(*data_of((6,), torch.float32))
    with pytest.raises(ParityError, match=sentence):
        protected(data, (6,), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("named", "nearest"), [("pixel", "did you mean 'pixels'"), ("kind", "there is: other, pixels")]
)
def test_a_mistyped_column_of_queries_is_named_with_the_nearest(named: str, nearest: str) -> None:
    table = pd.DataFrame({"pixels": np.arange(40.0), "other": np.arange(40.0), "kind": [0, 1] * 20})
    with pytest.raises(ParityError, match=f"the train data: there is no column '{named}' of queries: {nearest}"):
        groups_of(table, 2, queries=named, targets="kind")


@pytest.mark.parametrize("options", [{"size": 8}, {"queries": "x"}, {"targets": "y"}])
def test_an_option_that_arrays_have_no_use_for_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParityError, match=r"(size = 8 is|arrays \(X, y\) have no names, as '[xy]' is one)"):
        protected(data_of((6,), torch.float32), (6,), tmp_path / "kept", **options)


def test_nan_that_is_read_in_a_later_epoch_is_named(tmp_path: Path) -> None:
    class Random(Dataset):
        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.rand(6) * (torch.nan if index == 7 else 1), index % 3

    with pytest.raises(ParityError, match="item 7 of the data, read again: queries have NaN"):
        protected(Random(), (6,), tmp_path / "kept")


def test_what_is_measured_without_targets_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    protected(data_of((6,), torch.float32)[0], (6,), tmp_path / "kept")
    assert "the network's predictions are taken for them, so its own accuracy is 1" in caplog.text


@pytest.fixture(scope="module")
def measured() -> Any:
    return protected(data_of((6,), torch.float32), (6,), None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": (torch.rand(8, 7), torch.arange(8) % 3)}, r"cannot take queries of shape \(7,\)"),
        ({"data": (torch.rand(8, 6).long(), torch.arange(8) % 3)}, r"cannot take queries of shape \(6,\)"),
        ({"data": DigitsDataModule()}, r"cannot take queries of shape \(1, 8, 8\)"),
        ({"task": Classification(4)}, r"the data is of predictions \(4,\), and the code of \(3,\)"),
        ({"task": Classification}, "task should be a Task"),
        ({"scaling": 255}, "scaling should be a Scaling"),
        ({"ks": 2}, "ks should be numbers"),
        ({"ks": (2.5,)}, "ks should be numbers"),
        ({"ks": (0,)}, "ks should be numbers"),
        ({"unavailable": 0.1}, "unavailable should be probabilities"),
        ({"unavailable": ("a",)}, "unavailable should be probabilities"),
        ({"default_class": 1.0}, "default_class should be the number of a class"),
        ({"default_class": "a"}, "default_class should be the number of a class"),
        (
            {"default_class": 1, "task": Regression((3,)), "data": (torch.rand(8, 6), torch.rand(8, 3))},
            "default_class is for classes, which Regression does not predict",
        ),
        ({"backup": nn.Linear}, "backup should be a network"),
        ({"backup": nn.Linear(7, 3)}, "the backup cannot take queries"),
        ({"backup": nn.Linear(6, 4)}, r"the backup predicts \(4,\)"),
        ({"backup": nn.Linear(6, 3).apply(lambda layer: nn.init.constant_(layer.weight, torch.nan))}, "backup are NaN"),
    ],
)
def test_what_evaluate_cannot_use_is_refused_in_a_sentence(
    measured: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ParityError, match=sentence):
        parity.evaluate(measured, **{"data": data_of((6,), torch.float32)} | options)


class WithTest(Lightning):
    """A datamodule of Lightning that has test data once it is set up for it: the first nine."""

    def setup(self, stage: str) -> None:
        self.stage = stage

    def test_dataloader(self) -> DataLoader:
        assert self.stage == "test"
        return DataLoader(Subset(self.data, range(9)), batch_size=4)


def test_a_datamodule_of_lightning_is_evaluated_on_its_test_loader(measured: Any) -> None:
    queries, targets = data_of((6,), torch.float32)
    expected = parity.evaluate(measured, (queries[:9], targets[:9]), timed=False)
    datamodule = WithTest(queries, targets)
    for found in (
        parity.evaluate(measured, datamodule, timed=False),
        measured.evaluate(datamodule, timed=False),
    ):
        assert found.results["base"]["queries"] == 9
        assert found.results["codes"][0]["A_d"] == expected.results["codes"][0]["A_d"]
    with pytest.raises(ParityError, match="Lightning has no test_dataloader: define it"):
        parity.evaluate(measured, Lightning(queries, targets))
