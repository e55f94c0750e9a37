import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import datasets

from parity import settings
from parity.data import TensorDataModule, datamodule, get_datamodule_class, groups_of
from parity.data.cub import CUBDataModule
from parity.data.datamodule import GroupArguments, GroupDataModule
from parity.data.digit_boxes import DigitBoxesDataModule
from parity.data.digits import DigitsDataModule
from parity.data.folders import CatVsDogDataModule
from parity.data.loaders import Scaling
from parity.data.mnist import MNISTDataModule
from parity.data.speech import SpeechCommandsDataModule
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

Loaded = tuple[Any, Any]


def own(load: Callable[[bool], Any], **members: Any) -> TensorDataModule:
    """A data set of one's own: queries of shape (2,), three classes."""
    statistics = {"NUM_CLASSES": 3, "QUERY_SHAPE": (2,), "NUM_VALIDATION": 6}
    made = type("OwnKind", (TensorDataModule,), {"load": lambda self, train: load(train), **statistics, **members})
    data = made(k=2, batch_size=4)
    assert isinstance(data, TensorDataModule)
    return data


def plain(train: bool, dtype: torch.dtype = torch.uint8) -> tuple[Tensor, Tensor]:
    return (torch.arange(60).view(30, 2) * 4).to(dtype), torch.arange(30) % 3


@pytest.mark.parametrize(
    ("dtype", "divisor", "scaled_by"),
    [
        (torch.uint8, None, 255),
        (torch.float32, None, 1),
        (torch.float64, None, 1),
        (torch.float16, None, 1),
        (torch.int16, 16.0, 16),
        (torch.float32, 255.0, 255),
        (torch.uint8, 1.0, 1),
    ],
)
def test_only_uint8_is_divided_by_255_by_itself(dtype: torch.dtype, divisor: float | None, scaled_by: float) -> None:
    data = own(lambda train: plain(train, dtype), **({} if divisor is None else {"DIVISOR": divisor}))
    batch = next(data.loader("train").batches())
    assert torch.equal(batch.queries, plain(True)[0][batch.indices].float() / scaled_by)
    assert batch.queries.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_other_integers_need_a_divisor(dtype: torch.dtype) -> None:
    with pytest.raises(ParityError, match=f"are stored as {str(dtype)[6:]}, .*: declare DIVISOR"):
        own(lambda train: (plain(train)[0].clamp(max=99).to(dtype), plain(train)[1])).check("train")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_width_are_taken(dtype: torch.dtype) -> None:
    data = own(lambda train: (plain(train)[0], plain(train)[1].to(dtype)))
    for split in ("train", "val", "test"):
        data.check(split)
        assert next(data.loader(split).batches()).targets.dtype == torch.int64


BAD: list[tuple[Callable[[Tensor, Tensor], Loaded], str]] = [
    (lambda queries, targets: (queries, targets[:27]), "there are 30 queries and 27 targets"),
    (lambda queries, targets: (queries, targets + 1), "run from 1 to 3, .*: subtract 1"),
    (lambda queries, targets: (queries, targets - 1), "run from -1 to 1"),
    (lambda queries, targets: (queries, targets.float()), "targets are float32"),
    (lambda queries, targets: (queries, torch.eye(3)[targets]), "look one-hot"),
    (lambda queries, targets: (queries, targets.tolist()), "should be a tensor, not list"),
    (lambda queries, targets: (queries.numpy(), targets), "should be a tensor, not ndarray"),
    (lambda queries, targets: (queries[:, :1], targets), r"should have the shape \(N, 2\), not \(30, 1\)"),
    (lambda queries, targets: (queries / torch.zeros(2), targets), "queries have (NaN|infinity) at index 0"),
    (lambda queries, targets: (queries[:0], targets[:0]), "there are no queries"),
]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(("change", "message"), BAD)
def test_data_of_any_split_that_cannot_be_right_is_refused_and_the_split_named(
    change: Callable[[Tensor, Tensor], Loaded], message: str, split: str
) -> None:
    wrong = split != "test"
    data = own(lambda train: change(*plain(train)) if train == wrong else plain(train))
    for other in ("train", "val", "test"):
        if (other == "test") == (split == "test"):
            name = "test" if split == "test" else "training"
            with pytest.raises(ParityError, match=f"^the {name} data of OwnKind: .*{message}"):
                data.check(other)
        else:
            data.check(other)


