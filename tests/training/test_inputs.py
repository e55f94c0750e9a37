"""train_model's data and objects: taken where their meaning is plain, else one sentence before any work."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder, PositionalDecoder, TokenCellsEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.models import MLP, PerCell, TextTransformer
from parity.training import train_model

SHAPES = (1, 8, 8), (10,)
Change = Callable[[Tensor], Any]


def base() -> MLP:
    return MLP(*SHAPES, hidden=(8,))


def coded() -> CodedModel:
    return CodedModel(base(), LinearEncoder(2, 1, SHAPES[0]), [base()], LinearDecoder(2, 1, SHAPES[1]))


def queries(number: int = 20) -> Tensor:
    return torch.randn(number, *SHAPES[0], generator=torch.Generator().manual_seed(0))


def targets(number: int = 20) -> Tensor:
    return torch.arange(number) % 10


def unchanged(values: Tensor) -> Tensor:
    return values


def quiet(model: nn.Module, data: Any, **options: Any) -> nn.Module:
    train_model(model, data, 1, progress=False, **{"accelerator": "cpu"} | options)
    return model


def data_of(
    kind: str, of_queries: Change = unchanged, of_targets: Change = unchanged
) -> tuple[nn.Module, list[Any], Any]:
    """Return a model, its training data and its validation data, one of which holds what is changed."""
    good, changed = (queries(), targets()), (of_queries(queries()), of_targets(targets()))
    if kind == "coded":
        model = coded()
        groups = (queries().view(10, 2, *SHAPES[0]), targets().view(10, 2))
        changed = tuple(_grouped(part) for part in changed)
        return model, [changed], [groups]
    return (base(), [changed], None) if kind == "base" else (base(), [good], [changed])


def _grouped(part: Any) -> Any:
    if isinstance(part, list):
        return (
            [list(pair) for pair in zip(part[::2], part[1::2], strict=True)] if not torch.is_tensor(part[0]) else part
        )
    return part.reshape(len(part) // 2, 2, *part.shape[1:])


@pytest.mark.parametrize("kind", ["base", "coded", "val_data"])
@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda classes, dtype=dtype: classes.to(dtype)
            for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32)
        ),
        lambda classes: classes.numpy().astype(np.uint16),
        lambda classes: classes.numpy().astype(">i4"),
        lambda classes: classes.tolist(),
        lambda classes: classes.unsqueeze(-1),
    ],
)
def test_classes_of_any_width_train(kind: str, change: Change) -> None:
    model, data, val_data = data_of(kind, of_targets=change)
    quiet(model, data, val_data=val_data)


@pytest.mark.parametrize("kind", ["base", "coded", "val_data"])
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.double(),
        lambda values: values.half(),
        lambda values: values.numpy(),
        lambda values: values.numpy()[..., ::-1],
    ],
)
def test_queries_of_other_floats_and_arrays_train(kind: str, change: Change) -> None:
    model, data, val_data = data_of(kind, of_queries=change)
    quiet(model, data, val_data=val_data)


@pytest.mark.parametrize("change", [list, lambda values: list(values.numpy()), lambda values: values.tolist()])
def test_lists_of_queries_train(change: Change) -> None:
    quiet(base(), [(change(queries()), targets())], val_data=[(change(queries()), targets())])


@pytest.mark.parametrize("kind", ["base", "coded", "val_data"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda classes: classes + 1, r"from 1 to 10.*: subtract 1"),
        (lambda classes: classes - 1, "from -1 to 8"),
        (lambda classes: torch.where(classes > 8, -100, classes), "from -100 to 8"),
        (lambda classes: classes > 4, "are bool"),
        (lambda classes: nn.functional.one_hot(classes, 10), "one-hot"),
        (lambda classes: classes.to(torch.complex64), "are complex64"),
        (lambda classes: classes.numpy().astype(object), "an array of numbers"),
    ],
)
def test_wrong_targets_are_named_with_their_split(kind: str, change: Change, message: str) -> None:
    model, data, val_data = data_of(kind, of_targets=change)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ParityError, match=message) as error:
        quiet(model, data, val_data=val_data)
    assert ("val_data" if kind == "val_data" else "train data") in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["base", "coded", "val_data"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.to(torch.uint8), r"are uint8.*queries\.float\(\) / 255"),
        (lambda values: values.long(), r"queries (as it takes them|are int64)"),
        (lambda values: torch.zeros(20, 1, 9, 9), r"queries of shape \(1, 9, 9\)"),
        (lambda values: torch.zeros(20, 2, 8, 8), r"queries of shape \(2, 8, 8\)"),
        (lambda values: values * torch.nan, "NaN"),
        (lambda values: values / 0, "infinity"),
        (lambda values: values[:0], "0 queries"),
        (lambda values: values[:18], r"(18|9) queries and (20|10) targets"),
    ],
)
def test_wrong_queries_are_named_with_their_split(kind: str, change: Change, message: str) -> None:
    model, data, val_data = data_of(kind, of_queries=change)
    with pytest.raises(ParityError, match=message) as error:
        quiet(model, data, val_data=val_data)
    assert ("val_data" if kind == "val_data" else "train data") in str(error.value)


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 3)])
def test_grey_images_and_channels_last_are_refused_by_a_network_for_rgb(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"cannot take the first batch of the train data.*\(B, C, H, W\)"):
        quiet(convolution(), [(torch.zeros(20, *shape), targets())])


@pytest.mark.parametrize("model", [base, coded])
def test_a_class_out_of_range_in_a_later_batch_names_the_batch(model: Callable[[], nn.Module]) -> None:
    batch = (queries(), targets()) if model is base else (queries().view(10, 2, *SHAPES[0]), targets().view(10, 2))
    with pytest.raises(ParityError, match="batch 3 of the train data: targets run from 1 to 10"):
        quiet(model(), [batch, batch, (batch[0], batch[1] + 1)])


def test_nan_in_a_later_batch_names_the_batch() -> None:
    broken = queries()
    broken[7] = torch.nan
    with pytest.raises(ParityError, match="batch 2 of the train data: queries have NaN at index 7"):
        quiet(base(), [(queries(), targets()), (broken, targets())])


@pytest.mark.parametrize(("model", "name"), [(base, "layers.0.bias"), (coded, "base_model.layers.0.bias")])
def test_nan_in_weights_is_named(model: Callable[[], nn.Module], name: str) -> None:
    broken = model()
    with torch.no_grad():
        broken.get_parameter(name)[0] = torch.nan
    batch = (queries(), targets()) if model is base else (queries().view(10, 2, *SHAPES[0]), targets().view(10, 2))
    with pytest.raises(ParityError, match=f"'{name}' are NaN"):
        quiet(broken, [batch])


class Several(MLP):
    """Returns more than a prediction, perhaps only in training."""

    def __init__(self, wrap: Callable[[Tensor], Any], always: bool) -> None:
        super().__init__(*SHAPES, hidden=(8,))
        self.wrap, self.always = wrap, always

    def forward(self, queries: Tensor) -> Any:
        answer = super().forward(queries)
        return self.wrap(answer) if self.always or self.training else answer


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("wrap", [lambda answer: (answer, answer), lambda answer: {"logits": answer}])
def test_a_network_that_returns_several_things(wrap: Callable[[Tensor], Any], always: bool) -> None:
    with pytest.raises(ParityError, match=r"returns a (tuple|dict), expected one tensor"):
        quiet(Several(wrap, always), [(queries(), targets())])


def test_trying_a_step_leaves_buffers_and_random_generators_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
    state = torch.get_rng_state()
    with pytest.raises(ParityError, match="reduction"):
        quiet(model, [(queries(), targets())], criterion=nn.CrossEntropyLoss(reduction="none"))
    assert torch.equal(torch.get_rng_state(), state)
    assert model[1].num_batches_tracked == 0
    assert torch.equal(model[1].running_mean, torch.zeros(64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(criterion=nn.CrossEntropyLoss), r"criterion is a class: .* CrossEntropyLoss\(\)"),
        (dict(criterion="cross_entropy"), "cannot be a str"),
        (dict(optimizer=torch.optim.SGD(base().parameters(), lr=0.1)), "optimizer is a factory"),
        (dict(optimizer=lambda parameters: None), "makes a NoneType"),
        (dict(optimizer=lambda: None), "the optimiser cannot be made"),
        (
            dict(optimizer=lambda parameters: torch.optim.SGD(base().parameters(), lr=0.1)),
            "of parameters that this model",
        ),
        (dict(monitor=3), "monitor is the name of something logged"),
        (dict(schedule=3), "schedule is a factory"),
        *(
            (dict(precision=precision), "precision")
            for precision in (64, "64", "64-true", "transformer-engine", "none")
        ),
        (dict(accelerator="tpu"), "tpu"),
        (dict(accelerator="abacus"), "abacus"),
    ],
)
def test_wrong_objects_are_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParityError, match=message):
        quiet(base(), [(queries(), targets())], **options)


def test_targets_that_torch_would_broadcast_are_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(ParityError, match="cannot take the targets of the first batch"):
        quiet(network, [(queries(), targets().float())])
    quiet(network, [(queries(), targets().float().unsqueeze(1))])


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))


def test_a_last_batch_of_one_with_batch_normalisation_is_refused_before_any_work() -> None:
    data = TensorDataset(queries(17), targets(17))
    with pytest.raises(ParityError, match=r"one query.*drop_last=True"):
        quiet(normalised(), DataLoader(data, batch_size=8))
    with pytest.raises(ParityError, match=r"one query.*drop_last=True"):
        quiet(normalised(), [(queries(), targets()), (queries(1), targets(1))])
    with pytest.raises(ParityError, match="batch 2 of the train data has one query"):
        quiet(normalised(), iter([(queries(), targets()), (queries(1), targets(1))]), steps_per_epoch=2)
    for first in ([(queries(1), targets(1)), (queries(), targets())], DigitsDataModule(k=1, batch_size=1)):
        with pytest.raises(ParityError, match=r"it has one query, and batch normalisation needs two or more"):
            quiet(normalised(), first)
    quiet(normalised(), DataLoader(data, batch_size=8, drop_last=True))
    quiet(base(), DataLoader(data, batch_size=8))


class Stream(IterableDataset):
    """Seventeen queries, one after the other, of a length that is not known."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(queries(17), targets(17), strict=True)


