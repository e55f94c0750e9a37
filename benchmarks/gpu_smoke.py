"""Is training right, and fast, on this machine's GPU?

    benchmarks/gpu_smoke.sh             at most 10 minutes on one GPU; also: python benchmarks/gpu_smoke.py

Prints a table, a line for each figure with what it should reach, and keeps it as benchmarks/results/gpu_smoke.json. A
check that raises an error is a line too, and the others are made all the same. Images are random, of CIFAR-10's shape,
but where an accuracy is measured: on Digits, and on CIFAR-10 if it lies under DATA_ROOT.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.profiler
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity

from parity import settings
from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.augmentation import RandomCropAndFlip
from parity.data.cifar import CIFAR10DataModule
from parity.data.datamodule import GroupDataModule, TensorDataModule
from parity.data.digits import DigitsDataModule
from parity.errors import cause
from parity.evaluation.comparison import Candidate, timings
from parity.models import MLP, ResNet
from parity.models.layout import lay_out
from parity.models.weights import fingerprint
from parity.training import Adam, BaseLitModule, Hardware, OneCycle, ParityLitModule, ParityTargetLoss, StepOptions, fit
from parity.training.defaults import accuracy_of
from parity.training.loop.hardware import set_numerics

ROOT = Path(__file__).parents[1]
GPU = Hardware("cuda")
SHAPE, CLASSES = (3, 32, 32), 10
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is computed.

    Args:
        blocks, widths: of residual networks.
        queries: random images to train on.
        groups: in a batch.
        epochs: of runs whose figures are compared.
        digits_steps: of an epoch of Digits; None for all.
        steps: that are timed.
        rounds: of latencies.
        cifar_epochs: of the base model, and of the parity model.
        ddp_on: accelerator of the run with DDP at world size 1.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] | None = None
    queries: int = 12_800
    groups: int = 256
    epochs: int = 5
    digits_steps: int | None = None
    steps: int = 40
    rounds: int = 50
    cifar_epochs: int = 12
    ddp_on: str = "cuda"


TINY = Sizes(
    (1,), (4,), queries=64, groups=8, epochs=2, digits_steps=3, steps=2, rounds=2, cifar_epochs=1, ddp_on="cpu"
)


class RandomImages(TensorDataModule):
    """Random images and classes, as many as ``queries``, and half as many to test on."""

    QUERY_SHAPE, NUM_CLASSES = SHAPE, CLASSES

    def __init__(self, queries: int, k: int = 2, **common: Any) -> None:
        super().__init__(k, num_validation=queries // 4, **common)
        self.queries = queries

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(int(train))
        count = self.queries if train else self.queries // 2
        images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=draw)
        return images, torch.randint(0, CLASSES, (count,), generator=draw)


class Dropping(nn.Module):
    """A residual network behind dropout, so that random numbers of the device count."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.1), resnet(sizes))

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return self.layers(queries)


def resnet(sizes: Sizes) -> ResNet:
    """Return ResNet-18, or a smaller one."""
    return ResNet(SHAPE, (CLASSES,), sizes.blocks, sizes.widths)


def coded(base: nn.Module, parity: nn.Module, query: tuple[int, ...] = SHAPE) -> CodedModel:
    """Return the addition code for two queries."""
    return CodedModel(base, LinearEncoder(2, 1, query), [parity], LinearDecoder(2, 1, (CLASSES,)))


def module_of(model: CodedModel, data: GroupDataModule, optimizer: Any = Adam(), **options: Any) -> ParityLitModule:
    """Return what trains a code on the parity targets."""
    loss = ParityTargetLoss(nn.MSELoss())
    return ParityLitModule(model, loss, accuracy_of(model, data.task), optimizer, **options)


class Each(pl.Callback):
    """Calls functions with the Trainer around bursts of training, and after epochs."""

    def __init__(
        self,
        begin: Callable[[int], None] = lambda burst: None,
        end: Callable[[], None] = lambda: None,
        epoch: Callable[[pl.Trainer], None] = lambda trainer: None,
    ) -> None:
        self.begin, self.end, self.epoch, self.bursts = begin, end, epoch, 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.begin(self.bursts)
        self.bursts += 1

    def on_train_batch_end(self, *_: Any) -> None:
        self.end()

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch:
            self.epoch(trainer)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.epoch(trainer)


def run(
    module: Any,
    data: GroupDataModule,
    epochs: int,
    *,
    hardware: Hardware = GPU,
    folder: Path | None = None,
    callbacks: tuple[pl.Callback, ...] = (),
    resume_from: Path | None = None,
    precision: str = "32-true",
) -> dict[str, float]:
    """Train, and return what was logged last."""
    trainer_args = {"max_epochs": epochs, "precision": precision}
    fit(module, data, folder, trainer_args, hardware=hardware, callbacks=callbacks, resume_from=resume_from)
    return {name: float(value) for name, value in module.trainer.callback_metrics.items()}