def test_a_mistyped_split_is_not_taken_for_training_data() -> None:
    data = own(plain)
    for asked in (data.loader, data.rows, data.targets, data.sampler, data.check):
        with pytest.raises(ParityError, match="there is no split 'tset': did you mean 'test'"):
            asked("tset")
    with pytest.raises(ParityError, match="there is no split 'vall': did you mean 'val'"):
        groups_of(plain(True), 2, scaling=Scaling(255.0)).loader("vall")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"QUERY_SHAPE": 2}, "OwnKind.QUERY_SHAPE is a tuple of whole numbers"),
        ({"QUERY_SHAPE": [2]}, r"OwnKind.QUERY_SHAPE is a tuple of whole numbers, .*not \[2\]"),
        ({"NUM_CLASSES": 3.0}, "OwnKind.NUM_CLASSES is a whole number"),
        ({"NUM_VALIDATION": 6.5}, "num_validation is a whole number"),
        ({"NUM_VALIDATION": 0}, "num_validation = 0: hold out at least one group, 2"),
        ({"DIVISOR": 0}, "divided by a number other than 0"),
        ({"DIVISOR": "255"}, "divided by a number other than 0"),
        ({"DIVISOR": float("nan")}, "divided by a number other than 0"),
        ({"MEAN": 0.5}, "means are numbers, one for each channel"),
        ({"STD": (0.0,)}, "standard deviations cannot be 0"),
        ({"MEAN": (0.5, 0.5), "STD": (1.0,)}, "2 means and 1 standard deviations"),
        ({"MEAN": (0.5, 0.5)}, r"2 channels, and queries of shape \(2,\)"),
        ({"AUGMENTATION": 3}, "an augmentation is called with queries"),
        ({"AUGMENTATION": torch.nn.Identity}, "an augmentation is called with queries"),
        ({"AUGMENTATION": staticmethod(lambda stored: stored[:3])}, r"makes \(3, 2\) of \(8, 2\) queries"),
        ({"AUGMENTATION": staticmethod(lambda stored: 1 / 0)}, "cannot be called with .*ZeroDivisionError"),
    ],
)
def test_what_a_class_declares_and_cannot_be_right_is_refused(members: dict[str, Any], message: str) -> None:
    split = "val" if members.get("NUM_VALIDATION") == 0 else "train"
    with pytest.raises(ParityError, match=message):
        list(own(plain, **members).loader(split).batches())


def test_an_error_of_an_own_load_is_one_sentence() -> None:
    with pytest.raises(ParityError, match=r"the training data of OwnKind cannot be loaded \(ZeroDivisionError"):
        own(lambda train: 1 / 0).loader("train")


def test_load_returns_a_pair() -> None:
    with pytest.raises(ParityError, match=r"load returns a pair \(queries, targets\), not Tensor"):
        own(lambda train: plain(train)[0]).check("train")


MADE = [DigitsDataModule, DigitBoxesDataModule, CatVsDogDataModule, CUBDataModule, SpeechCommandsDataModule]


@pytest.mark.parametrize("made", MADE)
def test_every_datamodule_takes_the_common_arguments(made: type[GroupDataModule]) -> None:
    data = made(k=3, batch_size=5, num_validation=7, steps_per_epoch=2, seed=9)
    assert (data.k, data.batch_size, data.num_validation, data.steps_per_epoch, data.seed) == (3, 5, 7, 2, 9)
    parameters = list(inspect.signature(GroupDataModule.__init__).parameters)
    assert parameters == ["self", "k", *GroupArguments.__annotations__]


@pytest.mark.parametrize("name", ["k", *GroupArguments.__annotations__])
@pytest.mark.parametrize("value", ["8", 8.0, True, (8,)])
def test_a_count_that_is_not_a_whole_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ParityError, match=f"^data.{name} is a whole number, not "):
        DigitsDataModule(**{name: value})


@pytest.mark.parametrize("made", MADE)
def test_an_unknown_keyword_is_refused_with_the_nearest_name(made: Any) -> None:
    with pytest.raises(ParityError, match=f"^{made.__name__} does not take 'batchsize': did you mean 'batch_size'\\?$"):
        made(batchsize=3)
    with pytest.raises(ParityError, match="does not take 'kk': "):
        made(kk=3)