def test_a_last_batch_of_one_of_a_stream_is_named_when_it_comes() -> None:
    with pytest.raises(ParityError, match="batch 3 of the train data has one query"):
        quiet(normalised(), DataLoader(Stream(), batch_size=8), steps_per_epoch=3)


def test_batch_normalisation_without_running_statistics_is_refused_for_predictions_depend_on_the_batch() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10, track_running_stats=False))
    for made in (network, CodedModel(network, LinearEncoder(2, 1, SHAPES[0]), [base()], LinearDecoder(2, 1, (10,)))):
        with pytest.raises(ParityError, match=r"2' of .* depends on the other queries.*track_running_stats=True"):
            quiet(made, [(queries(), targets())])


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, t: (q.long(), t), "queries are int64 of shape .*, and to train on float32"),
        (lambda q, t: (q.squeeze(1), t), r"queries are float32 of shape \(8, 8\), and to train on"),
        (lambda q, t: (q, t.squeeze(1)), r"targets are float32 of shape \(\), and to train on float32 of shape \(1,\)"),
        (lambda q, t: (q, t.long()), "targets are int64 of shape"),
        (lambda q, t: (q, t, t), "a batch is a pair .*, not of 3 parts"),
    ],
)
def test_a_later_batch_that_is_not_like_the_first_names_the_batch(split: str, change: Any, message: str) -> None:
    good = (queries(), torch.randn(20, 1))
    batches = [good, change(*good)]
    data, val_data = (batches, None) if split == "train" else ([good], batches)
    with pytest.raises(ParityError, match=f"batch 2 of the {split} data: {message}"):
        quiet(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), data, val_data=val_data)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_later_batch_that_the_network_cannot_take_is_named(split: str) -> None:
    good, other = (queries(), targets()), (queries()[..., :7], targets())
    batches = [*[good] * 20, other]
    data, val_data = (batches, None) if split == "train" else ([good], batches)
    message = rf"batch 21 of the {split} data, of queries of shape \(1, 8, 7\) \(RuntimeError: mat1 and mat2"
    with pytest.raises(ParityError, match=message) as raised:
        quiet(base(), data, val_data=val_data)
    assert isinstance(raised.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.to_sparse(), r"a sparse_coo tensor: hand over queries.to_dense\(\)"),
        (lambda values: torch.quantize_per_tensor(values, 0.1, 0, torch.qint8), r"queries.dequantize\(\)"),
        (lambda values: values.to(torch.float8_e4m3fn), r"float8_e4m3fn: hand over queries.float\(\)"),
        (lambda values: values.to("meta"), "on the meta device"),
    ],
)
def test_tensors_whose_numbers_do_not_lie_in_memory_are_refused(change: Change, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        quiet(base(), [(change(queries()), targets())])


class Module(pl.LightningDataModule):
    """A user's own, whose ``setup`` looks at its Trainer."""

    def __init__(self, val: Any) -> None:
        super().__init__()
        self.val = val

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.size = 8 * self.trainer.world_size

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(queries(), targets()), batch_size=self.size)

    def val_dataloader(self) -> Any:
        return self.val