def row(what: str, value: float, reach: str, passed: bool, unit: str = "") -> Row:
    """Return a line of the table."""
    return {"what": what, "value": value, "unit": unit, "reach": reach, "passed": passed}


def accuracies(sizes: Sizes) -> Iterator[Row]:
    """Train Digits on the CPU and on the GPU alike."""
    found = []
    for hardware in (Hardware("cpu"), GPU):
        torch.manual_seed(0)
        data = DigitsDataModule(batch_size=32, steps_per_epoch=sizes.digits_steps)
        base = BaseLitModule(
            MLP((1, 8, 8), (10,)), nn.CrossEntropyLoss(), accuracy_of(nn.Identity(), data.task), Adam()
        )
        run(base, data, sizes.epochs, hardware=hardware)
        pairs = DigitsDataModule(k=2, batch_size=32, steps_per_epoch=sizes.digits_steps)
        model = coded(base.model, MLP((1, 8, 8), (10,)), (1, 8, 8))
        found.append(run(module_of(model, pairs), pairs, sizes.epochs, hardware=hardware)["val/overall_top1"])
    difference = abs(found[1] - found[0])
    yield row("A_d of Digits' addition code, less that of the CPU", difference, "at most 0.03", difference <= 0.03)


def waits(sizes: Sizes) -> Iterator[Row]:
    """Let every wait in a step after the first burst raise an error."""

    def begin(burst: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if burst else "default")

    data = RandomImages(sizes.queries, batch_size=sizes.groups, augmentation=RandomCropAndFlip())
    watch = Each(begin, lambda: torch.cuda.set_sync_debug_mode("default"))
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        model = coded(resnet(sizes), resnet(sizes))
        options = StepOptions(gradient_clip_val=1.0, track_grad_norm=True)
        try:
            run(module_of(model, data, options=options), data, 2, callbacks=(watch,), precision=precision)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        yield row(f"waits of a training step, {precision}, clipped", 0, "0", True)


def stepping(sizes: Sizes, fused: bool, **compiled: Any) -> Callable[[], None]:
    """Return a training step on one batch, without anything around it."""
    device = torch.device("cuda", 0)
    model = coded(resnet(sizes), resnet(sizes)).to(device)
    lay_out(model, device)
    model.base_model.requires_grad_(False)
    optimizer = Adam(fused=fused)(model.parity_models.parameters())
    loss = ParityTargetLoss(nn.MSELoss())
    queries = torch.rand(sizes.groups, 2, *SHAPE, device=device)
    predictions = torch.rand(sizes.groups, 2, CLASSES, device=device)

    def terms() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            outputs = model.parity_outputs(model.encoder.dispatch(queries)[1]).float()
        return loss(model.decoder, predictions, outputs, predictions)

    if compiled:
        torch.compiler.reset()
        terms = torch.compile(terms, dynamic=False, **compiled)

    def step() -> None:
        terms().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def launches(sizes: Sizes) -> Iterator[Row]:
    """Count kernels of a step, and how long the GPU is busy with them."""
    kinds: dict[str, tuple[bool, dict[str, Any]]] = {
        "eager": (False, {}),
        "fused": (True, {}),
        "compiled": (True, {"mode": "default"}),
        "CUDA graph": (True, {"mode": "reduce-overhead"}),
    }
    for name, (fused, compiled) in kinds.items():
        step = stepping(sizes, fused, **compiled)
        for _ in range(5):
            step()
        seconds = timed(step, sizes.steps)
        with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            for _ in range(sizes.steps):
                step()
            torch.cuda.synchronize()
        kernels = [
            event.time_range.elapsed_us()
            for event in profiled.events() or ()
            if event.device_type.name == "CUDA" and not event.is_user_annotation
        ]
        busy = sum(kernels) * 1e-6 / sizes.steps / seconds
        yield row(f"{name}: launches of a step", len(kernels) / sizes.steps, "", True)
        yield row(f"{name}: milliseconds of a step", seconds * 1e3, "", True, "ms")
        yield row(f"{name}: share of the time that the GPU is busy", min(busy, 1.0), "", True)