def test_own_keywords_are_among_the_nearest_names() -> None:
    for made, wrong, right in (
        (CatVsDogDataModule, "num_worker", "num_workers"),
        (SpeechCommandsDataModule, "augment", "augmentation"),
        (DigitBoxesDataModule, "canvas_sed", "canvas_seed"),
    ):
        with pytest.raises(ParityError, match=f"did you mean '{right}'"):
            made(**{wrong: 1})


def test_labels_of_another_split_are_not_taken_for_mnists(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = mnist.parent if mnist.is_file() else mnist
    own_raw = tmp_path / "data" / "MNIST" / "raw"
    own_raw.mkdir(parents=True)
    for path in raw.glob("*-ubyte"):
        (own_raw / path.name).symlink_to(path)
    (own_raw / "train-labels-idx1-ubyte").unlink()
    (own_raw / "train-labels-idx1-ubyte").symlink_to(raw / "t10k-labels-idx1-ubyte")
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    with pytest.raises(ParityError, match="hold 60000 images and 10000 labels, which are not of one split") as error:
        MNISTDataModule().check("train")
    assert str(own_raw) in str(error.value)
    MNISTDataModule().check("test")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_file_of_mnist_that_is_cut_off_is_refused(
    name: str, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = mnist.parent
    own_raw = tmp_path / "data" / "MNIST" / "raw"
    own_raw.mkdir(parents=True)
    for path in raw.glob("*-ubyte"):
        (own_raw / path.name).symlink_to(path)
    (own_raw / name).unlink()
    (own_raw / name).write_bytes((raw / name).read_bytes()[:5000])
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    with pytest.raises(ParityError, match="MNIST is not, or not whole, in"):
        MNISTDataModule().check("train")
    assert (own_raw / name).stat().st_size == 5000


@pytest.mark.parametrize("there", [False, True])
def test_a_failed_download_leaves_no_empty_folder(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "a" / "data"
    if there:
        root.mkdir(parents=True)
    monkeypatch.setattr(settings, "DATA_ROOT", root)

    def fail(self: datasets.MNIST) -> None:
        os.makedirs(self.raw_folder)
        raise RuntimeError("no network")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(ParityError, match="could not be downloaded"):
        MNISTDataModule().check("train")
    assert list(tmp_path.rglob("*")) == ([root.parent, root] if there else [])


def test_wrong_test_labels_are_noticed_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = DigitsDataModule.load

    def from_1(self: DigitsDataModule, train: bool) -> tuple[Tensor, Tensor]:
        queries, labels = load(self, train)
        return queries, labels + (not train)

    monkeypatch.setattr(DigitsDataModule, "load", from_1)
    with pytest.raises(ParityError, match=r"^the test data of Digits: targets run from 1 to 10, .*: subtract 1"):
        run_training(Experiment("Digits", "mlp_base", base_directory=tmp_path), RunOptions(hardware=Hardware("cpu")))
    assert not list(tmp_path.iterdir())


def test_a_users_class_is_taken_instead_of_a_built_in_one_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    built_in = get_datamodule_class("Digits")
    monkeypatch.setattr(datamodule, "_OF_USERS", {})
    monkeypatch.setattr(datamodule, "_BUILT_IN", dict(datamodule._BUILT_IN))
    mine = type("DigitsDataModule", (TensorDataModule,), {"QUERY_SHAPE": (4,), "__module__": "mine.of_digits"})
    type("DigitsDataModule", (TensorDataModule,), {"QUERY_SHAPE": (4,), "__module__": built_in.__module__})
    with caplog.at_level("WARNING"):
        assert get_datamodule_class("Digits") is mine, "also where the built-in one is imported later"
        assert get_datamodule_class("Digits") is mine
    assert caplog.messages == [
        "data set 'Digits' is that of mine.of_digits and not parity's own: rename its class to have both"
    ]


def test_a_datamodule_is_printed_in_one_line() -> None:
    """Lightning's own way asks loaders for what ours do not have."""
    assert str(get_datamodule_class("Digits")(k=2, batch_size=8)) == "DigitsDataModule(k=2, batch_size=8)"