def loader() -> DataLoader:
    return DataLoader(TensorDataset(queries(), targets()), batch_size=4)


@pytest.mark.parametrize("val", [loader(), [loader()], {"a": loader()}, [], None, [(queries(), targets())]])
def test_a_lightning_datamodule_that_uses_its_trainer_and_returns_one_loader(val: Any) -> None:
    quiet(base(), Module(val))


@pytest.mark.parametrize("val", [[loader(), loader()], {"a": loader(), "b": loader()}])
def test_a_lightning_datamodule_with_several_loaders_is_refused(val: Any) -> None:
    with pytest.raises(ParityError, match=r"val_dataloader returns 2 loaders"):
        quiet(base(), Module(val))


def test_an_error_of_the_users_own_objects_is_one_sentence() -> None:
    class Broken(Module):
        def setup(self, stage: str) -> None:
            raise KeyError("no such column")

    def failing() -> Iterator[Any]:
        raise OSError("the disk is gone")
        yield

    with pytest.raises(ParityError, match=r"Broken cannot be set up.*no such column"):
        quiet(base(), Broken(None))
    with pytest.raises(ParityError, match=r"first batch of the train data cannot be drawn.*the disk is gone"):
        quiet(base(), failing(), steps_per_epoch=2)


def test_wrong_targets_of_an_own_datamodule_are_refused_before_any_work() -> None:
    class Shifted(DigitsDataModule):
        def load(self, train: bool) -> tuple[Tensor, Tensor]:
            stored, classes = super().load(train)
            return stored, classes + 1

    with pytest.raises(ParityError, match="training data of Shifted: targets run from 1 to 10"):
        quiet(base(), Shifted())
    with pytest.raises(ParityError, match=r"predictions have the shape \(5,\), and the data needs \(10,\)"):
        quiet(MLP(SHAPES[0], (5,)), DigitsDataModule())


