import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from parity.data import get_datamodule_class
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError

SPLITS = ("train", "val", "test")


def rows(data: DigitsDataModule, split: str) -> list[int]:
    return data.loader(split).sampler.rows.tolist()


def every_query(data: DigitsDataModule, split: str) -> Tensor:
    return torch.cat([queries for _, queries, _ in data.loader(split).every_query()])


def labels(data: DigitsDataModule, split: str) -> Tensor:
    return data.targets(split)[data.rows(split)]


def sorted_rows(table: Tensor) -> list[list[float]]:
    return sorted(table.tolist())


def test_sizes() -> None:
    data = DigitsDataModule()
    assert data.loader("train").num_rows == 1437
    assert data.loader("test").num_rows == 360
    assert [len(labels(data, split)) for split in SPLITS] == [1197, 240, 360]
    assert data.task.prediction_shape == (10,)


def test_training_and_test_data_are_the_whole_data_set_once() -> None:
    data, digits = DigitsDataModule(), load_digits()
    found = [
        torch.cat([every_query(data, split).flatten(1) * 16, labels(data, split)[:, None].float()], 1)
        for split in SPLITS
    ]
    whole = torch.cat([torch.tensor(digits.data), torch.tensor(digits.target)[:, None]], 1).float()
    assert sorted_rows(torch.cat(found)) == sorted_rows(whole)


def test_the_test_split_is_stratified() -> None:
    counts = torch.tensor(load_digits().target).bincount()
    test_counts = labels(DigitsDataModule(), "test").bincount()
    assert (test_counts - 0.2 * counts).abs().max() <= 1


def test_values_lie_between_0_and_1_in_sixteenths() -> None:
    for split in SPLITS:
        values = every_query(DigitsDataModule(), split)
        assert values.shape[1:] == DigitsDataModule.QUERY_SHAPE
        assert (values.min(), values.max()) == (0, 1)
        assert torch.equal(values * 16, (values * 16).round())


def test_splits_are_the_same_in_every_run() -> None:
    first, second = DigitsDataModule(seed=0), DigitsDataModule(k=2, batch_size=7, seed=1)
    for split in SPLITS:
        assert rows(first, split) == rows(second, split)
        assert torch.equal(every_query(first, split), every_query(second, split))
        assert torch.equal(labels(first, split), labels(second, split))


def test_validation_queries_are_held_out_of_training() -> None:
    data = DigitsDataModule()
    train, val = rows(data, "train"), rows(data, "val")
    assert not set(train) & set(val)
    assert sorted(train + val) == list(range(1437))
    assert len(labels(data, "val").bincount()) == 10, "they are a sample, not one end of the data"


@pytest.mark.parametrize(("k", "num_validation", "held_out"), [(1, 0, 0), (7, 240, 245), (4, 240, 240), (3, 100, 102)])
def test_validation_fills_whole_groups(k: int, num_validation: int, held_out: int) -> None:
    data = DigitsDataModule(k=k, num_validation=num_validation)
    assert len(labels(data, "val")) == held_out
    assert len(labels(data, "train")) == 1437 - held_out


@pytest.mark.parametrize("num_validation", [-1, 1437, 5000])
def test_a_validation_split_that_leaves_nothing_is_refused(num_validation: int) -> None:
    with pytest.raises(ParityError, match=f"num_validation = {num_validation} leaves nothing of 1437"):
        DigitsDataModule(num_validation=num_validation).loader("train")


def test_only_training_groups_depend_on_seed_and_epoch() -> None:
    for split in SPLITS:
        samplers = [DigitsDataModule(k=2, seed=seed).loader(split).sampler for seed in (0, 1)]
        later = DigitsDataModule(k=2, seed=0).loader(split).sampler
        later.set_epoch(1)
        assert torch.equal(samplers[0].groups(), samplers[1].groups()) is (split != "train")
        assert torch.equal(samplers[0].groups(), later.groups()) is (split != "train")


def test_groups_carry_their_own_labels() -> None:
    data = DigitsDataModule(k=3, batch_size=5)
    images, digits = data.load(train=True)
    for batch in data.loader("val"):
        assert torch.equal(batch.targets, digits[batch.indices])
        assert torch.equal(batch.queries, images[batch.indices] / 16)


def test_loaders_are_found_by_the_names_lightning_asks_for() -> None:
    data = DigitsDataModule()
    assert data.train_dataloader().split == "train"
    assert [loader.split for loader in data.val_dataloader()] == ["val"]
    data.validation_splits = ("val", "test")
    assert [loader.split for loader in data.val_dataloader()] == ["val", "test"]
    assert data.test_dataloader().split == "test"


def test_what_lightning_loads_for_a_test_can_be_trained_on() -> None:
    data = DigitsDataModule()
    with torch.inference_mode():
        loaders = [data.test_dataloader(), *data.val_dataloader(), data.train_dataloader()]
    assert not any(loader.queries.is_inference() for loader in loaders)


def test_the_default_prediction_is_the_most_frequent_class_of_the_training_data() -> None:
    data = DigitsDataModule()
    counts = labels(data, "train").bincount(minlength=10)
    assert counts[data.default_prediction().argmax()] == counts.max()


def test_the_data_set_is_found_by_its_name() -> None:
    assert get_datamodule_class("Digits") is DigitsDataModule
    with pytest.raises(ParityError, match="no data set 'Digit': did you mean 'Digits'"):
        get_datamodule_class("Digit")