def timed(step: Callable[[], object], steps: int) -> float:
    """Return the seconds of a step, the device's work included."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps


def resumed(sizes: Sizes) -> Iterator[Row]:
    """Compare a run that was stopped after an epoch with one that was not, bit for bit."""
    ends = []
    for parts in ((2,), (1, 2)):
        with tempfile.TemporaryDirectory() as folder:
            last = None
            for until in parts:
                torch.manual_seed(0)
                data = RandomImages(sizes.queries, batch_size=sizes.groups, augmentation=RandomCropAndFlip())
                module = module_of(coded(resnet(sizes), Dropping(sizes)), data)
                run(module, data, until, folder=Path(folder), resume_from=last)
                last = Path(folder, "checkpoints", "last.ckpt")
            ends.append(fingerprint(module.model))
    same = ends[0] == ends[1]
    yield row("a stopped and resumed run ends as another, bit for bit", same, "1", same)


def norms(sizes: Sizes) -> Iterator[Row]:
    """Measure gradients in three precisions."""
    found: dict[str, float] = {}
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        torch.manual_seed(0)
        data = RandomImages(sizes.queries, batch_size=sizes.groups)
        module = module_of(coded(resnet(sizes), resnet(sizes)), data, options=StepOptions(track_grad_norm=True))
        found[precision] = run(module, data, 1, precision=precision)["train/grad_norm"]
        ratio = found[precision] / found["32-true"]
        yield row(f"norm of gradients, {precision}, of that in 32-true", ratio, "0.5 to 2", 0.5 < ratio < 2)


def recompiles(sizes: Sizes) -> Iterator[Row]:
    """Compile runs of two networks, also to CUDA graphs, and count graphs that are made after the first epoch."""
    later, broken, losses = 0, 0, {}
    for network, mode in ((resnet, "default"), (Dropping, "default"), (resnet, "reduce-overhead")):
        counters.clear()
        torch.manual_seed(0)
        data = RandomImages(sizes.queries, batch_size=sizes.groups)
        module = module_of(coded(resnet(sizes), network(sizes)), data)
        module.compile_batches(mode)
        graphs: list[int] = []
        watch = Each(epoch=lambda trainer, graphs=graphs: graphs.append(counters["stats"]["unique_graphs"]))  # type: ignore[misc]
        losses[network, mode] = run(module, data, 3, callbacks=(watch,), precision="bf16-mixed")["train/loss"]
        later += graphs[-1] - graphs[0]
        broken += sum(counters["graph_break"].values())
    yield row("graphs compiled after the first epoch", later, "0", later == 0)
    yield row("graph breaks", broken, "0", broken == 0)
    ratio = losses[resnet, "reduce-overhead"] / losses[resnet, "default"]
    yield row("loss with replayed CUDA graphs, of that without", ratio, "0.9 to 1.1", 0.9 < ratio < 1.1)


def latency(sizes: Sizes) -> Iterator[Row]:
    """Time encoding and decoding of one group."""
    data = RandomImages(sizes.queries, batch_size=256)
    data.device = torch.device("cuda", 0)
    model = coded(resnet(sizes), resnet(sizes)).to(data.device).eval()
    found = timings([Candidate("add", "", True, model)], lambda k: data.loader("test"), sizes.rounds)
    one = next(each for each in found if each["G"] == 1)
    for name in ("encode_ms", "decode_ms", "forward_ms"):
        yield row(f"G = 1: {name.removesuffix('_ms')}", one[name], "", True, "ms")


def ddp(sizes: Sizes) -> Iterator[Row]:
    """Train with DDP at world size 1, by NCCL on a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(ROOT / "train.py"), "--dataset", "Digits", "--experiment_name", "mlp_base",
            "--distributed", "--accelerator", sizes.ddp_on, "--set", "trainer.max_epochs=1", "--base_directory", folder,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    yield row(f"exit status of a run with DDP, world size 1, {sizes.ddp_on}", done.returncode, "0", not done.returncode)


def memory(sizes: Sizes) -> Iterator[Row]:
    """Compare the memory that is held after epochs."""
    held: list[int] = []
    data = RandomImages(sizes.queries, batch_size=sizes.groups)
    watch = Each(epoch=lambda trainer: held.append(torch.cuda.memory_allocated()))
    run(module_of(coded(resnet(sizes), resnet(sizes)), data), data, 4, callbacks=(watch,))
    grown = (held[-1] - held[1]) / 2**20
    yield row("memory that is held more after epoch 4 than after epoch 2", grown, "at most 1", grown <= 1, "MiB")