@pytest.mark.parametrize(
    "data", [(queries(), targets()), "batches", {"a": 1}, TensorDataset(queries(), targets()), [3], [queries()], None]
)
def test_what_is_not_batches_is_refused(data: Any) -> None:
    with pytest.raises(ParityError, match="batch"):
        quiet(base(), data)


@pytest.mark.parametrize("kind", ["base", "coded", "val_data"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool, torch.uint8])
def test_one_hot_targets_are_refused_in_every_split_whatever_their_type(kind: str, dtype: torch.dtype) -> None:
    model, data, val_data = data_of(kind, of_targets=lambda classes: nn.functional.one_hot(classes, 10).to(dtype))
    with pytest.raises(ParityError, match=r"look one-hot, .*hand over targets\.argmax\(1\)"):
        quiet(model, data, val_data=val_data)


def test_one_hot_floats_are_taken_where_a_criterion_is_made_for_them() -> None:
    soft = nn.functional.one_hot(targets(), 10).float()
    quiet(base(), [(queries(), soft)], criterion=nn.CrossEntropyLoss())
    quiet(base(), [(queries(), soft * 0.9 + 0.01)])


def test_classes_as_floats_are_refused_with_the_remedy() -> None:
    for classes in (targets().float(), targets().double().unsqueeze(1)):
        with pytest.raises(
            ParityError, match=r"the network predicts 10: hand over targets\.long\(\) if they are classes"
        ):
            quiet(base(), [(queries(), classes)])


