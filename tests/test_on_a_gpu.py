"""Everything runs on a GPU that is emulated: no tensors of two devices meet, and no step waits for the device."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from parity import coders
from parity.coded_model import CodedModel
from parity.coders import Decoder, Encoder
from parity.coders.precision import exact
from parity.data import GroupDataModule
from parity.data.augmentation import RandomAffine, RandomCropAndFlip
from parity.data.datamodule import TensorDataModule
from parity.data.loaders import WorkerLoader
from parity.data.queries import groups_of
from parity.evaluation import accuracies, choose_smoothing, evaluate_base, evaluate_code
from parity.evaluation.comparison import Calibration, Confusions
from parity.evaluation.evaluate import evaluate
from parity.models import MLP, PackedStudents, PerCell, ResNet, RevMUX, TextTransformer, split_after
from parity.models.revmux import bottleneck
from parity.models.weights import fingerprint
from parity.tasks import BoxLocalisation, Classification, DensePrediction, Embeddings, MultiLabel, Regression, Task
from parity.training import (
    EMA,
    SGD,
    Adam,
    AdamW,
    AdaptiveClipping,
    BaseLitModule,
    CrossEntropy,
    Hardware,
    KLDivergence,
    LabelReconstructionLoss,
    OneCycle,
    ParityLitModule,
    ParityTargetLoss,
    ReconstructionLoss,
    SquaredError,
    StepOptions,
    WeightedSum,
    evaluate_on_test,
    fit,
    parities_alone,
    train_model,
)
from parity.training.defaults import accuracy_of, default_criterion
from parity.training.loop.base_predictions import Computed, LookedUp
from parity.training.loop.epoch_record import EpochRecord
from parity.training.objectives.policies import Exponential
from tests.emulated_device import DEVICE, EmulatedDevice, MixedDevices, emulated

SHAPE, CLASSES = (1, 8, 8), 3
NONE = {"train": Counter[str](), "val": Counter[str]()}
GPU = Hardware("cuda")


@pytest.fixture
def gpu() -> Iterator[EmulatedDevice]:
    with emulated() as device:
        yield device


class Images(TensorDataModule):
    """Random images in memory."""

    QUERY_SHAPE, NUM_CLASSES, NUM_VALIDATION = SHAPE, CLASSES, 12

    test_queries = 36

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(int(train))
        count = 48 if train else self.test_queries
        queries = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=draw)
        return queries, self.labels(count, draw)

    def labels(self, count: int, draw: torch.Generator) -> Tensor:
        return torch.randint(0, CLASSES, (count,), generator=draw)


class Boxes(Images):
    """The same with boxes to predict."""

    @property
    def task(self) -> Task:
        return BoxLocalisation()

    def labels(self, count: int, draw: torch.Generator) -> Tensor:
        return torch.rand(count, 4, generator=draw)


def read(of: Images, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
    return of.load(True)[0][place]


class Files(Images):
    """The same, read by processes."""

    def loader(self, split: str) -> Any:
        targets = self.targets(split).to(self.target_device())
        return WorkerLoader(partial(read, self), targets, self.sampler(split), self.scaling(), split, False, 0)


class Code(NamedTuple):
    """A code and how it is trained."""

    encoder: Callable[..., Encoder]
    decoder: Callable[..., Decoder]
    k: int = 2
    r: int = 1
    network: Callable[..., nn.Module] = partial(MLP, hidden=(8,))
    loss: nn.Module = ParityTargetLoss(nn.MSELoss())
    trained: bool = True


small = partial(MLP, hidden=(8,))
tiny_resnet = partial(ResNet, blocks=(1,), widths=(4,))
rebuilding = ReconstructionLoss(KLDivergence())
CODES = {
    "add": Code(coders.LinearEncoder, coders.LinearDecoder, 3),
    "linear_r2": Code(
        coders.LinearEncoder, coders.LinearDecoder, 3, 2,
        loss=WeightedSum((1.0, rebuilding), (0.5, ParityTargetLoss(nn.MSELoss()))),
    ),
    "concat": Code(coders.ConcatenationEncoder, coders.LinearDecoder, network=tiny_resnet),
    "flattened": Code(coders.FlattenedChannelSumEncoder, coders.LinearDecoder),
    "cells": Code(
        coders.GridEncoder, coders.PositionalDecoder, 3, 2, partial(PerCell, cell_network=small),
        ReconstructionLoss(CrossEntropy(), parities_alone),
    ),
    "learned_cells": Code(
        coders.LearnedGridEncoder, coders.CombiningDecoder, 4, 1, small, LabelReconstructionLoss(CrossEntropy())
    ),
    "packed": Code(
        coders.PackedEncoder, coders.PositionalDecoder, 3, 1, partial(PackedStudents, student=small), rebuilding
    ),
    "revmux": Code(
        coders.LearnedGridEncoder, coders.PositionalDecoder,
        network=partial(RevMUX, frozen=small, features=6, adapter=bottleneck, width=4, feature_width=3),
        loss=rebuilding,
    ),
    "hadamard": Code(coders.HadamardSumEncoder, coders.PositionalDecoder, loss=rebuilding),
    "stack": Code(coders.StackingEncoder, coders.PositionalDecoder, loss=rebuilding),
    "keyed": Code(coders.KeyedSumEncoder, coders.PositionalDecoder, 2, 2, loss=ReconstructionLoss(SquaredError())),
    "learned": Code(coders.MLPEncoder, coders.MLPDecoder, loss=rebuilding),
    "convolutional": Code(coders.ConvolutionalEncoder, coders.MLPDecoder, 2, 2, loss=rebuilding),
    "backup": Code(coders.BackupEncoder, coders.BackupDecoder, 2, 2),
    "replication": Code(coders.ReplicationEncoder, coders.ReplicationDecoder, 2, 2, trained=False),
    "berrut": Code(coders.BerrutEncoder, coders.BerrutDecoder, 3, 2, trained=False),
    "nercc": Code(coders.NeRCCEncoder, coders.NeRCCDecoder, 3, 2, trained=False),
}  # fmt: skip


def made(code: Code, task: Task = Classification(CLASSES), seed: int = 0) -> CodedModel:
    torch.manual_seed(seed)
    shape = task.prediction_shape
    encoder, decoder = code.encoder(code.k, code.r, SHAPE), code.decoder(code.k, code.r, shape)
    asked = encoder.parity_query_shape
    networks = [code.network(asked, decoder.parity_shape(shape)) for _ in range(encoder.parity_workers)]
    return CodedModel(small(SHAPE, shape), encoder, networks, decoder)


class Watch(pl.Callback):
    """Notes the waits of bursts of training and of validation, each on its own."""

    def __init__(self, device: EmulatedDevice) -> None:
        self.device = device
        self.waits: dict[str, Counter[str]] = {"train": Counter(), "val": Counter()}

    def _begin(self, *_: Any) -> None:
        self.before = self.device.waits.copy()

    def on_train_batch_start(self, *_: Any) -> None:
        self._begin()

    def on_train_batch_end(self, *_: Any) -> None:
        self.waits["train"] += self.device.waits - self.before

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        self._begin()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self.waits["val"] += self.device.waits - self.before


def trained(
    module: Any, data: GroupDataModule, folder: Path | None, epochs: int = 1, watch: Watch | None = None, **options: Any
) -> Any:
    resume = options.pop("resume_from", None)
    hardware = options.pop("hardware", GPU)
    fit(
        module, data, folder, {"max_epochs": epochs, **options}, hardware=hardware,
        callbacks=[watch] if watch else [], resume_from=resume,
    )  # fmt: skip
    return module


def parity_module(model: CodedModel, loss: Any, data: GroupDataModule, optimizer: Any = Adam(), **options: Any) -> Any:
    return ParityLitModule(model, loss, accuracy_of(model, data.task), optimizer, **options)


def test_every_code_is_here() -> None:
    named = {
        coder for name in coders.__all__ if inspect.isclass(coder := getattr(coders, name))
        and issubclass(coder, Encoder | Decoder) and not coder.__name__.startswith(("Interpolating", "Systematic"))
    } - {Encoder, Decoder}  # fmt: skip
    ids = {coders.TokenCellsEncoder, coders.EmbeddedEncoder}  # tried further down
    assert named - ids == {coder for code in CODES.values() for coder in (code.encoder, code.decoder)}


@pytest.mark.parametrize("name", [name for name, code in CODES.items() if code.trained])
def test_a_code_trains_and_resumes_without_a_wait_in_a_step(name: str, tmp_path: Path) -> None:
    code, data = CODES[name], Images(CODES[name].k, batch_size=4)
    whole = trained(parity_module(made(code), code.loss, data), data, None, 2, hardware=Hardware("cpu"))
    with emulated() as gpu:
        watch = Watch(gpu)
        trained(parity_module(made(code), code.loss, data), data, tmp_path, 1, watch)
        module = parity_module(made(code), code.loss, data)
        trained(module, data, None, 2, watch, resume_from=tmp_path / "checkpoints" / "last.ckpt")
        assert watch.waits == NONE
        torch.testing.assert_close(module.model.state_dict(), whole.model.state_dict(), rtol=1e-3, atol=1e-5)


Evaluated = Callable[[Images], Any]


def waits_of_evaluation(gpu: EmulatedDevice, evaluated: Evaluated, k: int) -> None:
    """Evaluate on little and on more data; no wait may come with every batch."""
    found = []
    for count in (24, 72):
        data = Images(k, batch_size=2)
        data.test_queries, data.num_validation, data.device = count, 12 if count == 24 else 36, DEVICE
        with gpu.counted() as waits:
            evaluated(data)
        found.append(waits)
    assert found[1] - found[0] == Counter()


@pytest.mark.parametrize("name", CODES)
def test_an_evaluation_does_not_wait_for_every_batch(
    gpu: EmulatedDevice, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracies, "_GROUPS_AT_ONCE", 4)
    model = made(CODES[name]).to(DEVICE)

    def evaluated(data: Images) -> None:
        default, loader = data.default_prediction(), data.loader("test")
        observers = [Confusions(CLASSES, DEVICE), Calibration(DEVICE)]
        evaluate_code(model, loader, data.task, default, observers=observers, unavailable=(0.1,))
        evaluate_base(model.base_model, loader, data.task)

    waits_of_evaluation(gpu, evaluated, model.k)


def test_the_choice_of_a_smoothing_does_not_wait_for_every_batch(gpu: EmulatedDevice) -> None:
    network = small(SHAPE, (CLASSES,)).to(DEVICE)
    waits_of_evaluation(gpu, lambda data: choose_smoothing(network, data.loader("val"), data.task), 3)


def test_codes_are_compared(gpu: EmulatedDevice) -> None:
    model, data = made(CODES["add"]).to(DEVICE), Images(3, batch_size=4)
    found = evaluate(model, data, baselines=True, backup=small(SHAPE, (CLASSES,)), timed=False)
    assert len(found.results["codes"]) == 7


TARGETS = {
    "classes": (None, torch.arange(48) % CLASSES),
    "labels": (MultiLabel(CLASSES), torch.arange(48 * CLASSES).view(48, CLASSES) % 2),
    "numbers": (Regression((2,)), torch.linspace(0, 1, 96).view(48, 2)),
    "pixels": (DensePrediction(CLASSES, (2, 2)), torch.arange(48 * 4).view(48, 2, 2) % CLASSES),
    "embeddings": (Embeddings(4), torch.linspace(-1, 1, 192).view(48, 4)),
}
"""By name: a task (None: found out) and its targets for 48 queries."""


def arrays(targets: str) -> GroupDataModule:
    task, wanted = TARGETS[targets]
    queries = torch.rand(48, *SHAPE)
    return groups_of(
        (queries, wanted), 2, test_data=(queries, wanted), task=task, batch_size=4, num_validation=12
    )  # fmt: skip


DATA: dict[str, Callable[[], GroupDataModule]] = {
    "boxes": lambda: Boxes(2, batch_size=4),
    "files": lambda: Files(2, batch_size=4),
    "affine": lambda: Images(2, batch_size=4, augmentation=RandomAffine()),
    "crops": lambda: Images(2, batch_size=4, augmentation=RandomCropAndFlip(2)),
    **{name: partial(arrays, name) for name in TARGETS},
}


@pytest.mark.parametrize("name", DATA)
def test_every_kind_of_data_and_task_is_trained_on(gpu: EmulatedDevice, name: str) -> None:
    data, watch = DATA[name](), Watch(gpu)
    model = made(CODES["add"]._replace(k=2), data.task)
    trained(parity_module(model, default_criterion(model, data.task), data), data, None, 1, watch)
    network = small(SHAPE, data.task.prediction_shape)
    base = BaseLitModule(network, default_criterion(network, data.task), accuracy_of(network, data.task), Adam())
    trained(base, data, None, 1, watch)
    moved = 2 if name == "embeddings" else 0  # the gallery, once for each model and split
    assert [waits.total() for waits in watch.waits.values()] == [moved, moved], watch.waits
    assert evaluate_on_test(base, data, GPU)


@pytest.mark.parametrize("name", ["boxes", *TARGETS])
def test_every_task_is_compared(gpu: EmulatedDevice, name: str) -> None:
    data = DATA[name]()
    model = made(CODES["add"]._replace(k=2), data.task).to(DEVICE)
    frame = evaluate(model, data, baselines=True, timed=False, accelerator="cuda").frame
    assert len(frame) > 1
    assert frame[["A_a", "loss_1"]].iloc[0].notna().all()


LENGTH, VOCABULARY = 8, 20


def of_ids(shortening: Callable[[int], nn.Module] | None) -> CodedModel:
    """Make a code over sequences of ids; without a shortening over their embeddings."""
    base = TextTransformer((LENGTH,), (CLASSES,), VOCABULARY, width=8, blocks=1, heads=2).eval()
    decoder = coders.PositionalDecoder(2, 1, (CLASSES,))
    if shortening is not None:
        network = PerCell((LENGTH,), (2, CLASSES), lambda *_: deepcopy(base))
        return CodedModel(base, coders.TokenCellsEncoder(2, 1, (LENGTH,), shortening), [network], decoder)
    first, second = split_after(base, "embedding", torch.ones(1, LENGTH, dtype=torch.long))
    encoder = coders.EmbeddedEncoder(2, 1, (LENGTH,), first, (LENGTH, 8), partial(coders.GridEncoder, axes=(0,)))
    cells = PerCell((LENGTH, 8), (2, CLASSES), lambda *_: deepcopy(second), axes=(0,))
    return CodedModel(base, encoder, [cells], decoder)


@pytest.mark.parametrize(
    "shortening",
    [coders.Strided, partial(coders.Important, vocabulary=VOCABULARY), None],
    ids=["strided", "learned", "embedded"],
)
def test_codes_of_ids_train_and_are_evaluated(gpu: EmulatedDevice, shortening: Any) -> None:
    torch.manual_seed(0)
    pairs = torch.randint(1, VOCABULARY, (48, LENGTH)), torch.arange(48) % CLASSES
    data = groups_of(pairs, 2, test_data=pairs, batch_size=4, num_validation=12)
    model, watch = of_ids(shortening), Watch(gpu)
    trained(parity_module(model, rebuilding, data), data, None, 1, watch)
    assert watch.waits == NONE
    assert evaluate(model.to(DEVICE), data, timed=False, accelerator="cuda").frame["loss_1"].notna().all()


def test_batches_of_an_iterable_are_trained_on(gpu: EmulatedDevice, tmp_path: Path) -> None:
    pairs = torch.utils.data.TensorDataset(torch.rand(32, *SHAPE), torch.arange(32) % CLASSES)
    batches = torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=True)
    watch = Watch(gpu)
    options = dict(checkpoints_path=tmp_path, progress=False, callbacks=[watch], accelerator="cuda", lr=1e-2)
    train_model(
        small(SHAPE, (CLASSES,)), batches, 2, val_data=[(torch.rand(4, *SHAPE), torch.zeros(4).long())], **options
    )
    assert watch.waits == NONE


STEPS = {
    "clipped": dict(options=StepOptions(gradient_clip_val=0.1, track_grad_norm=True)),
    "accumulated": dict(options=StepOptions(accumulate_grad_batches=2), schedule=OneCycle(), averaging=EMA(0.9)),
    "adaptive": dict(optimizer=AdaptiveClipping(SGD(momentum=0.9))),
    "policy": dict(optimizer=AdamW(), policies=dict(lr=Exponential(1e-3, 0.5))),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits_in_any_precision(gpu: EmulatedDevice, name: str, precision: str) -> None:
    data, watch = Images(3, batch_size=4), Watch(gpu)
    model, code = made(CODES["add"]._replace(network=small)), CODES["add"]
    trained(parity_module(model, code.loss, data, **STEPS[name]), data, None, 1, watch, precision=precision)
    assert watch.waits == NONE


class Dropping(nn.Module):
    """Draws random numbers on the device in every step."""

    def __init__(self, query: Any, prediction: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.5), small(query, prediction))

    def forward(self, queries: Tensor) -> Tensor:
        return self.layers(queries)


def test_the_devices_random_numbers_are_resumed(gpu: EmulatedDevice, tmp_path: Path) -> None:
    code, data = CODES["add"]._replace(network=Dropping), Images(3, batch_size=4, augmentation=RandomCropAndFlip(2))
    ends = []
    for folder, epochs in (("whole", (2,)), ("parts", (1, 2))):
        torch.manual_seed(0)
        last = None
        for until in epochs:
            module = parity_module(made(code), code.loss, data)
            trained(module, data, tmp_path / folder, until, resume_from=last)
            last = tmp_path / folder / "checkpoints" / "last.ckpt"
            torch.manual_seed(7)
        ends.append(fingerprint(module.model))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "line",
    [
        lambda values: float(values.sum()),
        lambda values: values.cpu(),
        lambda values: values[values > 0],
        lambda values: values.nonzero(),
        lambda values: values.tolist(),
        lambda values: bool(values.any()),
        lambda values: values.to(torch.tensor([1.0])),
        lambda values: torch.ones(3).to(DEVICE),
        lambda values: torch.equal(values, values),
        lambda values: values.long().bincount(),
    ],
)
def test_a_wait_is_counted_and_named(gpu: EmulatedDevice, line: Callable[[Tensor], Any]) -> None:
    values = torch.arange(3.0, device=DEVICE)
    with gpu.counted() as waits:
        line(values)
    assert len(waits) >= 1
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="synchronizing"):
        line(values)


@pytest.mark.parametrize("line", [
    lambda values: values + 1, lambda values: values.argmax(), lambda values: values[0],
    lambda values: torch.ones(3).to(DEVICE, non_blocking=True), lambda values: torch.zeros(3, device=DEVICE),
])  # fmt: skip
def test_what_does_not_wait_is_not_counted(gpu: EmulatedDevice, line: Callable[[Tensor], Any]) -> None:
    values = torch.arange(3.0, device=DEVICE)
    with gpu.counted() as waits:
        assert line(values).device == DEVICE
    assert not waits


def test_tensors_of_two_devices_do_not_meet(gpu: EmulatedDevice) -> None:
    with pytest.raises(MixedDevices):
        torch.ones(3, device=DEVICE) + torch.ones(3)


def _read(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    for value in terms.values():
        float(value)
    return terms


def test_a_wait_in_a_step_fails_and_names_its_line(gpu: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    add = EpochRecord.add
    monkeypatch.setattr(EpochRecord, "add", lambda record, terms, groups: add(record, _read(terms), groups))
    data, watch = Images(3, batch_size=4), Watch(gpu)
    trained(parity_module(made(CODES["add"]), CODES["add"].loss, data), data, None, 1, watch)
    assert set(watch.waits["train"]) == {
        f"tests/test_on_a_gpu.py:{_read.__code__.co_firstlineno + 2} _read: _local_scalar_dense"
    }


def test_adaptive_clipping_launches_little_for_each_parameter(gpu: EmulatedDevice) -> None:
    network = ResNet(SHAPE, (CLASSES,), blocks=(1, 1), widths=(4, 8)).to(DEVICE)
    optimizer = AdaptiveClipping(SGD(fused=True))(network.parameters())
    network(torch.rand(2, *SHAPE, device=DEVICE)).sum().backward()
    optimizer.step()
    before = gpu.launches
    optimizer.step()
    assert gpu.launches - before < 2.5 * len(list(network.parameters())) + 10


def test_momentum_begins_at_nothing_where_the_first_scaled_gradients_overflow(gpu: EmulatedDevice) -> None:
    class Overflow(pl.Callback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            if not module.step_losses[1:]:
                next(module.trainable_parameters()).grad.fill_(torch.inf)

    empty_like, data, code = torch.empty_like, Images(3, batch_size=4), CODES["add"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty_like", lambda *a, **o: empty_like(*a, **o).fill_(1e6))  # as memory may be
        module = parity_module(made(code), code.loss, data, SGD(0.01))
        fit(module, data, None, {"max_epochs": 1, "precision": "16-mixed"}, hardware=GPU, callbacks=[Overflow()])
    assert all(parameter.abs().max() < 10 for parameter in module.trainable_parameters())


def test_a_norm_that_overflowed_is_left_out(gpu: EmulatedDevice) -> None:
    class Overflow(pl.Callback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            if not module.step_losses[1:]:
                next(module.trainable_parameters()).grad.fill_(torch.inf)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            self.norm = float(trainer.callback_metrics["train/grad_norm"])

    data, code, listener = Images(3, batch_size=4), CODES["add"], Overflow()
    options = StepOptions(track_grad_norm=True)
    module = parity_module(made(code), code.loss, data, options=options)
    fit(module, data, None, {"max_epochs": 1, "precision": "16-mixed"}, hardware=GPU, callbacks=[listener])
    assert 0 < listener.norm < 1e3


def convolutions(network: nn.Module) -> list[Tensor]:
    return [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]


def test_channels_of_every_convolution_lie_last_on_a_gpu(gpu: EmulatedDevice) -> None:
    code, data = CODES["convolutional"], Images(2, batch_size=4)
    for hardware, last in ((GPU, True), (Hardware("cpu"), False)):
        module = trained(parity_module(made(code), code.loss, data), data, None, hardware=hardware)
        assert all(
            each.is_contiguous(memory_format=torch.channels_last) for each in convolutions(module.model.encoder)[1:-1]
        ) == last  # fmt: skip


def test_the_table_of_base_predictions_has_a_row_for_each_query_of_its_split(gpu: EmulatedDevice) -> None:
    data, model = Images(3, batch_size=4), made(CODES["add"]).to(DEVICE)
    data.device = DEVICE
    for split, rows in (("train", 36), ("val", 12)):
        loader = data.loader(split)
        looked_up = LookedUp(model, loader)
        assert looked_up.table.shape == (rows, CLASSES)
        batch = next(iter(loader))
        torch.testing.assert_close(looked_up(batch).cpu(), model.base_outputs(batch.queries).cpu())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_base_model_predicts_in_full_precision_whether_looked_up_or_not(
    gpu: EmulatedDevice, precision: str
) -> None:
    data, model = Images(3, batch_size=4), made(CODES["add"]).to(DEVICE)
    data.device = DEVICE
    batch = next(iter(data.loader("train")))
    with torch.autocast("cuda", torch.bfloat16, enabled=precision != "32-true"):
        computed, looked_up = Computed(model)(batch), LookedUp(model, data.loader("train"))(batch)
    assert computed.dtype == looked_up.dtype == torch.float32
    torch.testing.assert_close(computed.cpu(), looked_up.cpu())


@pytest.mark.parametrize("name", ["add", "concat", "cells", "keyed", "berrut", "learned"])
def test_codes_are_exact_under_autocast(gpu: EmulatedDevice, name: str) -> None:
    model = made(CODES[name]).to(DEVICE)
    queries = torch.rand(4, model.k, *SHAPE, device=DEVICE)
    plain = model.encoder.dispatch(queries)
    with torch.autocast("cuda", torch.bfloat16):
        mixed = model.encoder.dispatch(queries)
    for one, other in zip(plain, mixed, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one.cpu(), other.cpu())


def test_the_loss_of_a_learned_decoder_is_exact_under_autocast(gpu: EmulatedDevice) -> None:
    code, data = CODES["learned"], Images(2, batch_size=4)
    seen = []
    model = made(code)
    model.decoder.network.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    trained(parity_module(model, code.loss, data), data, None, 1, precision="bf16-mixed")
    assert set(seen) == {torch.float32}


def test_products_of_codes_are_without_tf32_where_it_is_allowed(gpu: EmulatedDevice) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with exact(torch.ones(1, device=DEVICE)):
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