def throughput(sizes: Sizes) -> Iterator[Row]:
    """Compare an epoch of ours, of ResNet-18, k = 2, compiled, bf16, with a bare loop of the same maths."""
    data = RandomImages(sizes.queries, batch_size=sizes.groups)
    seconds: list[float] = []
    begun = 0.0

    class Clock(pl.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            nonlocal begun
            torch.cuda.synchronize()
            begun = time.perf_counter()

        def on_validation_start(self, *_: Any) -> None:
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)

    module = module_of(coded(resnet(sizes), resnet(sizes)), data)
    module.compile_batches()
    fast = Hardware("cuda", fast=True)
    run(module, data, max(2, sizes.epochs), hardware=fast, callbacks=(Clock(),), precision="bf16-mixed")
    images = 2 * len(data.rows("train")) // 2
    ours = images / min(seconds[1:])
    bare = images / bare_epoch(sizes, data)
    set_numerics(fast=False)
    yield row("ours: images a second", ours, "", True)
    yield row("bare loop: images a second", bare, "", True)
    yield row("images a second, ours of the bare loop's", ours / bare, "0.9", ours / bare >= 0.9)


def bare_epoch(sizes: Sizes, data: RandomImages) -> float:
    """Return the seconds of an epoch of the loop that one would write by hand."""
    device = torch.device("cuda", 0)
    network = resnet(sizes).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images = data.load(train=True)[0][data.rows("train")].to(device)
    predictions = torch.rand(len(images), CLASSES, device=device)
    torch.compiler.reset()

    @partial(torch.compile, dynamic=False)
    def terms(groups: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            outputs = network((images[groups].float() / 255).sum(1))
        return nn.functional.mse_loss(outputs.float(), predictions[groups].sum(1))

    def epoch() -> None:
        order = torch.randperm(len(images), device=device)
        for groups in order.view(-1, 2).split(sizes.groups):
            terms(groups).backward()
            optimizer.step()
            optimizer.zero_grad()

    epoch()
    return min(timed(epoch, 1) for _ in range(max(1, sizes.epochs - 1)))


def minutes(sizes: Sizes) -> Iterator[Row]:
    """Train CIFAR-10's base model and its code, as far as a few minutes allow."""
    tiny = sizes is TINY
    if not tiny and not (settings.DATA_ROOT / "cifar-10-batches-py").exists():
        yield row("CIFAR-10 is not under DATA_ROOT: minutes to A_d are not measured", 0, "", True)
        return

    def made(k: int) -> GroupDataModule:
        if tiny:
            return RandomImages(sizes.queries, k, batch_size=sizes.groups)
        return CIFAR10DataModule(k, batch_size=sizes.groups)

    begun, fast = time.perf_counter(), Hardware("cuda", fast=True)
    base = BaseLitModule(
        resnet(sizes), nn.CrossEntropyLoss(), accuracy_of(nn.Identity(), made(1).task), Adam(3e-3), OneCycle()
    )
    base.compile_batches()
    a_a = run(base, made(1), sizes.cifar_epochs, hardware=fast, precision="bf16-mixed")["val/top1"]
    module = module_of(coded(base.model, resnet(sizes)), made(2), Adam(3e-3), schedule=OneCycle())
    module.compile_batches()
    a_d = run(module, made(2), sizes.cifar_epochs, hardware=fast, precision="bf16-mixed")["val/overall_top1"]
    yield row("CIFAR-10, ResNet-18: A_a", a_a, "", True)
    yield row("CIFAR-10, ResNet-18, k = 2, addition: A_d", a_d, "", True)
    yield row("CIFAR-10: minutes to that A_d", (time.perf_counter() - begun) / 60, "", True, "min")


CHECKS = (accuracies, waits, launches, resumed, norms, recompiles, latency, ddp, memory, throughput, minutes)


def measured(sizes: Sizes) -> list[Row]:
    """Make all checks; one that raises an error is a line that has not passed."""
    found: list[Row] = []
    for check in CHECKS:
        begun = time.perf_counter()
        try:
            found += check(sizes)
        except Exception as error:  # whatever a GPU comes up with
            found.append({**row(f"{check.__name__} raised an error", 0, "", False), "error": cause(error)})
        finally:
            set_numerics(fast=False)
            torch.compiler.reset()
        print(f"{check.__name__}: {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def table(found: list[Row]) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| what | value | should be | |", "| --- | --- | --- | --- |"]
    for each in found:
        value = each.get("error") or f"{each['value']:.4g} {each['unit']}".rstrip()
        lines.append(f"| {each['what']} | {value} | {each['reach']} | {'ok' if each['passed'] else 'FAILED'} |")
    return "\n".join(lines)


def main(sizes: Sizes) -> int:
    """Measure, print and keep; return the exit status."""
    import store

    found = measured(sizes)
    print(table(found))
    store.write("gpu_smoke", f"Training on {torch.cuda.get_device_name()}", found)
    return 0 if all(each["passed"] for each in found) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: there is no GPU here; tests/benchmarks/test_gpu_smoke.py runs this on an emulated one.")
    sys.exit(main(Sizes()))