@pytest.mark.parametrize("kind", ["base", "val_data"])
def test_masked_values_are_refused_for_their_mask_would_be_ignored(kind: str) -> None:
    def masked(values: Tensor) -> Any:
        return np.ma.masked_less(values.numpy(), 1)

    for change in (
        dict(of_queries=masked),
        dict(of_targets=masked),
        dict(of_queries=lambda values: list(masked(values))),
    ):
        model, data, val_data = data_of(kind, **change)
        with pytest.raises(ParityError, match=r"some of the (queries|targets) are masked: remove .* or replace"):
            quiet(model, data, val_data=val_data)
    quiet(base(), [(np.ma.array(queries().numpy()), targets())])


def ids_and_classes() -> list[tuple[Tensor, Tensor]]:
    ids = torch.randint(1, 20, (6, 2, 8), generator=torch.Generator().manual_seed(0))
    return [(ids, ids[..., 0] % 3)] * 2


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_of_tokens_from_a_plain_loader_train_a_code_that_takes_them(dtype: torch.dtype) -> None:
    base = TextTransformer((8,), (3,), vocabulary=20, width=8, blocks=1, heads=2)
    cells = PerCell((8,), (2, 3), lambda *_: copy.deepcopy(base))
    model = CodedModel(base, TokenCellsEncoder(2, 1, (8,)), [cells], PositionalDecoder(2, 1, (3,)))
    before = copy.deepcopy(cells.state_dict())
    quiet(model, [(ids.to(dtype), classes) for ids, classes in ids_and_classes()])
    assert not torch.equal(cells.network.head.weight, before["network.head.weight"])


def test_ids_of_tokens_are_refused_by_a_code_that_sums_in_a_sentence_that_names_the_way() -> None:
    base = nn.Sequential(nn.Linear(8, 3))
    model = CodedModel(base, LinearEncoder(2, 1, (8,)), [copy.deepcopy(base)], LinearDecoder(2, 1, (3,)))
    with pytest.raises(ParityError, match="for ids of tokens a code of TokenCellsEncoder or EmbeddedEncoder") as error:
        quiet(model, ids_and_classes())
    assert "\n" not in str(error.value)


def test_max_epochs_is_not_left_to_lightning() -> None:
    with pytest.raises(ParityError, match="max_epochs is the number of epochs"):
        train_model(base(), [(queries(), targets())], None, progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["state_dict", "parameters"])
def test_weights_that_a_network_does_not_hand_out_are_noticed_before_any_work(method: str) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("not now")

    network = base()
    setattr(network, method, broken)
    with pytest.raises(ParityError, match=r"weights of MLP cannot be read \(ValueError: not now"):
        quiet(network, [(queries(), targets())])
